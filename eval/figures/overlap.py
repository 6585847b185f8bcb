"""How much an accuracy owes to test images that have a near-duplicate in the pretraining set.

The images of a setting are clean or overlap; All are both together. Images whose split is unknown
are left out of all figures here and counted.
Source of the procedure: A. Radford et al. 2021 (CLIP), section 5 and appendix C; the control by
random removal, the power and the change of effective robustness are added to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from curate.errors import CurateError
from eval.figures.effective import DRAWS as REFITS
from eval.figures.effective import resampled_predictions
from eval.figures.metrics import accuracy, cluster_sums
from eval.figures.rates import (
    CONFIDENCE,
    DRAWS,
    SEED,
    Number,
    Rate,
    clopper_pearson,
    percentiles,
    resample,
    weighted,
)
from eval.records import part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from eval.figures.effective import Baseline

OVERLAP_CONFIDENCE = 0.995
LEVEL = 0.05
POWER = 0.8

Adjustment = Literal["holm", "bonferroni"]


@dataclass(frozen=True)
class RandomRemoval:
    """What the accuracy does when as many random images of the same classes go.

    Attributes:
        mean: expected acc(All) - acc(rest), exactly.
        low: lower end of the range in which the middle 95 % of the draws lie.
        high: upper end.
        p: share of draws that lie at least as far from `mean` as what was observed, counting that
            itself as one of them.
        draws: how many.
    """

    mean: float
    low: float
    high: float
    p: float
    draws: int


@dataclass(frozen=True)
class Comparison:
    """One setting on its splits.

    Attributes:
        full: accuracy on clean and overlap images together (All).
        clean: on the clean ones.
        overlap: on the others.
        control: on the stored control split, one random removal; None: the split has none.
        unknown: images left out, as their split is unknown.
        change: acc(All) - acc(Clean), what the overlap adds.
        exact_low: lower end of the 99.5 % Clopper-Pearson interval of acc(Overlap).
        exact_high: upper end.
        p: of the one-tailed binomial test that acc(Overlap) is not above acc(Clean); None where
            there is no overlap, or nothing clean.
        visible: smallest change that this test would have seen at 5 % in four of five cases; None
            where even an overlap that is all right would not be significant.
        random: removal of random images of the same classes; None where there is no overlap.
    """

    full: Rate
    clean: Rate
    overlap: Rate
    control: Rate | None
    unknown: int
    change: Number
    exact_low: float
    exact_high: float
    p: float | None
    visible: float | None
    random: RandomRemoval | None

    @property
    def contamination(self) -> float:
        """The share of the images that are overlap."""
        return self.overlap.total / self.full.total if self.full.total else 0.0


@dataclass(frozen=True)
class SweepPoint:
    """What a threshold would have made of a setting.

    Attributes:
        threshold: scores at or above it are overlap.
        clean: accuracy on the images below it.
        overlap: accuracy on the others.
        change: acc(All) - acc(Clean).
    """

    threshold: float
    clean: Rate
    overlap: Rate
    change: Number


def compare(samples: pl.DataFrame, *, draws: int = DRAWS, seed: int = SEED) -> Comparison:
    """Compare a setting's accuracy on all images with that on its splits.

    Args:
        samples: rows of one setting, joined with a split.
        draws: random removals, and resamplings of clusters.
        seed: of both.

    Raises:
        CurateError: the rows have no split, or none of them is clean or overlap.
    """
    clean, overlap = part(samples, "clean"), part(samples, "overlap")
    known = samples.filter(pl.col("split") != "unknown")
    if not known.height:
        raise CurateError("the split is empty: no image is clean or overlap")
    on_clean, on_overlap = accuracy(clean), accuracy(overlap)
    has_control = known["control"].null_count() == 0
    low, high = clopper_pearson(on_overlap.hits, on_overlap.total, OVERLAP_CONFIDENCE)
    change = _change(known, on_clean, on_overlap, draws, seed)
    return Comparison(
        full=accuracy(known),
        clean=on_clean,
        overlap=on_overlap,
        control=accuracy(part(known, "control")) if has_control else None,
        unknown=samples.height - known.height,
        change=change,
        exact_low=low,
        exact_high=high,
        p=_binomial(on_clean, on_overlap),
        visible=_visible(on_clean, on_overlap),
        random=random_removal(known, draws=draws, seed=seed)
        if on_clean.total and on_overlap.total
        else None,
    )


def _change(known: pl.DataFrame, clean: Rate, overlap: Rate, draws: int, seed: int) -> Number:
    """acc(All) - acc(Clean), which is c (acc(Overlap) - acc(Clean)), c the share of overlap.

    All and Clean share their clean images, so it is this difference, of different images, that has
    an interval; c is taken as it is. Of clustered images whole clusters are resampled.
    """
    if not overlap.total:
        return Number(0.0, 0.0, 0.0)
    if not clean.total:
        return Number(None, -1.0, 1.0)
    if known["group"].null_count() == known.height:
        c = overlap.total / known.height
        return weighted([(c, overlap), (-c, clean)])
    right, kept = pl.col("correct"), pl.col("split") == "clean"
    columns = [right, (right & kept).alias("k"), kept.alias("n"), pl.lit(value=True).alias("all")]
    sums = cluster_sums(known, columns).astype(np.float64)
    drawn = resample(sums, draws, np.random.default_rng(seed))
    drawn = drawn[drawn[:, 2] > 0]
    low, high = percentiles(drawn[:, 0] / drawn[:, 3] - drawn[:, 1] / drawn[:, 2], CONFIDENCE)
    total = sums.sum(axis=0)
    return Number(float(total[0] / total[3] - total[1] / total[2]), low, high)


def _binomial(clean: Rate, overlap: Rate) -> float | None:
    """P(as many or more right | n overlap images, each right with acc(Clean))."""
    from scipy.stats import binom

    if not clean.total or not overlap.total:
        return None
    return float(binom.sf(overlap.hits - 1, overlap.total, clean.known))


def _visible(clean: Rate, overlap: Rate) -> float | None:
    """The change at which the test rejects with probability `POWER` at level `LEVEL`.

    The test rejects from the least k with P(X >= k | acc(Clean)) <= LEVEL on. The accuracy q at
    which P(X >= k | q) = POWER is a quantile of Beta(k, n - k + 1).
    """
    from scipy.stats import beta, binom

    size = overlap.total
    if not clean.total or not size:
        return None
    least = int(binom.isf(LEVEL, size, clean.known)) + 1
    if least > size:
        return None
    reached = float(beta.ppf(POWER, least, size - least + 1))
    return size / (size + clean.total) * (reached - clean.known)


def random_removal(known: pl.DataFrame, *, draws: int = DRAWS, seed: int = SEED) -> RandomRemoval:
    """Remove, class by class, as many random images as are overlap, many times over.

    Which images of a class go does not matter, only how many of them are right, and that is a
    hypergeometric draw. Images of one cluster are drawn as if they were independent.

    Args:
        known: rows that are clean or overlap, some of each.
        draws: how many.
        seed: of the draws.
    """
    classes = (
        known.group_by("label")
        .agg(
            right=pl.col("correct").sum().cast(pl.Int64),
            wrong=(~pl.col("correct")).sum().cast(pl.Int64),
            gone=(pl.col("split") == "overlap").sum().cast(pl.Int64),
        )
        .sort("label")
        .select("right", "wrong", "gone")
        .to_numpy()
    )
    right, wrong, gone = classes.T
    hits, total, left = int(right.sum()), known.height, known.height - int(gone.sum())
    generator = np.random.default_rng(seed)
    removed = np.zeros(draws, dtype=np.int64)
    for good, bad, number in classes[gone > 0]:
        removed += generator.hypergeometric(good, bad, number, draws)
    moved = hits / total - (hits - removed) / left
    expected = hits / total - (hits - math.fsum(gone * right / (right + wrong))) / left
    kept = known.filter((pl.col("split") == "clean") & pl.col("correct")).height
    observed = hits / total - kept / left
    # draws that equal what was observed must not be lost to rounding
    far = np.abs(moved - expected) >= abs(observed - expected) - 1e-12
    low, high = percentiles(moved, CONFIDENCE)
    return RandomRemoval(expected, low, high, float((1 + far.sum()) / (1 + draws)), draws)


def adjust(
    values: Mapping[str, float | None], method: Adjustment = "holm"
) -> dict[str, float | None]:
    """P values adjusted for the number of settings that were tested; None stays None.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.

    Raises:
        ValueError: another method.
    """
    if method not in {"holm", "bonferroni"}:
        raise ValueError(f"method {method!r}: choose from holm, bonferroni")
    tested = sorted((value, name) for name, value in values.items() if value is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(values)
    highest = 0.0
    for rank, (value, name) in enumerate(tested):
        factor = len(tested) - (rank if method == "holm" else 0)
        highest = max(highest, min(1.0, factor * value))
        adjusted[name] = highest
    return adjusted


def effective_change(
    baseline: Baseline,
    ordinary: Comparison,
    shifted: Comparison,
    *,
    draws: int = REFITS,
    seed: int = SEED,
) -> Number:
    """Effective robustness on all images less that on clean images.

    With rho = acc_y - beta(acc_x), on all images of both sets and on the clean ones of both.
    Resampled are the models of the baseline and the clean and the overlap images of both sets.

    Args:
        baseline: from the ordinary to the shifted set.
        ordinary: the setting of the ordinary set (x), on its splits.
        shifted: the setting of the shifted set (y).
        draws: how many.
        seed: of the draws.

    Raises:
        CurateError: one of the sets has nothing clean.
    """
    if not ordinary.clean.total or not shifted.clean.total:
        raise CurateError("nothing is clean, so there is no effective robustness without overlap")
    generator = np.random.default_rng(seed)
    x, y = (_draw_both(item, generator, draws) for item in (ordinary, shifted))
    expected = resampled_predictions(baseline, x, generator)
    change = (y[:, 0] - expected[:, 0]) - (y[:, 1] - expected[:, 1])
    low, high = percentiles(change[np.isfinite(change)], CONFIDENCE)
    rho = [
        b.known - baseline.predict(a.known)
        for a, b in ((ordinary.full, shifted.full), (ordinary.clean, shifted.clean))
    ]
    return Number(rho[0] - rho[1], low, high)


def _draw_both(item: Comparison, generator: np.random.Generator, draws: int) -> NDArray[np.float64]:
    """Accuracies (draws, 2) on all and on clean images, of resampled ones."""
    clean = item.clean.draw(generator, draws)
    if not item.overlap.total:
        return np.stack([clean, clean], axis=1)
    c = item.contamination
    return np.stack([(1 - c) * clean + c * item.overlap.draw(generator, draws), clean], axis=1)


def sweep(
    samples: pl.DataFrame, decisions: pl.DataFrame, thresholds: Iterable[float]
) -> tuple[SweepPoint, ...]:
    """What each threshold would have made of a setting, from the stored scores alone.

    An image without a score has no match at or above the floor of the search, so thresholds should
    not lie below that. What people said of single pairs is not heard here.

    Args:
        samples: rows of one setting.
        decisions: id, decision and score of a dedup run; unknown images are left out.
        thresholds: in any order; scores are compared as float32 and inclusively.

    Raises:
        CurateError: an image has no decision, or none has a known one.
    """
    said = decisions.select("id", "decision", "score")
    rows = samples.join(said, on="id", how="left", maintain_order="left")
    lost = rows.filter(pl.col("decision").is_null())["id"]
    if lost.len():
        raise CurateError(f"{lost[0]} has no decision; give the split of the set evaluated")
    rows = rows.filter(pl.col("decision") != "unknown")
    if not rows.height:
        raise CurateError("the split is empty: no image is clean or overlap")
    points = []
    for threshold in sorted(set(thresholds)):
        flagged = (pl.col("score") >= pl.lit(np.float32(threshold))).fill_null(value=False)
        split = pl.when(flagged).then(pl.lit("overlap")).otherwise(pl.lit("clean"))
        known = rows.with_columns(split=split)
        clean, overlap = accuracy(part(known, "clean")), accuracy(part(known, "overlap"))
        change = _change(known, clean, overlap, DRAWS, SEED)
        points.append(SweepPoint(threshold, clean, overlap, change))
    return tuple(points)
