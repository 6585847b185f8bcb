"""The quick suite on the tiny CLIP."""

from typing import Any

from benchmarks.figures.markdown import table, wrapped
from benchmarks.figures.results import Results

_SHOWN = (
    "cifar10",
    "cifar10.typographic",
    "cifar10.fog.3",
    "cifar10.motion_blur.3",
    "cifar10.gaussian_noise.5",
)
"""Beside these, all attacks."""
_SPLITS = ("all", "clean", "overlap", "control")


def quick_suite(results: Results) -> str:
    """Accuracy on the parts of the test set, what the overlap adds, and its significance."""
    found = results["eval-quick"]
    rows = [
        [one["setting"], *(f"{100 * one[split]:.1f}" for split in _SPLITS), _change(one["change"]),
         f"{one['p_adjusted']:.2g}"]
        for one in found["settings"] if one["setting"] in _SHOWN or "@" in one["setting"]
    ]  # fmt: skip
    head = ("setting", *_SPLITS, "all - clean (95 %)", "p")
    sentence = wrapped(found["sentence"].replace("\N{MINUS SIGN}", "-"))
    return f"{table(head, rows)}\n\n{sentence}\n\n{results.source('eval-quick')}"


def _change(change: dict[str, Any]) -> str:
    value, low, high = (100 * change[key] for key in ("value", "low", "high"))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


TABLES = (quick_suite,)
