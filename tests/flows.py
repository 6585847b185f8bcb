"""Small flows: their YAML files, runs of them, and what became of each step."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from deduping import PLANTED, write_sets
from pictures import copies, encoded, picture, sample, tree, write_shard

from curate.units import run_in_process
from pipelines.flow.ledger import StepBook
from pipelines.flow.reading import read_flow
from pipelines.flow.run import FlowResult, run_flow
from pipelines.flow.status import StepStatus, status_of
from pipelines.flow.steps import Step, build_steps
from pipelines.flow.task import Task
from pipelines.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipelines.execute.torchrun import Torchrun
    from pipelines.flow.config import FlowConfig

COPIES = {
    "test": "new", "train": "old", "detector": "builtin:layout", "threshold": [0.8, 0.9],
    "write": ["clean", "control"],
}  # fmt: skip

NEW, OLD = "embed/new/builtin-layout-views", "embed/old/builtin-layout"
STEPS = [NEW, OLD, "dedup/copies", "split/copies/0.9", "page/copies", "report"]
"""Of the small flow, in the order in which they are done."""


def small(**changes: Any) -> dict[str, Any]:
    """A flow of two sets, one detector and two thresholds, or with other parts of it."""
    values: dict[str, Any] = {
        "name": "small",
        "out": "run",
        "sets": {"new": {"shards": "test"}, "old": {"shards": "train"}},
        "dedup": {"copies": COPIES},
    }
    return {**values, **changes}


def write_flow(root: Path, values: Mapping[str, Any] | str, name: str = "flow.yaml") -> Path:
    """A flow's file; places in it are taken as below `root`."""
    path = root / name
    root.mkdir(parents=True, exist_ok=True)
    text = values if isinstance(values, str) else yaml.safe_dump(dict(values), sort_keys=False)
    path.write_text(text)
    return path


def flow_at(root: Path, *changes: str, **parts: Any) -> FlowConfig:
    """The small flow with its sets and run folder below `root`."""
    values = deepcopy(small(**parts))
    values["out"] = str(root / values["out"])
    for source in values["sets"].values():
        for kind in ("shards", "embeddings"):
            if kind in source:
                places = [source[kind]] if isinstance(source[kind], str) else source[kind]
                source[kind] = [str(root / one) for one in places]
    return read_flow(write_flow(root, values), changes)


def read_text(root: Path, text: str, *changes: str) -> FlowConfig:
    """What a file with this text says."""
    return read_flow(write_flow(root, text), changes)


def go(flow: FlowConfig) -> FlowResult:
    """Run a flow, watched by nobody."""
    return run_flow(flow, lambda _name: Watch())


def names(flow: FlowConfig) -> list[str]:
    """Of all steps."""
    return [step.name for step in build_steps(flow)]


def step_of(flow: FlowConfig, name: str) -> Step:
    """A step by its name."""
    return next(step for step in build_steps(flow) if step.name == name)


def no_torchrun(_job: Torchrun) -> None:
    """For steps that start none."""
    raise AssertionError


def task_of(
    flow: FlowConfig, name: str, torchrun: Callable[[Torchrun], None] = no_torchrun
) -> Task:
    """A step of a flow as it is given to what does it."""
    steps = {step.name: step for step in build_steps(flow)}
    run = Path(flow.out)
    book = StepBook(run, name)
    units = book.booked(run_in_process)
    return Task(flow, run, steps[name], steps, book, units, Watch(), torchrun)


def status(flow: FlowConfig) -> dict[str, StepStatus]:
    """How each step stands, by its name."""
    return {one.name: one for one in status_of(Path(flow.out), flow)}


def states(flow: FlowConfig) -> dict[str, str]:
    """In a word."""
    return {name: one.state for name, one in status(flow).items()}


def copied(source: Path, root: Path) -> Path:
    """Sets and run in another place, times of files as they were."""
    shutil.copytree(source, root, dirs_exist_ok=True)
    return root


def results(run: Path) -> dict[str, bytes]:
    """Every file of a run but the ledger, which has times in it, and facts."""
    return {
        name: data
        for name, data in tree(run).items()
        if not name.startswith("flow/") and name != "run.json"
    }


def write_readable_sets(root: Path) -> Path:
    """The made-up sets without the file that is no picture, so that models can be measured."""
    write_sets(root)
    kinds = zip(PLANTED, copies(picture(0)), strict=True)
    rows = [sample(f"copy-{kind}", copies(picture(seed))[kind], seed % 3) for seed, kind in kinds]
    write_shard(root / "test" / "b.tar", [*rows, sample("last", encoded(picture(119)), 2)])
    return root


def finished_small(root: Path) -> Path:
    """Made-up sets, and the small flow run on them."""
    write_sets(root)
    done = go(flow_at(root))
    assert done.done == STEPS
    return root


SHORT = {
    "updates": 2, "epochs": None, "batch": 4, "warmup": 0, "held_out": 8, "measured.steps": 1,
    "measure_every": 2, "save_every": 2,
}  # fmt: skip
"""Of the recipe `tiny`, so that it is done in seconds."""

MEASURED = {
    "models": ["builtin:tiny-clip"], "data": {"cifar10": "new"}, "splits": {"cifar10": "copies"},
    "settings": ["cifar10"], "limit": 20,
}  # fmt: skip


def whole_study() -> dict[str, Any]:
    """Parts of a flow that trains on what is no copy of a test image, and measures both models."""
    leaks = {
        "test": "new", "train": "old", "detector": "builtin:layout", "threshold": 0.8,
        "strip": "train", "write": ["clean"],
    }  # fmt: skip
    return {
        "dedup": {"copies": COPIES, "leaks": leaks},
        "train": {"tecoa": {"data": "old", "ids": "leaks", "recipe": "tiny", "set": SHORT}},
        "eval": {"main": {**MEASURED, "models": ["builtin:tiny-clip", "tecoa"]}},
    }
