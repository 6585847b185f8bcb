"""The plan of a flow: what each step costs, when it would run, and what holds it up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import CurateError
from pipelines.flow.ledger import FLOW_FILE
from pipelines.flow.status import status_of
from pipelines.flow.steps import build_steps
from pipelines.planning.context import Context, Cost
from pipelines.planning.cost import cost_of
from pipelines.planning.machines import RATES
from pipelines.planning.networks import facts_name
from pipelines.planning.schedule import Job, Phase, Schedule, Work, simulate
from pipelines.planning.sizes import sizes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.flow.config import FlowConfig
    from pipelines.flow.steps import Step
    from pipelines.planning.rates import Rates
    from pipelines.planning.schedule import Machines, Span
    from pipelines.planning.sizes import SetSize

PRICES = ("core-hour", "gpu-hour", "tb-month", "tb-read")
_HOUR = 3600.0
_TB = 1e12


@dataclass(frozen=True)
class StepPlan:
    """What a step would take.

    Attributes:
        step: the step.
        cost: of it; nothing, if its result is kept.
        span: when it would run.
        is_kept: its result holds.
        gpu_seconds: of workers with a GPU; they are counted as such as long as they are taken.
        core_seconds: of other workers.
    """

    step: Step
    cost: Cost
    span: Span
    is_kept: bool
    gpu_seconds: float
    core_seconds: float

    def to_json(self, prices: Mapping[str, float]) -> dict[str, Any]:
        """For machines."""
        return {
            "name": self.step.name,
            "kind": self.step.kind,
            "needs": list(self.step.needs),
            "kept": self.is_kept,
            "units": self.cost.units,
            "read_bytes": round(self.cost.read),
            "written_bytes": round(self.cost.written),
            "flops": self.cost.flops,
            "core_seconds": self.core_seconds,
            "gpu_seconds": self.gpu_seconds,
            "driver_seconds": self.span.driver,
            "begin": self.span.begin,
            "end": self.span.end,
            "money": money(self, prices),
        }


@dataclass(frozen=True)
class Plan:
    """What a flow would take.

    Attributes:
        name: of the flow.
        steps: in the flow's order.
        sizes: of its sets.
        machines: that it is for.
        schedule: when each step runs.
        rates: all of them.
        used: names of those that it rests on.
        prices: by unit, of `PRICES`.
    """

    name: str
    steps: list[StepPlan]
    sizes: dict[str, SetSize]
    machines: Machines
    schedule: Schedule
    rates: Rates
    used: set[str]
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def held_money(self) -> float | None:
        """Of all machines from the first step to the last, used or not, and of the storage."""
        hours = self.schedule.makespan / _HOUR
        workers = (("gpu-hour", self.machines.gpus),
                   ("core-hour", self.machines.workers - self.machines.gpus))  # fmt: skip
        if not self.prices:
            return None
        held = sum(hours * count * self.prices.get(key, 0.0) for key, count in workers)
        return held + sum(_stored_money(step.cost, self.prices) for step in self.steps)

    def bottleneck(self) -> tuple[str, float]:
        """What the steps of the critical path wait for longest, and its share of the makespan."""
        waits: dict[str, float] = {}
        spans = [self.schedule.spans[name] for name in self.schedule.critical]
        gpu = {one.step.name for one in self.steps if one.cost.gpu}
        for name, span in zip(self.schedule.critical, spans, strict=True):
            waited = span.storage / span.busy * span.spread if span.busy else 0.0
            who = "workers with a GPU" if name in gpu and self.machines.gpus else "workers"
            shares = {
                "the process that runs the flow": span.driver,
                "storage": waited,
                who: span.spread - waited,
            }
            for what, seconds in shares.items():
                waits[what] = waits.get(what, 0.0) + seconds
        total = sum(waits.values())
        if not total:
            return "nothing", 0.0
        what = max(waits, key=lambda key: waits[key])
        return what, waits[what] / total

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        what, share = self.bottleneck()
        return {
            "flow": self.name,
            "machines": {"workers": self.machines.workers, "gpus": self.machines.gpus},
            "sets": {
                name: {"samples": size.samples, "shards": len(size.shards), "bytes": size.bytes,
                       "known": size.how}
                for name, size in self.sizes.items()
            },
            "steps": [one.to_json(self.prices) for one in self.steps],
            "seconds": self.schedule.makespan,
            "critical_path": self.schedule.critical,
            "bottleneck": {"what": what, "share": share},
            "prices": dict(self.prices),
            "money": {
                "used": sum(money(one, self.prices) or 0.0 for one in self.steps)
                if self.prices else None,
                "held": self.held_money,
            },
            "assumed": self.rates.assumed(self.used),
            "rates": self.rates.facts(self.used),
        }  # fmt: skip


def money(step: StepPlan, prices: Mapping[str, float]) -> float | None:
    """What a step costs by the hours that it uses, a month of what it stores included."""
    if not prices:
        return None
    hours = {
        "core-hour": (step.core_seconds + step.span.driver) / _HOUR,
        "gpu-hour": step.gpu_seconds / _HOUR,
    }
    used = sum(value * prices.get(key, 0.0) for key, value in hours.items())
    return used + _stored_money(step.cost, prices)


def _stored_money(cost: Cost, prices: Mapping[str, float]) -> float:
    stored = cost.written / _TB * prices.get("tb-month", 0.0)
    return stored + cost.read / _TB * prices.get("tb-read", 0.0)


def make_plan(
    flow: FlowConfig,
    rates: Rates,
    machines: Machines,
    prices: Mapping[str, float] | None = None,
    *,
    whole: bool = False,
) -> Plan:
    """Plan a flow; nothing is computed or written.

    Args:
        flow: the flow.
        rates: how fast things are.
        machines: what it would run on.
        prices: by unit, of `PRICES`.
        whole: as if nothing had been done before.

    Raises:
        CurateError: a set cannot be seen and its size is not stated, a rate is not known, or the
            flow makes no sense.
    """
    rates = rates.fresh()
    steps = build_steps(flow)
    sizes = sizes_of(flow, Path(flow.out))
    context = Context(flow, {step.name: step for step in steps}, sizes, rates, machines.gpus > 0)
    kept = set() if whole else _kept(flow)
    costs = {
        step.name: Cost() if step.name in kept else scaled(cost_of(step, context), step, rates)
        for step in steps
    }
    schedule = simulate([_job(step, costs[step.name]) for step in steps], machines)
    planned = [_planned(one, costs[one.name], schedule, one.name in kept) for one in steps]
    used = rates.used.union(filter(rates.has, RATES))
    return Plan(flow.name, planned, sizes, machines, schedule, rates, used, dict(prices or {}))


def _planned(step: Step, cost: Cost, schedule: Schedule, is_kept: bool) -> StepPlan:
    span = schedule.spans[step.name]
    on_gpu = sum(w.seconds for p in cost.phases if p.gpu and not p.on_driver for w in p.works)
    total = cost.seconds(on_driver=False)
    share = on_gpu / total if total else 0.0
    return StepPlan(step, cost, span, is_kept, span.busy * share, span.busy * (1 - share))


def _job(step: Step, cost: Cost) -> Job:
    return Job(step.name, step.kind, step.needs, cost.phases, is_free=step.kind == "train")


def _kept(flow: FlowConfig) -> set[str]:
    """Steps whose results hold in the run folder."""
    run = Path(flow.out)
    if not (run / FLOW_FILE).is_file():
        return set()
    try:
        return {one.name for one in status_of(run, flow) if one.state == "done"}
    except CurateError:
        return set()


def scale_key(step: Step) -> str:
    """Steps whose measured rates are the same: of a kind, and of a network where there is one."""
    network = step.config.get("detector") or step.config.get("model")
    return step.kind if network is None else f"{step.kind}.{facts_name(str(network))}"


def scaled(cost: Cost, step: Step, rates: Rates) -> Cost:
    """A cost with what `pipelines.planning.measured` found of earlier steps of its kind."""
    key = scale_key(step)
    factors = {
        on_driver: rates(name) if rates.has(name := f"scale.{where}.{key}") else 1.0
        for on_driver, where in ((True, "driver"), (False, "workers"))
    }
    phases = tuple(_times(phase, factors[phase.on_driver]) for phase in cost.phases)
    if rates.has(name := f"extra.{key}"):
        phases = (*phases, Phase((Work(rates(name)),), on_driver=True))
    return replace(cost, phases=phases)


def _times(phase: Phase, factor: float) -> Phase:
    if factor == 1:
        return phase
    return replace(phase, works=tuple(replace(w, seconds=w.seconds * factor) for w in phase.works))


def read_prices(texts: list[str]) -> dict[str, float]:
    """Prices as flags give them, such as `gpu-hour=2.5`.

    Raises:
        CurateError: one is of another unit, or no number.
    """
    found = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or name not in PRICES or not 0 <= found[name] < float("inf"):
            raise CurateError(
                f"--price {text}: NAME=NUMBER was expected, NAME one of {', '.join(PRICES)}."
            )
    return found
