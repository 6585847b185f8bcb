"""What `curate train` makes of the tiny CLIP: accuracy on all CIFAR-10 test images, under PGD-20.

Trains a row of the table where its folder is missing, and measures it on the test images, clean and
under PGD-20 with step 1/255 and uniform start, at 4/255 and 8/255. Nothing is chosen by what is
measured here.

    python benchmarks/train_cifar10.py --data cifar10 --folder trained \
        --out benchmarks/results/train-cifar10.json --rows undefended,tecoa
"""

import argparse
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from record import write_result

from curate.files import read_json
from curate.stats import wilson
from eval.attacks.threat import Threat
from eval.models.classifier import class_texts, load_clip_model
from pipelines.train import TrainRequest, run_train
from pipelines.watch import Watch
from train.loader import LoadSettings, load
from train.measure import accuracy, gather
from train.order import in_turn
from train.processes import Processes
from train.recipe import read_recipe
from train.sources import open_trainset
from train.trained import load_adapted

MODEL = "builtin:tiny-clip"
TEMPLATE = "a photo of a {}"
THREATS = {"4/255": Threat(4, 1, 20, "uniform"), "8/255": Threat(8, 1, 20, "uniform")}
_FRAME = {"adapter": {"kind": "pixel-prompt", "width": 4}}
_FAST_FRAME = {**_FRAME, "optimizer.rate": 0.03}
ROWS: dict[str, dict[str, Any]] = {
    "tecoa": {},
    "ce": {"loss": "ce"},
    "fare": {"loss": "fare"},
    "tecoa pixel-prompt": _FRAME,
    "ce pixel-prompt": {"loss": "ce", **_FRAME},
    "tecoa pixel-prompt 0.03": _FAST_FRAME,
    "ce pixel-prompt 0.03": {"loss": "ce", **_FAST_FRAME},
}
"""Changes of the recipe `tiny` by row."""


def main() -> None:
    """Train what is missing, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default=",".join(["undefended", *ROWS]))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"rows": {}}
    for row in arguments.rows.split(","):
        seconds = 0.0 if row == "undefended" else train(row, arguments)
        found["rows"][row] = {"seconds": seconds, **measure(row, arguments)}
        print(row, found["rows"][row], flush=True)
        write_result(arguments.out, {"rows": found["rows"]})


def folder_of(row: str, arguments: argparse.Namespace) -> Path:
    return arguments.folder / row.replace(" ", "-")


def train(row: str, arguments: argparse.Namespace) -> float:
    """CPU seconds of this process; of a row that is there already, what it took then."""
    out = folder_of(row, arguments)
    taken = out.with_suffix(".seconds")
    start = time.process_time()
    run_train(
        TrainRequest(
            (str(arguments.data / "train"),), MODEL, read_recipe("tiny", ROWS[row]), out,
            device="cpu", workers=1,
        ),
        Watch(step=lambda _, __: print(".", end="", flush=True)),
    )  # fmt: skip
    if not taken.exists():
        taken.write_text(str(time.process_time() - start))
    return float(taken.read_text())


def measure(row: str, arguments: argparse.Namespace) -> dict[str, Any]:
    clip = load_clip_model(MODEL, device="cpu")
    tests = open_trainset(str(arguments.data / "test"))
    settings = LoadSettings(clip.config["preprocess_cfg"])
    with closing(load(tests, in_turn(arguments.images, 128), settings)) as loaded:
        held = gather(loaded)
    texts = class_texts(clip, tests.classes, [TEMPLATE])
    classifier = clip.classifier(texts)
    if row != "undefended":
        classifier = load_adapted(folder_of(row, arguments))[0].classifier(texts)
    result: dict[str, Any] = {"images": len(held.keys)}
    for name, threat in THREATS.items():
        rates = accuracy(classifier, held, threat, 0, Processes())
        for what, share in (("clean", rates.clean), (name, rates.robust)):
            low, high = wilson(round(share * rates.images), rates.images)
            result[what] = {"accuracy": share, "low": low, "high": high}
        result[f"zero gradient at {name}"] = rates.zero_gradient
    if row != "undefended":
        facts = read_json(folder_of(row, arguments) / "train.json")
        result["held_out"] = {when: facts[when] for when in ("before", "after")}
    return result


if __name__ == "__main__":
    main()
