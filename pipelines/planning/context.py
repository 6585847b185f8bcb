"""What costs are worked out from, what they are, and what the costs of all kinds of steps share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.config import DedupConfig, make_config
from pipelines.planning.schedule import Phase, Work

if TYPE_CHECKING:
    from pipelines.flow.config import FlowConfig
    from pipelines.flow.steps import Step
    from pipelines.planning.rates import Rates
    from pipelines.planning.sizes import SetSize

_NETWORKS = ("embed", "dedup", "calibrate", "train", "eval")
"""Kinds of steps whose networks run on a GPU, where there is one."""


@dataclass(frozen=True)
class Context:
    """What costs are worked out from.

    Attributes:
        flow: the flow.
        steps: all its steps by name.
        sizes: of its sets.
        rates: how fast things are.
        gpus: workers have GPUs.
    """

    flow: FlowConfig
    steps: dict[str, Step]
    sizes: dict[str, SetSize]
    rates: Rates
    gpus: bool = False

    def on_gpu(self, step: Step) -> bool:
        """Whether the networks of a step run on a GPU."""
        return self.gpus and self.flow.device != "cpu" and step.kind in _NETWORKS


@dataclass(frozen=True)
class Cost:
    """What a step takes.

    Attributes:
        phases: its work.
        units: how many, before neighbours are put together.
        read: bytes.
        written: bytes.
        flops: of networks and products.
        gpu: some of its units need a GPU.
    """

    phases: tuple[Phase, ...] = ()
    units: int = 0
    read: float = 0.0
    written: float = 0.0
    flops: float = 0.0
    gpu: bool = False

    def seconds(self, *, on_driver: bool) -> float:
        """Of all its units, or of all that the driver does."""
        found = (phase for phase in self.phases if phase.on_driver == on_driver)
        return sum(work.seconds for phase in found for work in phase.works)


def driver(seconds: float, size: float = 0.0) -> Phase:
    """Work of the process that runs the flow: its seconds, and the bytes that it moves."""
    return Phase((Work(seconds, size),), on_driver=True)


def together(*costs: Cost) -> Cost:
    """The phases of several costs, one after the other."""
    return Cost(
        tuple(phase for cost in costs for phase in cost.phases),
        sum(cost.units for cost in costs),
        sum(cost.read for cost in costs),
        sum(cost.written for cost in costs),
        sum(cost.flops for cost in costs),
        any(cost.gpu for cost in costs),
    )


def dedup_config(step: Step) -> DedupConfig:
    """The settings of `curate dedup` for a step."""
    given = dict(step.config)
    test, train = given.pop("test"), given.pop("train")
    sides: dict[str, Any] = {"test": (test,), "train": (train,) if train is not None else ()}
    return make_config(DedupConfig, {**given, **sides, "out": Path()}, step.name)
