"""Units on Dask."""

from benchmarks.figures.markdown import table
from benchmarks.figures.results import Results

_WAYS = {
    "runner": "",
    "runner, ten times": "",
    "all at once": ", one task each, all at once",
}


def units_on_dask(results: Results) -> str:
    """Overhead and memory of units that sleep for a millisecond."""
    rows = []
    for name, text in _WAYS.items():
        way = results["scheduling"]["units"]["ways"][name]
        grown = [f"{way[f'{side}_grew_mib']:.1f} MiB" for side in ("client", "scheduler")]
        rows.append([f"{way['units']:,}{text}", f"{way['overhead_ms']:.2f} ms", *grown])
    head = ("units of 1 ms", "overhead a unit", "client grew", "scheduler grew")
    return f"{table(head, rows)}\n\n{results.source('scheduling')}"


TABLES = (units_on_dask,)
