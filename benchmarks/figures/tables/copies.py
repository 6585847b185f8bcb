"""Finding the near-duplicates of CIFAR-10."""

from typing import Any

from benchmarks.figures.markdown import bold, table
from benchmarks.figures.results import Results

_CUTS = ("250", "500", "1000")
_METHODS = {
    "builtin:copy": "`builtin:copy`, the default (mirrored view, second look at pixels)",
    "builtin:copy, unmirrored view alone": "`builtin:copy`, unmirrored view alone",
    "builtin:copy, no second look": "`builtin:copy`, no second look",
    "builtin:layout": "`builtin:layout`",
    "phash": "`phash:phash`",
    "dhash": "`phash:dhash`",
    "builtin:tiny-clip": "`builtin:tiny-clip`, a CLIP's own vectors",
}
_INDICES = {"flat": "FAISS Flat", "ivf": "FAISS IVF-Flat"}


def _cost(run: dict[str, Any]) -> list[str]:
    return [f"{run['wall_s']:,.0f}", f"{run['cpu_s']:,.0f}", f"{run['peak_mb']:,}"]


def cifar10_thresholds(results: Results) -> str:
    """What `builtin:layout` flags at thresholds."""
    rows = [
        [f"{row['threshold']:.2f}", f"{row['flagged']}", f"{row['mirrored']}",
         f"{row['recall']:.3f}", f"{row['same_class']:.3f}"]
        for row in results["cifar10-copies"]["sweep"]
    ]  # fmt: skip
    head = ("threshold", "flagged", "of these mirrored", "recall of the list", "same class")
    return f"{table(head, rows)}\n\n{results.source('cifar10-copies')}"


def cifar10_detectors(results: Results) -> str:
    """Recall, judged copies and cost of the detectors."""
    rows = []
    for name, text in _METHODS.items():
        one = results["cifar10-detectors"]["methods"][name]
        recall = [f"{one['recall'][cut]:.3f}" for cut in _CUTS]
        first = one["of_first"]["700"]
        at = f"{one['flagged']:,} at {_threshold(name, one['threshold'])}"
        cost = f"{one['cpu_s']:.0f}"
        rows.append([text, *recall, at, f"{first['copies']}", f"{first['judged']}", cost])
    rows[0] = [bold(cell) for cell in rows[0]]
    head = ("method", "@250", "@500", "@1,000", "flagged at its threshold", "copies of 700",
            "judged", "CPU s")  # fmt: skip
    return f"{table(head, rows)}\n\n{results.source('cifar10-detectors')}"


def _threshold(name: str, threshold: float) -> str:
    """As people state it: of hashes of 64 bits by the bits that differ."""
    return f"{32 * (1 - threshold):.0f} bits" if name.endswith("hash") else f"{threshold:g}"


def cifar10_indices(results: Results) -> str:
    """What indices find of the pairs of the exact join."""
    found = results["cifar10-copies"]
    pairs, runs = found["index_pairs_found"], {run["search"]: run for run in found["runs"]}
    total = [pairs[f"flat at {tau}"].rpartition(" of ")[2] for tau in (0.7, 0.9)]
    rows = [["exact join", *(f"{int(one):,}" for one in total), "", *_cost(runs["exact"])]]
    for name, text in _INDICES.items():
        shares = [_share(pairs[f"{name} at {tau}"]) for tau in (0.7, 0.9)]
        rows.append([text, *shares, pairs[f"{name} beyond exact"], *_cost(runs[name])])
    head = ("search", "pairs found at cosine >= 0.7", "at >= 0.9",
            "pairs the exact join lacks", "wall s", "CPU s", "peak MB")  # fmt: skip
    return f"{table(head, rows)}\n\n{results.source('cifar10-copies')}"


def _share(text: str) -> str:
    part, whole = (int(number) for number in text.split(" of "))
    share = "" if part == whole else f" ({100 * part / whole:.1f} %)"
    return f"{part:,} of {whole:,}{share}"


TABLES = (cifar10_thresholds, cifar10_detectors, cifar10_indices)
