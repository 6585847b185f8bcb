"""A plan in words: a line for each step, then time, money, and what both rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.planning.plan import money

if TYPE_CHECKING:
    from pipelines.planning.plan import Plan, StepPlan

_HEADINGS = ("step", "units", "read", "written", "FLOP", "core h", "GPU h", "seconds", "money")
_HOUR = 3600.0
_KILO = 1000.0
_WAITS = 60


def told(plan: Plan) -> str:
    """The plan for a person to read."""
    rows = [_row(one, plan) for one in plan.steps]
    shown = [_HEADINGS, *rows] if plan.prices else [row[:-1] for row in (_HEADINGS, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(size) if at == 0 else cell.rjust(size)
            for at, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in shown
    ]
    return "\n".join([*_sets(plan), "", *lines, "", *_end(plan)])


def _sets(plan: Plan) -> list[str]:
    return [
        f"set {name}: {size.samples:,} samples in {len(size.shards):,} shards, "
        f"{amount(size.bytes)}B ({size.how})"
        for name, size in plan.sizes.items()
    ]


def _row(one: StepPlan, plan: Plan) -> tuple[str, ...]:
    if one.is_kept:
        return (one.step.name, "kept", *[""] * (len(_HEADINGS) - 2))
    cost = one.cost
    spent = money(one, plan.prices)
    return (
        one.step.name,
        f"{cost.units:,}" if cost.units else "-",
        _of_bytes(cost.read),
        _of_bytes(cost.written),
        amount(cost.flops) if cost.flops else "-",
        _hours(one.core_seconds + one.span.driver),
        _hours(one.gpu_seconds),
        f"{one.span.end - one.span.begin:,.0f}",
        "" if spent is None else f"{spent:,.2f}",
    )


def _of_bytes(size: float) -> str:
    return f"{amount(size)}B" if size else "-"


def _hours(seconds: float) -> str:
    hours = seconds / _HOUR
    return "-" if not seconds else f"{hours:,.0f}" if hours >= _KILO / 10 else f"{hours:.3g}"


def amount(value: float) -> str:
    """A number with three digits and the letter of its thousands."""
    for letter in ("", "k", "M", "G", "T", "P", "E"):
        if value < _KILO:
            return f"{value:.3g} {letter}"
        value /= _KILO
    return f"{value:,.0f} Z"


def span(seconds: float) -> str:
    """A time in words."""
    if seconds < 2 * _WAITS:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _WAITS:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < 72 * _HOUR else f"{seconds / 24 / _HOUR:.1f} d"


def _end(plan: Plan) -> list[str]:
    machines, (what, share) = plan.machines, plan.bottleneck()
    on = "this process" if machines.in_process else f"{machines.workers:,} workers"
    on += f", {machines.gpus:,} with a GPU" if machines.gpus else ""
    lines = [
        f"time        {span(plan.schedule.makespan)} on {on}",
        f"critical    {' > '.join(_ran(plan)) or 'nothing is left to do'}",
        f"bottleneck  {what} ({share:.0%} of the time)",
    ]
    if plan.prices:
        used = sum(money(one, plan.prices) or 0.0 for one in plan.steps)
        lines.append(
            f"money       {used:,.2f} for what is used, {plan.held_money:,.2f} with all machines "
            "kept from begin to end; storage for a month"
        )
    assumed = plan.rates.assumed(plan.used)
    if assumed:
        lines.append(f"ASSUMED     not measured: {', '.join(assumed)} (--rates, --measured)")
    return lines


def _ran(plan: Plan) -> list[str]:
    kept = {one.step.name for one in plan.steps if one.is_kept}
    return [name for name in plan.schedule.critical if name not in kept]
