"""Plans against real runs, and plans of what is too large to run here."""

from typing import Any

from benchmarks.figures.markdown import table
from benchmarks.figures.results import Results

_FAMILIES = {
    "layout": "`builtin:layout`", "copy": "`builtin:copy`", "study": "two trainings, three models",
}  # fmt: skip


def _order(run: dict[str, Any]) -> tuple[int, int, int]:
    return list(_FAMILIES).index(run["family"]), run["test"], run["workers"]


def plans(results: Results) -> str:
    """Seconds that were planned and seen."""
    rows = []
    for run in sorted(results["plan"]["runs"], key=_order):
        small = run.get("ratio_by_small_run")
        rows.append([
            _FAMILIES[run["family"]], f"{run['test']:,} + {run['train']:,}",
            f"{run['workers']}", f"{run['planned_seconds']:.1f}", f"{run['seen_seconds']:.1f}",
            f"{run['ratio']:.2f}", f"{run['planned_cpu_seconds']:.1f}",
            f"{run['cpu_seconds']:.1f}", "" if small is None else f"{small:.2f}",
        ])  # fmt: skip
    head = ("flow", "images", "workers", "seconds, planned", "seen", "planned / seen",
            "processor s, planned", "seen", "by a small run: planned / seen")  # fmt: skip
    return f"{table(head, rows)}\n\n{results.source('plan')}"


def large_plans(results: Results) -> str:
    """Hours, bytes and money of sets of up to five billion images."""
    rows = [
        [
            _images(one["images"]), f"{_two(one['read_bytes'] / 1e12)} TB", one["network"],
            _two(one["gpu_hours"]), _bytes(one["vector_bytes"]),
            f"{_two(one['join_flops'] / 1e15)} P, {_time(one['join_seconds'])}",
            _two(one["hours"]), f"{one['money']:,.0f}",
        ]
        for one in results["large"]["plans"]
    ]  # fmt: skip
    head = ("train images", "images read", "network", "GPU-hours", "vectors stored",
            "join: FLOPs, one process", "hours on 64", "money, machines held")  # fmt: skip
    return f"{table(head, rows)}\n\n{results.source('large')}"


def _two(value: float) -> str:
    """Two significant digits."""
    return f"{float(f'{value:.2g}'):,g}"


def _images(count: int) -> str:
    return f"{count / 1e9:g} B" if count >= 10**9 else f"{count / 1e6:g} M"


def _bytes(count: float) -> str:
    return f"{_two(count / 1e12)} TB" if count >= 1e11 else f"{_two(count / 1e9)} GB"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


TABLES = (plans, large_plans)
