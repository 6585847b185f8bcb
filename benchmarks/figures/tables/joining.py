"""The exact join: against full products and indices, and as sets grow."""

from typing import Any

from benchmarks.figures.markdown import bold, table
from benchmarks.figures.results import Results

_VECTORS = {
    "join-clip": "like CLIP's (mean cosine .5, power-law spectrum)",
    "join-isotropic": "isotropic",
    "join-real": "`builtin:layout` of CIFAR-10, repeated with noise",
}
_OTHERS = (
    "torch bfloat16",
    "torch float32",
    "faiss IndexFlatIP.range_search",
    "faiss IVF-Flat: train, add, search",
)


def joins(results: Results) -> str:
    """Seconds of the join and of others, with ratios."""
    rows = []
    for file, text in _VECTORS.items():
        runs = {(run["name"], run["tau"]): run for run in results[file]["runs"]}
        shown = f"{text}, width {results[file]['shape'][2]}"
        for tau in sorted({tau for _, tau in runs}, reverse=True):
            ours = runs["join", tau]
            others = [_other(runs.get((name, tau)), ours["seconds"]) for name in _OTHERS]
            sketch = ours["note"].partition(";")[0]
            rows.append([shown, f"{tau:.2f}", bold(f"{ours['seconds']:.1f}"), sketch, *others,
                         f"{ours['pairs']:,}"])  # fmt: skip
            shown = ""
    named = ("torch bf16", "torch fp32", "faiss Flat", "faiss IVF-Flat, recall >= .999")
    head = ("vectors", "tau", "join, s", "sketch that was chosen", *named, "pairs")
    return f"{table(head, rows)}\n\n{results.source(*_VECTORS)}"


def _other(run: dict[str, Any] | None, ours: float) -> str:
    return "" if run is None else f"{run['seconds']:.1f} ({run['seconds'] / ours:.1f} x)"


def joins_from_disk(results: Results) -> str:
    """Seconds and memory as the vectors on a disk grow."""
    runs = results["scale"]["runs"]
    least = runs[0]["seconds"] / runs[0]["items"]
    rows = [
        [f"{run['items']:,}", f"{run['gigabytes']:.1f} GB", f"{run['seconds']:.1f}",
         f"{run['cpu_seconds']:.0f}", f"{run['peak_mib']} MiB",
         f"{run['seconds'] / run['items'] / least:.2f} x"]
        for run in runs
    ]  # fmt: skip
    head = ("items", "on disk", "seconds", "CPU s", "peak memory", "by item, of the first")
    return f"{table(head, rows)}\n\n{results.source('scale')}"


def prefix_store(results: Results) -> str:
    """What a join reads and takes by vectors, and by a store of their first columns."""
    found = results["prefix"]
    rows = [
        [text, f"{found[step]['read_mb']:,.0f} MB", f"{found[step]['seconds']:.2f}", less, faster]
        for text, step, less, faster in (
            ("the first join, by vectors", "join", "", ""),
            ("building the store", "building", "", ""),
            ("joining by the store", "rescan", f"{found['ratio_of_bytes']:.1f} x",
             f"{found['measured_ratio']:.1f} x"),
        )
    ]  # fmt: skip
    head = ("step", "read", "seconds", "bytes, less by", "as fast")
    return f"{table(head, rows)}\n\n{results.source('prefix')}"


def million(results: Results) -> str:
    """A million images from shards to a split."""
    found = results["million"]
    row = [f"{found['images']:,}", f"{found['wall_s']:.0f}", f"{found['cpu_s']:.0f}",
           f"{found['images'] / found['wall_s']:,.0f}", f"{found['peak_mb']} MB"]  # fmt: skip
    head = ("train images", "wall s", "CPU s", "images a second", "peak memory of all processes")
    return f"{table(head, [row])}\n\n{results.source('million')}"


TABLES = (joins, joins_from_disk, prefix_store, million)
