"""Task: zero-shot accuracy of the tiny CLIP on the CIFAR-10 test images, from one folder.

The folder is CLIP_benchmark's layout with class names and templates in it, written by
`curate eval export`. CLIP_benchmark runs with its default (mixed precision, which is bfloat16 on a
CPU) and without it.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from curate.encoders.clip import TINY, TINY_CLIP
from curate.files import read_json

from .inputs import some, write_tars
from .session import Contestant, Finding, Session

NAME = "cifar10"
SHARDS = 10


def contestants() -> dict[str, Contestant]:
    """The rows of this task by name."""
    amp = partial(clip_benchmark, options=())
    plain = partial(clip_benchmark, options=("--no_amp",))
    return {
        "curate eval": Contestant("zero-shot", None, curate),
        "clip-benchmark": Contestant("zero-shot", "clip-benchmark", amp),
        "clip-benchmark --no_amp": Contestant("zero-shot", "clip-benchmark", plain),
    }


def clip_benchmark(session: Session, python: Path, *, options: Sequence[str]) -> Finding:
    """Its `eval` command with its defaults beside the options."""
    out = session.work / f"clip-benchmark{''.join(options)}.json"
    # its reader refuses more processes than shards; 4 is its default
    loaders = min(4, len(list(folder(session).glob("test/*.tar"))))
    words = [
        *("-m", "clip_benchmark.cli", "eval", *options, "--pretrained", "", "--quiet"),
        *("--num_workers", str(loaders)),
        *("--model", f"local-dir:{TINY}", "--output", str(out)),
        *("--dataset", f"wds/{NAME}", "--dataset_root", str(folder(session))),
    ]
    cost = session.run(python, words)
    metrics = json.loads(out.read_text())["metrics"]
    settings = f"batches of 64 (its default), {loaders} loader processes"
    figures = {"accuracy": round(metrics["acc1"], 4)}
    return Finding(figures, cost, session.shown(python, words), settings)


def curate(session: Session, python: Path) -> Finding:
    """`curate eval run`."""
    out = session.work / "eval"
    words = [
        *("-m", "pipelines", "eval", "run", TINY_CLIP, "--setting", NAME),
        *("--data", f"{NAME}={folder(session)}", "--out", str(out)),
        *("--workers", str(session.cores)),
    ]
    cost = session.run(python, words, offline=False)
    (summary,) = out.glob("*/summary.json")
    accuracy = read_json(summary)["numbers"]["full"]["accuracy"]
    figures = {"accuracy": round(accuracy["value"], 4), "images": accuracy["total"]}
    settings = f"{session.cores} workers; a row stored for each image"
    return Finding(figures, cost, session.shown(python, words), settings)


def folder(session: Session) -> Path:
    """The test set in CLIP_benchmark's layout, made when first asked for."""
    made = session.work / "wds" / NAME
    if not made.is_dir():
        tars = session.work / "tars" / "labelled"
        write_tars(list(some(session.data / NAME / "test", session.images)), tars, SHARDS)
        words = ["-m", "pipelines", "eval", "export", f"{NAME}={tars}", "--out", str(made)]
        session.run(session.own_python, words, offline=False)
    return made
