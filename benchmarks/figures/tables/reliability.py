"""Kills, by what was killed and what was being done."""

from benchmarks.figures.markdown import bold, table
from benchmarks.figures.results import Results

_VICTIMS = {
    "client": "client", "group": "client and workers", "worker": "worker",
    "scheduler": "scheduler",
}  # fmt: skip
_STEPS = (
    "download", "demo", "embed", "index", "dedup", "calibrate", "split", "page", "train", "eval",
    "overlap", "report", "between steps",
)  # fmt: skip


def kills(results: Results) -> str:
    """Steps may go side by side, so a kill may count in two rows."""
    found = results["faults"]["kills"]
    rows = []
    for step in _STEPS:
        counts = [
            sum(count for doing, count in found[victim].items() if step in doing.split(" + "))
            for victim in _VICTIMS
        ]
        rows.append([step, *map(str, counts)])
    rows.append([bold("kills"), *(bold(f"{sum(found[victim].values())}") for victim in _VICTIMS)])
    head = ("being done", *_VICTIMS.values())
    return f"{table(head, rows)}\n\n{results.source('faults')}"


TABLES = (kills,)
