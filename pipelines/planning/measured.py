"""Rates from a run that was done: how its steps compare with what the plan would have said.

What a plan expects of the run's own sets and machines is set against its ledger. A step that spent
much of its time on units gives a factor for units, another one corrects what is fixed. What the
data decided (how many candidates a second look had) is counted in its tables.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from curate import artifacts
from curate.errors import CurateError
from curate.matches import PAIRS_FILE
from pipelines.flow.ledger import StepBook
from pipelines.flow.status import flow_of
from pipelines.planning.machines import machines_of
from pipelines.planning.plan import make_plan, scale_key
from pipelines.planning.rates import Rate, Rates
from pipelines.planning.schedule import Job, Phase, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.planning.plan import Plan, StepPlan
    from pipelines.planning.schedule import Machines

_WORTH = 0.2
"""Share of a step's time that its units must take to say how fast units are."""
_MOST = 0.5
_BRIEF = 0.2
"""Seconds below which a clock says nothing."""


@dataclass
class _Sum:
    """Seconds over the steps of a key: seen, planned, of what is fixed, and of the driver."""

    seen: float = 0.0
    planned: float = 0.0
    fixed: float = 0.0
    driver: float = 0.0
    steps: int = 0


def measured_rates(run: Path, rates: Rates) -> Rates:
    """The rates, corrected by a run of a flow that was done in one go.

    Args:
        run: its folder.
        rates: that are corrected.

    Raises:
        CurateError: no flow was run there, or none of its steps was done.
    """
    flow = flow_of(run)
    machines = machines_of(flow.cluster, rates)
    counted = _candidates(run)
    plan = make_plan(flow, rates.changed(counted), machines, whole=True)
    sums: dict[str, _Sum] = defaultdict(_Sum)
    for one in plan.steps:
        record = StepBook(run, one.step.name).record()
        if record is None or record.state != "done" or record.seconds < _BRIEF:
            continue
        total = sums[scale_key(one.step)]
        total.seen += record.seconds
        total.planned += one.span.end - one.span.begin
        total.fixed += _fixed(one, plan, machines)
        total.driver += one.cost.seconds(on_driver=True)
        total.steps += 1
    if not sums:
        raise CurateError(f"{run}: no step of this run was done, so it says nothing of rates.")
    return rates.changed({**counted, **_factors(sums, str(run.name))})


def _fixed(one: StepPlan, plan: Plan, machines: Machines) -> float:
    """What a step would take if its units took no time."""
    nothing = tuple(_without_work(phase) for phase in one.cost.phases)
    before = plan.schedule.spans[one.step.name]
    first = before.after is None
    job = Job(one.step.name, one.step.kind, (), nothing)
    waits = replace(machines, begin=0.0, start=machines.start if first else 0.0)
    return simulate([job], waits).makespan


def _without_work(phase: Phase) -> Phase:
    if phase.on_driver:
        return phase
    return replace(phase, works=tuple(replace(work, seconds=0.0) for work in phase.works))


def _factors(sums: dict[str, _Sum], run: str) -> dict[str, Rate]:
    words = f"seconds seen by seconds planned, run {run}"
    return {
        f"{what}.{key}": Rate(value=max(0.0, value), source="measured", of=words)
        for key, total in sums.items()
        for what, value in [_correction(total)]
    }


def _correction(total: _Sum) -> tuple[str, float]:
    """What is corrected, and by how much.

    Units by a factor where they take long enough to tell; else the driver's part where that is most
    of the step; else seconds are added.
    """
    by_units = total.planned - total.fixed
    if by_units > _WORTH * total.planned:
        return "scale.workers", (total.seen - total.fixed) / by_units
    if total.driver > _MOST * total.planned:
        return "scale.driver", (total.seen - total.planned + total.driver) / total.driver
    return "extra", (total.seen - total.planned) / total.steps


def _candidates(run: Path) -> dict[str, Rate]:
    """How many candidates a second look had, by the tables of the run's first such step."""
    for folder in sorted((run / "dedup").glob("*/verified/*")):
        manifest = artifacts.read_manifest(folder)
        top = manifest.config["verify"]["top"]
        looked = pl.read_parquet(folder / PAIRS_FILE, columns=["train_id", "rejected", "same"])
        looked = looked.filter(
            pl.col("same").is_null(), ~pl.col("rejected").fill_null("").str.starts_with("not among")
        )
        tests, trains = _sides(folder)
        if not looked.height or not trains:
            continue
        words = f"counted in {run.name}, at most {top} for a test image"
        values = {
            "candidates": looked.height / tests / trains * 1e6,
            "candidates.images": looked["train_id"].n_unique() / looked.height,
        }
        return {
            name: Rate(value=value, source="measured", of=words) for name, value in values.items()
        }
    return {}


def _sides(folder: Path) -> tuple[int, int]:
    """Vectors of the test and of the train set of matches, by their names in the folder's."""
    test, _, train = folder.name.partition("-vs-")
    run = folder.parents[3]
    counts = {}
    for name in (test, train):
        found = sorted((run / "embeddings" / name).glob("*/manifest.json"))
        counts[name] = artifacts.read_manifest(found[0].parent).counts["vectors"] if found else 0
    return max(1, counts[test]), counts[train]
