"""`curate eval overlap`: what near-duplicates add to each figure of a folder of results."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from curate.errors import CurateError
from eval.figures.overlap import adjust, compare
from eval.figures.overlap_words import sentence
from eval.results import read_results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eval.figures.overlap import Adjustment, Comparison


def overlap_of(
    root: Path, method: Adjustment = "holm", only: Sequence[Path] | None = None
) -> dict[str, Any]:
    """Every result that was joined with a split, compared on its parts, and the closing sentence.

    Args:
        root: results of any models, in folders below.
        method: how p values are adjusted for the number of settings.
        only: the folders of the results that are meant; None: all below `root`.

    Raises:
        CurateError: there are no results, or none was joined with a split.
    """
    found: dict[tuple[str, str], Comparison] = {}
    for result in read_results(root, only):
        is_part = result.setting.split not in (None, "full")
        if not is_part and not result.samples["split"].null_count():
            found[result.model, str(result.setting)] = compare(result.samples)
    if not found:
        raise CurateError(
            f"{root}: no result was joined with a split; run the evaluation again with --split "
            "NAME=FOLDER (what is measured is not measured again)"
        )
    names = {key: f"{key[0]} on {key[1]}" for key in found}
    adjusted = adjust({names[key]: item.p for key, item in found.items()}, method)
    return {
        "settings": [
            {"model": key[0], "setting": key[1]}
            | row_of(item)
            | {"p_adjusted": adjusted[names[key]]}
            for key, item in found.items()
        ],
        "adjusted_by": method,
        "sentence": sentence({names[key]: item for key, item in found.items()}, method),
    }


def row_of(item: Comparison) -> dict[str, Any]:
    """A comparison as it is stored, without what needs the others: the adjusted p value."""
    rates = {
        "all": item.full,
        "clean": item.clean,
        "overlap": item.overlap,
        "control": item.control,
    }
    return {
        **{name: None if rate is None else rate.value for name, rate in rates.items()},
        "images": {name: None if rate is None else rate.total for name, rate in rates.items()},
        "unknown": item.unknown,
        "contamination": item.contamination,
        "change": asdict(item.change),
        "overlap_low": item.exact_low,
        "overlap_high": item.exact_high,
        "p": item.p,
        "visible": item.visible,
        "random_removal": None if item.random is None else asdict(item.random),
    }
