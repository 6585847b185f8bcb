"""What a report is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from numpy.typing import NDArray

    from eval.figures.effective import Baseline
    from eval.results import Result


@dataclass(frozen=True)
class Split:
    """The dedup run that a data set was split by.

    Attributes:
        decisions: rows of `curate.tables.DECISIONS`.
        threshold: in use.
        floor: lowest score that is stored.
    """

    decisions: pl.DataFrame
    threshold: float
    floor: float


@dataclass(frozen=True)
class Shift:
    """Two settings between which there is a baseline.

    Attributes:
        x: word of the ordinary setting.
        y: word of the shifted one.
        baseline: accuracy on y that standard training gives.
    """

    x: str
    y: str
    baseline: Baseline


@dataclass(frozen=True)
class Example:
    """An image before and after an attack.

    Attributes:
        model: that was attacked.
        setting: word of the setting.
        id: of the image.
        label: its class, in words.
        before: class predicted before the attack, in words.
        after: class predicted after it, in words.
        clean: (H, W, 3) float32 in [0, 1].
        attacked: (H, W, 3) float32 in [0, 1].
    """

    model: str
    setting: str
    id: str
    label: str
    before: str
    after: str
    clean: NDArray[np.float32] = field(repr=False)
    attacked: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Inputs:
    """A finished evaluation.

    Attributes:
        results: of any models and settings.
        splits: by data set.
        shifts: with a baseline.
        examples: to be shown, in this order.
        command: that made the results.
        versions: of the libraries that matter.
    """

    results: tuple[Result, ...]
    splits: Mapping[str, Split] = field(default_factory=dict)
    shifts: tuple[Shift, ...] = ()
    examples: tuple[Example, ...] = ()
    command: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)


def check(inputs: Inputs) -> None:
    """Refuse what no report can be made of.

    Raises:
        CurateError: there are no results, one is there twice, results of one setting or of one
            model differ in what must be the same (see `eval.results.Result`), or the pictures of an
            example differ in shape or leave [0, 1].
    """
    if not inputs.results:
        raise CurateError("a report needs at least one result; run the evaluation first")
    keys = [(result.model, str(result.setting)) for result in inputs.results]
    for key in keys:
        if keys.count(key) > 1:
            raise CurateError(f"two results of {key[0]} on {key[1]}")
    _check_alike("setting", [(str(item.setting), item) for item in inputs.results])
    _check_alike("model", [(item.model, item) for item in inputs.results])
    for example in inputs.examples:
        pictures = (example.clean, example.attacked)
        fitting = all(p.ndim == 3 and p.shape[2] == 3 for p in pictures)  # noqa: PLR2004 - H, W, 3
        if not fitting or pictures[0].shape != pictures[1].shape:
            raise CurateError(
                f"example {example.id}: two pictures (H, W, 3) of one size are needed"
            )
        if not all(np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1 for p in pictures):
            raise CurateError(f"example {example.id}: pixels must lie within 0 and 1")


def _check_alike(name: str, results: list[tuple[str, Result]]) -> None:
    """Figures that stand side by side are of the same images, attack or weights."""
    stated: dict[str, Mapping[str, Any]] = {}
    for key, result in results:
        own = result.facts.get(name, {})
        first = stated.setdefault(key, own)
        odd = sorted(k for k in first.keys() | own.keys() if first.get(k) != own.get(k))
        if odd:
            raise CurateError(
                f"{name} {key}: results differ in {', '.join(odd)} and cannot stand side by side; "
                "run them again alike, or report them apart"
            )
