"""What is said of a setting: pure functions of its rows (see `eval.records.SAMPLES`)."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from curate.errors import CurateError
from curate.stats import wilson
from eval.figures.rates import (
    CONFIDENCE,
    DRAWS,
    SEED,
    Method,
    Number,
    Rate,
    clustered_rate,
    percentiles,
    resample,
    weighted,
)
from eval.figures.rates import rate as share_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

SEVERITIES = 5
_LEAST = re.compile(r"deepfool|cw-l2(-\d+)?|fmn-(linf|l2)")
Norm = Literal["linf", "l2"]

PER_CLASS = pl.Schema(
    {
        "label": pl.Int32,
        "total": pl.Int64,
        "hits": pl.Int64,
        "recall": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
)
"""One row for each class, by its number: images, those that were right, the share, its interval."""


@dataclass(frozen=True)
class Median:
    """The median smallest perturbation, over the images that are right when not attacked.

    Attributes:
        value: in the unit of the norm; infinite where half the images or more were not broken.
        low: lower end of its interval.
        high: upper end; may be infinite.
        total: images.
        unbroken: those for which no perturbation was found.
        confidence: of the interval.
    """

    value: float
    low: float
    high: float
    total: int
    unbroken: int
    confidence: float


def accuracy(
    samples: pl.DataFrame, *, confidence: float = CONFIDENCE, method: Method = "wilson"
) -> Rate:
    """The share of images that are right; of clustered ones with an interval over clusters."""
    return share(samples, pl.col("correct"), confidence=confidence, method=method)


def share(
    samples: pl.DataFrame,
    hit: pl.Expr,
    *,
    confidence: float = CONFIDENCE,
    method: Method = "wilson",
) -> Rate:
    """The share of rows for which `hit` holds.

    Rows whose `group` is set are clustered, and a row without one is a cluster of its own; then the
    interval is a cluster bootstrap whatever `method` says, as both assume independent images.
    """
    if samples["group"].null_count() == samples.height:
        hits = int(samples.select(hit.sum()).item() or 0)
        return share_of(hits, samples.height, confidence=confidence, method=method)
    sums = cluster_sums(samples, [hit.alias("hits"), pl.lit(value=True).alias("sizes")])
    return clustered_rate(sums[:, 0], sums[:, 1], confidence=confidence)


def cluster_sums(samples: pl.DataFrame, columns: list[pl.Expr]) -> NDArray[np.int64]:
    """Sums (k, c) int64 of boolean or whole columns over clusters, in the order of the rows.

    Rows of one group are a cluster; a row without a group is one of its own.
    """
    cluster = pl.coalesce(
        pl.concat_str(pl.lit("group "), "group"), pl.concat_str(pl.lit("row "), "id")
    )
    found = samples.select(cluster.alias("_cluster"), *(c.cast(pl.Int64) for c in columns))
    summed = found.group_by("_cluster", maintain_order=True).agg(pl.all().sum())
    return summed.drop("_cluster").to_numpy().astype(np.int64)


def per_class(samples: pl.DataFrame, *, confidence: float = CONFIDENCE) -> pl.DataFrame:
    """Recall of each class that occurs, with Wilson intervals; rows of `PER_CLASS`."""
    counted = (
        samples.group_by("label")
        .agg(total=pl.len().cast(pl.Int64), hits=pl.col("correct").sum().cast(pl.Int64))
        .sort("label")
    )
    low, high = wilson(counted["hits"].to_numpy(), counted["total"].to_numpy(), confidence)
    recall = pl.col("hits") / pl.col("total")
    return counted.with_columns(
        recall.alias("recall"), pl.Series("low", low), pl.Series("high", high)
    ).select(PER_CLASS.names())


def mean_per_class_recall(samples: pl.DataFrame, *, confidence: float = CONFIDENCE) -> Number:
    """The unweighted mean of the recalls of the classes that occur (see `rates.weighted`)."""
    counted = per_class(samples, confidence=confidence)
    if not counted.height:
        return Number(None, 0.0, 1.0, confidence)
    weight = 1 / counted.height
    pairs = counted.select("hits", "total").iter_rows()
    rates = [(weight, share_of(hits, total, confidence=confidence)) for hits, total in pairs]
    return weighted(rates)


def attack_success(samples: pl.DataFrame, *, confidence: float = CONFIDENCE) -> Rate:
    """Of the images that are right when not attacked, the share that the attack made wrong.

    Raises:
        CurateError: the setting has no attack.
    """
    return share(right_before(samples), ~pl.col("correct"), confidence=confidence)


def right_before(samples: pl.DataFrame) -> pl.DataFrame:
    """The rows of images that are right when not attacked.

    Raises:
        CurateError: the setting has no attack.
    """
    if samples["clean_pred"].null_count():
        raise CurateError("these rows are of no attack: they do not say what was predicted before")
    return samples.filter(pl.col("clean_pred") == pl.col("label"))


def finds_least(attack: str) -> bool:
    """Does an attack look for the least perturbation? Others stop at whatever is in the ball."""
    return _LEAST.fullmatch(attack) is not None


def median_perturbation(
    samples: pl.DataFrame, norm: Norm, *, confidence: float = CONFIDENCE
) -> Median:
    """The median smallest perturbation that breaks an image, of a minimum-norm attack.

    Images that are wrong without an attack are left out. Those that are right at the radius may be
    broken beyond it, at the norm that is stated; where that is null or infinite, nothing was found.
    The ends of the interval are order statistics: the k-th smallest where k is the quantile of
    Binomial(n, 1/2), which assumes no distribution.

    Args:
        samples: rows of an attack for the least perturbation (see `finds_least`).
        norm: linf (in 255ths) or l2 (in units of the pixel range).
        confidence: at least that of the interval.

    Raises:
        CurateError: no attack, or the norm of an image that is wrong is null.
    """
    from scipy.stats import binom

    rows = right_before(samples)
    if rows.filter(~pl.col("correct"))[norm].null_count():
        raise CurateError(f"these rows do not state the {norm} norm of what broke an image")
    broken = rows.filter(pl.col(norm).is_finite())
    total, unbroken = rows.height, rows.height - broken.height
    if not total:
        return Median(math.nan, 0.0, math.inf, 0, 0, confidence)
    sizes = np.append(np.sort(broken[norm].to_numpy().astype(np.float64)), [math.inf] * unbroken)
    lower, upper = sizes[(total - 1) // 2], sizes[total // 2]
    value = float(upper if math.isinf(upper) else (lower + upper) / 2)
    rank = int(binom.ppf((1 - confidence) / 2, total, 0.5))
    low = float(sizes[rank - 1]) if rank else 0.0
    high = float(sizes[total - rank]) if rank else math.inf
    return Median(value, low, high, total, unbroken, confidence)


def typed_word_rate(samples: pl.DataFrame, *, confidence: float = CONFIDENCE) -> Rate:
    """The share of images that are predicted as the class that is written on them.

    Raises:
        CurateError: an image has no word on it.
    """
    if samples["word"].null_count():
        raise CurateError("these rows are of no typographic set: images have no word on them")
    return share(samples, pl.col("pred") == pl.col("word"), confidence=confidence)


def paired_difference(
    after: pl.DataFrame, before: pl.DataFrame, *, confidence: float = CONFIDENCE
) -> Number:
    """Accuracy after less accuracy before, on the same images: the relative robustness.

    The interval is R. G. Newcombe's for paired shares, Statistics in Medicine 17 (1998) 2635-2650,
    method 10, which is of use also where no image changed; of clustered images it is a bootstrap
    over clusters.

    Args:
        after: rows with a change of the model, or under a shift.
        before: rows of the same images without it.
        confidence: of the interval.

    Raises:
        CurateError: the images are not the same, or there are none.
    """
    pairs = after.select("id", "group", a="correct").join(
        before.select("id", b="correct"), on="id", how="full", coalesce=True
    )
    if not pairs.height or pairs["a"].null_count() or pairs["b"].null_count():
        raise CurateError("a paired difference needs rows of the same images, at least one")
    a, b = pl.col("a"), pl.col("b")
    if pairs["group"].null_count() < pairs.height:
        sums = cluster_sums(
            pairs.sort("id"), [a, b.alias("b"), pl.lit(value=True).alias("n")]
        ).astype(np.float64)
        drawn = resample(sums, DRAWS, np.random.default_rng(SEED))
        low, high = percentiles((drawn[:, 0] - drawn[:, 1]) / drawn[:, 2], confidence)
        value = float((sums[:, 0] - sums[:, 1]).sum() / sums[:, 2].sum())
        return Number(value, low, high, confidence)
    cells = pairs.select((a & b).sum(), (a & ~b).sum().alias("1"), (~a & b).sum().alias("2")).row(0)
    return _newcombe(int(cells[0]), int(cells[1]), int(cells[2]), pairs.height, confidence)


def _newcombe(both: int, first: int, second: int, total: int, confidence: float) -> Number:
    """The difference of two paired shares: right in both, in one only, of so many."""
    neither = total - both - first - second
    x, y = both + first, both + second
    (low_x, high_x), (low_y, high_y) = wilson(x, total, confidence), wilson(y, total, confidence)
    p, q = x / total, y / total
    product = float(both * neither - first * second)
    cross = max(product - total / 2, 0.0) if product > 0 else product
    margins = x * y * (total - x) * (total - y)
    phi = cross / math.sqrt(margins) if margins else 0.0
    down, up = (p - low_x, high_y - q), (high_x - p, q - low_y)
    low = p - q - math.sqrt(down[0] ** 2 - 2 * phi * down[0] * down[1] + down[1] ** 2)
    high = p - q + math.sqrt(up[0] ** 2 - 2 * phi * up[0] * up[1] + up[1] ** 2)
    return Number(p - q, low, high, confidence)


def worst_of_groups(samples: pl.DataFrame) -> pl.DataFrame:
    """One row of each group: the one with the least margin; `group` becomes null.

    An anchor frame with its neighbours (pm10) is right if it is right on all of them; labels may
    differ between frames that show several animals. It is overlap if one of its frames is, unknown
    if the split of one is, and in the control split if all are.
    Source: V. Shankar et al., "Do image classifiers generalize across time?", ICCV 2021.

    Raises:
        CurateError: a row has no group.
    """
    if samples["group"].null_count():
        raise CurateError("the worst of a group needs a group in every row")
    has = {name: (pl.col("split") == name).any() for name in ("overlap", "unknown")}
    split = (
        pl.when(has["overlap"])
        .then(pl.lit("overlap"))
        .when(has["unknown"])
        .then(pl.lit("unknown"))
        .otherwise(pl.col("split").first())
    )
    parts = samples.group_by("group").agg(split=split, control=pl.col("control").min())
    # a margin of 0 may be right or wrong, so wrong ones come first
    worst = samples.sort("correct", "margin", "id").unique(
        "group", keep="first", maintain_order=True
    )
    joined = worst.drop("split", "control").join(parts, on="group").sort("group")
    return joined.with_columns(group=pl.lit(None, pl.String)).select(samples.columns)


def flip_rate(
    samples: pl.DataFrame,
    *,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Number:
    """The mean over sequences of the share of frames that are predicted otherwise.

    Which frame each is compared with (the first one for noise, else the one before) was decided
    when `comparisons` and `flips` were counted. The interval resamples sequences.
    Source: D. Hendrycks, T. Dietterich, ICLR 2019, section 4.3.

    Raises:
        CurateError: rows of no perturbation sequences, or a sequence without a comparison.
    """
    frames = samples.select("comparisons", "flips")
    if sum(frames.null_count().row(0)) or (frames["comparisons"] < 1).any():
        raise CurateError("these rows count no flips: they are of no perturbation sequences")
    if not frames.height:
        return Number(None, 0.0, 1.0, confidence)
    shares = (frames["flips"] / frames["comparisons"]).to_numpy()
    drawn = resample(shares[:, None], draws, np.random.default_rng(seed))[:, 0]
    low, high = percentiles(drawn / frames.height, confidence)
    return Number(float(shares.mean()), low, high, confidence)


def mean_flip_rate(rates: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """mFR: the mean over kinds of perturbation of a flip rate over that of a reference model.

    Published figures divide by AlexNet's; measure torchvision's alexnet on the same sequences to
    get them. Without a reference the plain mean of the rates is what can be said.
    Source: D. Hendrycks, T. Dietterich, ICLR 2019, section 4.3.

    Raises:
        CurateError: no kinds, or the reference lacks one or never flips on it.
    """
    return _mean_ratio(rates, reference, "flip rate")


def alexnet_errors() -> dict[str, float]:
    """AlexNet's mean top-1 error over severities on each of ImageNet-C's fifteen corruptions."""
    text = (
        resources.files("eval.figures").joinpath("data", "alexnet.json").read_text(encoding="utf-8")
    )
    errors: dict[str, float] = json.loads(text)["errors"]
    return errors


def corruption_errors(accuracies: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """The mean error over the five severities of each corruption.

    Args:
        accuracies: accuracy by (corruption, severity).

    Raises:
        CurateError: a corruption lacks a severity, or has others than 1 to 5.
    """
    found: dict[str, dict[int, float]] = {}
    for (name, severity), value in accuracies.items():
        found.setdefault(name, {})[severity] = 1 - value
    wanted = set(range(1, SEVERITIES + 1))
    for name, errors in found.items():
        if set(errors) != wanted:
            raise CurateError(
                f"corruption {name}: has severities {sorted(errors)}; its error needs 1 to 5"
            )
    return {name: math.fsum(errors.values()) / SEVERITIES for name, errors in found.items()}


def mean_corruption_error(
    errors: Mapping[str, float], reference: Mapping[str, float] | None = None
) -> float:
    """mCE: the mean over corruptions of an error over that of a reference model, AlexNet's.

    Source: D. Hendrycks, T. Dietterich, ICLR 2019, section 4.1. AlexNet's errors are of ImageNet-C
    on disk; of another data set, give a model's errors on that.

    Args:
        errors: from `corruption_errors`.
        reference: likewise, of the reference model; None: AlexNet on ImageNet-C, and then all of
            its fifteen corruptions are wanted.

    Raises:
        CurateError: a corruption lacks, or the reference makes no error on it.
    """
    if reference is None:
        reference = alexnet_errors()
        lacking = sorted(set(reference) - set(errors))
        if lacking:
            raise CurateError(f"mCE needs all fifteen corruptions; {', '.join(lacking)} lack")
        errors = {name: errors[name] for name in reference}
    return _mean_ratio(errors, reference, "error")


def suite_mean(accuracies: Mapping[str, Rate], without: Collection[str] = ()) -> Number:
    """The unweighted mean over data sets (see `eval.figures.rates.weighted`).

    TeCoA's average is over all sixteen; without hateful memes it is over fifteen, and without PCAM,
    which has two classes too, over fourteen.

    Raises:
        CurateError: a set to leave out is none of them, or none is left.
    """
    strange = sorted(set(without) - set(accuracies))
    if strange:
        raise CurateError(f"{', '.join(strange)}: not among the sets that were measured")
    kept = [rate for name, rate in accuracies.items() if name not in without]
    if not kept:
        raise CurateError("a mean over data sets needs at least one")
    return weighted([(1 / len(kept), rate) for rate in kept])


def _mean_ratio(values: Mapping[str, float], reference: Mapping[str, float], what: str) -> float:
    if not values:
        raise CurateError(f"a mean {what} needs at least one kind")
    for name in values:
        if not reference.get(name):
            raise CurateError(f"{name}: the reference has no {what} above 0 to divide by")
    return math.fsum(value / reference[name] for name, value in values.items()) / len(values)
