"""Flows to plan, and rates that make sums easy."""

from pathlib import Path
from typing import Any

from pipelines.flow.config import FlowConfig
from pipelines.flow.steps import build_steps
from pipelines.planning.context import Context, Cost
from pipelines.planning.cost import cost_of
from pipelines.planning.rates import Rate, Rates, shipped_rates
from pipelines.planning.sizes import sizes_of


def stated(samples: int, shards: int = 10, size: int = 1000) -> dict[str, Any]:
    """A set that is not there, of images of so many bytes."""
    return {
        "shards": "s3://nowhere/{0..9}.tar",
        "size": {"samples": samples, "shards": shards, "bytes": samples * size},
    }


def flow(out: Path, **more: Any) -> FlowConfig:
    """A test set of 1,000 images and a train set of 100,000, cleaned by `builtin:layout`."""
    entry = {"test": "test", "train": "train", "detector": "builtin:layout", "verify": "none"}
    values: dict[str, Any] = {
        "name": "study",
        "out": str(out),
        "sets": {"test": stated(1000), "train": stated(100_000, 20)},
        "dedup": {"copies": entry | more.pop("entry", {})},
    }
    return FlowConfig.model_validate(values | more)


def rates(**others: float) -> Rates:
    """The shipped ones with some others, written with _ for the points of their names."""
    known = shipped_rates()
    changed = {name.replace("__", "."): Rate(value=value) for name, value in others.items()}
    return known.changed(changed)


def costs(config: FlowConfig, known: Rates, *, gpus: bool = False) -> dict[str, Cost]:
    """What each step of a flow takes."""
    steps = {step.name: step for step in build_steps(config)}
    context = Context(config, steps, sizes_of(config, Path(config.out)), known, gpus)
    return {name: cost_of(step, context) for name, step in steps.items()}
