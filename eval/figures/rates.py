"""Shares of images with their intervals, of independent images and of clustered ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from curate.stats import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Method = Literal["wilson", "clopper-pearson"]
CONFIDENCE = 0.95
DRAWS = 10_000
SEED = 0


@dataclass(frozen=True)
class Rate:
    """`hits` of `total`, and an interval of the share.

    Attributes:
        hits: images that count.
        total: images in all.
        low: lower end of the interval.
        high: upper end.
        confidence: of the interval, two-sided.
        method: how it was made: wilson, clopper-pearson or cluster-bootstrap.
        effect: design effect: the variance of the share as a multiple of what independent images
            would give; 1 for those.
    """

    hits: int
    total: int
    low: float
    high: float
    confidence: float = CONFIDENCE
    method: str = "wilson"
    effect: float = 1.0

    @property
    def value(self) -> float | None:
        """The share; of no image it is not known."""
        return self.hits / self.total if self.total else None

    @property
    def known(self) -> float:
        """The share.

        Raises:
            ValueError: there are no images.
        """
        if not self.total:
            raise ValueError("a share of no images is not known")
        return self.hits / self.total

    def draw(self, generator: np.random.Generator, draws: int) -> NDArray[np.float64]:
        """Shares (draws,) of other sets of as many images, resampled from these.

        A resampled mean of flags is a binomial draw; clustered images count as fewer.
        """
        size = max(1, round(self.total / self.effect))
        return generator.binomial(size, self.known, draws) / size


@dataclass(frozen=True)
class Number:
    """A number with its interval; `value` is None where it is not known.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end.
        confidence: of the interval, two-sided.
    """

    value: float | None
    low: float
    high: float
    confidence: float = CONFIDENCE


def rate(
    hits: int, total: int, *, confidence: float = CONFIDENCE, method: Method = "wilson"
) -> Rate:
    """A share of independent images with Wilson's or Clopper and Pearson's interval.

    Raises:
        ValueError: unless 0 <= hits <= total and 0 < confidence < 1, or another method.
    """
    if method not in get_args(Method):
        raise ValueError(f"method {method!r}: choose from {', '.join(get_args(Method))}")
    interval = wilson if method == "wilson" else clopper_pearson
    low, high = interval(hits, total, confidence)
    return Rate(hits, total, low, high, confidence, method)


def clopper_pearson(hits: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval that holds every share which neither one-sided binomial test rejects.

    Its coverage is never below `confidence`. Source: C. J. Clopper, E. S. Pearson, Biometrika 26
    (1934) 404-413. Nothing observed says nothing: (0, 1).

    Raises:
        ValueError: unless 0 <= hits <= total and 0 < confidence < 1.
    """
    from scipy.stats import beta

    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    if not 0 <= hits <= total:
        raise ValueError("clopper_pearson needs 0 <= hits <= total")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, total - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, total - hits)) if hits < total else 1.0
    return low, high


def clustered_rate(
    hits: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Rate:
    """A share of images that come in clusters, with a percentile interval over resampled clusters.

    Two clusters at least are needed to see how they differ; of fewer nothing is known: (0, 1).

    Args:
        hits: (k,) images that count, in each cluster.
        sizes: (k,) images in each cluster.
        confidence: of the interval.
        draws: how often the clusters are resampled.
        seed: of the draws.
    """
    count, total = int(hits.sum()), int(sizes.sum())
    if len(sizes) < 2:  # noqa: PLR2004 - see above
        return Rate(count, total, 0.0, 1.0, confidence, "cluster-bootstrap")
    sums = np.stack([hits, sizes], axis=1).astype(np.float64)
    drawn = resample(sums, draws, np.random.default_rng(seed))
    shares = drawn[:, 0] / drawn[:, 1]
    low, high = percentiles(shares, confidence)
    independent = (count / total) * (1 - count / total) / total
    effect = float(shares.var()) / independent if independent else 1.0
    # fewer than one image in effect, or more than there are, is noise of the draws
    effect = min(max(effect, 1.0), float(total))
    return Rate(count, total, low, high, confidence, "cluster-bootstrap", effect)


def resample(
    sums: NDArray[np.float64], draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Totals (draws, c) over as many clusters as there are, drawn with replacement.

    Clusters with equal rows are drawn together: how often each kind comes is one multinomial draw,
    so the work grows with the number of kinds and not with that of clusters.

    Args:
        sums: (k, c), what each cluster adds.
        draws: how many.
        generator: of random numbers.
    """
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    totals: NDArray[np.float64] = (
        generator.multinomial(len(sums), counts / len(sums), draws) @ kinds
    )
    return totals


def percentiles(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The ends between which the middle `confidence` of the values lie."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def weighted(parts: Sequence[tuple[float, Rate]]) -> Number:
    """A weighted sum of shares of different images; weights may be negative.

    The distance of each end from the estimate is the root of the summed squares of the weighted
    distances of the parts' own ends: G. Y. Zou, A. Donner, Statistics in Medicine 27 (2008)
    1693-1702. For a difference of two shares with Wilson's intervals that is R. G. Newcombe's
    hybrid score interval, Statistics in Medicine 17 (1998) 873-890, method 10.

    Raises:
        ValueError: no part, a part without images, or intervals of different confidence.
    """
    if len({part.confidence for _, part in parts}) != 1:
        raise ValueError("a sum of shares needs parts, with intervals of one confidence")
    value = math.fsum(weight * part.known for weight, part in parts)
    below, above = [], []
    for weight, part in parts:
        ends = (weight * (part.known - part.low), weight * (part.high - part.known))
        down, up = ends if weight >= 0 else ends[::-1]
        below.append(down)
        above.append(up)
    low, high = value - math.hypot(*below), value + math.hypot(*above)
    return Number(value, low, high, parts[0][1].confidence)
