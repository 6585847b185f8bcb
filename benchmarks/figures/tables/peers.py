"""Beside other tools: the same task, data, machine and session; see `benchmarks/peers.py`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.figures.markdown import table
from benchmarks.figures.results import Results

_CUTS = ("@250", "@500", "@1000")
_OWN = {"copies": "curate builtin:layout", "zero-shot": "curate eval"}
"""Whose processor seconds the others' are compared with."""
_OWN_ENCODER = "curate builtin:tiny-clip"


def peers_copies(results: Results) -> str:
    """Recall of the list, what is flagged at the default and the best threshold, and cost."""
    head = ("tool", *(f"recall {cut}" for cut in _CUTS), "flagged by default", "recall of these",
            "flagged at the best threshold", "recall of these", *_COST)  # fmt: skip

    def row(one: dict[str, Any]) -> list[str]:
        found = one["figures"]
        recall = [_tied(found["recall"][cut]) for cut in _CUTS]
        flagged = [_flagged(found.get(at)) for at in ("at_default", "at_best")]
        return [*recall, *flagged[0], *flagged[1]]

    return _compared(results, "copies", head, row)


def peers_zero_shot(results: Results) -> str:
    """Accuracy of the same model on the same images, and cost."""
    head = ("tool", "accuracy", *_COST)
    return _compared(
        results, "zero-shot", head, lambda one: [f"{100 * one['figures']['accuracy']:.2f} %"]
    )


def peers_embedding(results: Results) -> str:
    """Images a second beyond what starting takes."""
    done, failed = _split(results, "embedding")
    speeds = {one["name"]: one["figures"]["images_per_cpu_s"] for one in done}
    rows = []
    for one in done:
        found, of = one["figures"], one["name"].rpartition(" ")[2]
        own = speeds.get(f"{_OWN_ENCODER} {of}")
        speed = found["images_per_cpu_s"]
        times = f"{speed / own:.2f} x" if own and speed else ""
        cosine = found.get("cosine_to_curate")
        rows.append([
            one["name"], f"{found['images']:,}", _number(speed), times,
            _number(found["images_per_wall_s"]), f"{found['start_cpu_s']:.1f}",
            f"{cosine['least']:.4f}" if cosine else "",
        ])  # fmt: skip
    head = ("tool and images", "how many", "images a CPU second", "of ours", "images a second",
            "CPU s to start", "least cosine to ours")  # fmt: skip
    return _with_failures(results, table(head, rows), failed)


def peers_methods(results: Results) -> str:
    """How many times as long as ours other methods take, in the benchmarks that compare these."""
    ratios: dict[tuple[str, str], list[float]] = {}
    failed = []
    for task, of in _RATIOS.items():
        done, without = _split(results, task)
        failed += without
        for beside, ratio in (pair for one in done for pair in of(one["figures"])):
            ratios.setdefault((task, beside), []).append(ratio)
    rows = [
        [task, beside, f"{len(found)}", f"{min(found):.1f} x", f"{max(found):.1f} x"]
        for (task, beside), found in ratios.items()
    ]
    head = ("task", "beside", "comparisons", "takes at least", "at most")
    return _with_failures(results, table(head, rows), failed)


def _of_joins(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    ours = {run["tau"]: run["seconds"] for run in found["runs"] if run["name"] == "join"}
    for run in found["runs"]:
        if run["name"] != "join":
            yield run["name"], run["seconds"] / ours[run["tau"]]


def _of_attacks(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for row in found["rows"]:
        for name, one in row.items():
            if isinstance(one, dict) and "slower" in one:
                yield name, one["slower"]


def _of_steps(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for one in found["models"].values():
        yield "a straightforward step", one["speed_up"]


_RATIOS = {"join": _of_joins, "attacks": _of_attacks, "train step": _of_steps}
_COST = ("CPU s", "of ours", "wall s", "peak MB")


def _compared(
    results: Results,
    task: str,
    head: Sequence[str],
    row: Callable[[dict[str, Any]], list[str]],
) -> str:
    """The table of a task whose last columns are the cost."""
    done, failed = _split(results, task)
    own = next((one["cost"]["cpu_s"] for one in done if one["name"] == _OWN[task]), None)
    rows = []
    for one in done:
        cost = one["cost"]
        times = f"{cost['cpu_s'] / own:.1f} x" if own else ""
        seconds = [f"{cost['cpu_s']:,.0f}", times, f"{cost['wall_s']:,.0f}"]
        rows.append([_named(one), *row(one), *seconds, f"{cost['peak_pss_mb']:,}"])
    return _with_failures(results, table(head, rows), failed)


def _split(results: Results, task: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of a task that were measured, and those that failed."""
    rows = [one for one in results["peers"]["rows"] if one["task"] == task]
    return [one for one in rows if "failed" not in one], [one for one in rows if "failed" in one]


def _with_failures(results: Results, shown: str, failed: Sequence[dict[str, Any]]) -> str:
    said = "\n".join(f"* {one['name']} failed: {one['failed']}" for one in failed)
    return "\n\n".join(part for part in (shown, said, results.source("peers")) if part)


def _named(one: dict[str, Any]) -> str:
    """With the version of what was measured."""
    version = one["versions"].get(one["environment"] or "", "")
    return f"{one['name']} {version}".strip()


def _tied(recall: dict[str, float] | None) -> str:
    """Recall, with its range where ties straddle the cut."""
    if recall is None:
        return ""
    text = f"{recall['expected']:.3f}"
    if recall["low"] == recall["high"]:
        return text
    return f"{text} ({recall['low']:.3f} to {recall['high']:.3f})"


def _flagged(found: dict[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    return f"{found['flagged']:,}", f"{found['recall_listed']:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


TABLES = (peers_copies, peers_embedding, peers_methods, peers_zero_shot)
