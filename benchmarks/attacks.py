r"""PGD and APGD against torchattacks, torchattack, foolbox and pyautoattack on the same images.

All attack the same model with the same steps of the same length in the same ball, in batches of the
same size, and are judged by the same eyes: an image is robust if it is right as it is and at the
point that the attack returns. Processor time of one thread; every contestant runs once, after one
batch that is not counted. `of_ideal` says how near our loop comes to the cost of its forward and
backward passes alone, a backward pass taken as two forward passes.

    python benchmarks/attacks.py --data cifar10/test \\
        --out benchmarks/results/attacks.json
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from record import write_result
from torch import Tensor

from curate.discover import open_dataset
from curate.images import decode
from curate.samples import Member, image_member
from curate.shards import ShardReader
from eval.attacks.apgd import Apgd
from eval.attacks.gradient import GradientAttack
from eval.attacks.threat import Threat
from eval.models.classifier import ZeroShot, class_texts, load_clip_model

if TYPE_CHECKING:
    from eval.attacks.trail import TrailAttack

NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905
MODEL = "builtin:tiny-clip"
EPS = (1.0, 4.0, 8.0)
STEPS = {"pgd-20": 20, "apgd-ce": 100}
Run = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Measure every pair and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tars of CIFAR-10")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--batch", type=int, default=125)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable()
    clip = load_clip_model(MODEL, device="cpu")
    classifier = clip.classifier(class_texts(clip, NAMES, ["a photo of a {}"]))
    images, labels = read(arguments.data, arguments.images)
    rows = []
    for attack in STEPS:
        for eps in EPS:
            rows.append(
                compare(classifier, images, labels, attack=attack, eps=eps, batch=arguments.batch)
            )
            print(json.dumps(rows[-1]), flush=True)
    libraries = ("torch", "torchattacks", "torchattack", "foolbox", "pyautoattack")
    write_result(
        arguments.out,
        {
            "model": MODEL,
            "images": arguments.images,
            "batch": arguments.batch,
            "versions": {name: version(name) for name in libraries},
            "rows": rows,
        },
    )


def read(folder: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first images of a data set, (n, 3, H, W) in [0, 1], and their labels."""
    pixels, labels = [], []
    dataset = open_dataset((str(folder),))
    for shard in dataset.shards:
        for sample in ShardReader(dataset, shard):
            member = image_member(sample)
            assert isinstance(member, Member)
            pixels.append(np.asarray(decode(member.data or b"")))
            facts = next(m for m in sample.members if m.name.endswith(".json"))
            labels.append(json.loads(facts.data or b"{}")["label"])
            if len(labels) == count:
                stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
                return stacked.float() / 255, torch.tensor(labels)
    raise SystemExit(f"{folder}: fewer than {count} images")


def compare(
    classifier: ZeroShot,
    images: Tensor,
    labels: Tensor,
    *,
    attack: str,
    eps: float,
    batch: int,
) -> dict[str, Any]:
    ours, spent = contestant(classifier, attack, eps)
    runs: dict[str, Run] = {"ours": ours} | libraries(classifier, attack, eps)
    row: dict[str, Any] = {"attack": attack, "eps": eps}
    with torch.no_grad():
        clean = classifier(images).argmax(dim=1) == labels
    row["clean"] = round(float(clean.float().mean()), 4)
    for name, run in runs.items():
        run(images[:8], labels[:8])
        spent.clear()
        start = time.process_time()
        made = [run(*part) for part in zip(images.split(batch), labels.split(batch), strict=True)]
        seconds = time.process_time() - start
        with torch.no_grad():
            right = clean & (classifier(torch.cat(made)).argmax(dim=1) == labels)
        row[name] = {"seconds": round(seconds, 2), "robust": round(float(right.float().mean()), 4)}
        if name == "ours":
            passes = ideal_passes(torch.cat(spent), right)
            forward = forward_seconds(classifier, images[:batch])
            row[name]["of_ideal"] = round(passes * forward / seconds, 2)
    for name in list(runs)[1:]:
        row[name]["slower"] = round(row[name]["seconds"] / row["ours"]["seconds"], 2)
    return row


def contestant(classifier: ZeroShot, attack: str, eps: float) -> tuple[Run, list[Tensor]]:
    """Our attack, and where it leaves the numbers of its queries."""
    spent: list[Tensor] = []
    made: TrailAttack
    if attack == "pgd-20":
        made = GradientAttack(attack, Threat(eps, eps / 4, STEPS[attack], "uniform"))
    else:
        made = Apgd(attack, eps, "ce", steps=STEPS[attack])

    def run(images: Tensor, labels: Tensor) -> Tensor:
        keys = [str(number) for number in range(len(images))]
        found = made.run(classifier, images, labels, keys, 0)
        spent.append(found.queries)
        return found.images

    return run, spent


def libraries(classifier: ZeroShot, attack: str, eps: float) -> dict[str, Run]:
    import foolbox
    import torchattack
    import torchattacks
    from pyautoattack.autopgd_base import APGDAttack

    radius, steps = eps / 255, STEPS[attack]
    if attack == "apgd-ce":
        theirs = torchattacks.APGD(classifier, eps=radius, steps=steps, n_restarts=1, seed=0)
        auto = APGDAttack(classifier, n_iter=steps, eps=radius, seed=0, device="cpu")
        return {"torchattacks": theirs, "pyautoattack": auto.perturb}
    plain = torchattacks.PGD(classifier, eps=radius, alpha=radius / 4, steps=steps)
    device = torch.device("cpu")
    other = torchattack.PGD(
        classifier, device=device, eps=radius, alpha=radius / 4, steps=steps, random_start=True
    )
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
    linf = foolbox.attacks.LinfPGD(steps=steps, abs_stepsize=radius / 4)
    return {
        "torchattacks": plain,
        "torchattack": lambda images, labels: other(images, labels).detach(),
        "foolbox": lambda images, labels: linf(model, images, labels, epsilons=radius)[1],
    }


def ideal_passes(queries: Tensor, right: Tensor) -> float:
    """Forward passes worth of arithmetic: looks cost 1, steps of the walk 3."""
    looks = len(queries) + int(right.sum())
    return looks + 3 * (int(queries.sum()) - looks)


def forward_seconds(classifier: ZeroShot, images: Tensor, repeats: int = 5) -> float:
    """Least processor time of a forward pass, for one image."""
    taken = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.process_time()
            classifier(images)
            taken.append((time.process_time() - start) / len(images))
    return min(taken[1:])


if __name__ == "__main__":
    main()
