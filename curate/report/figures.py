"""The numbers of a report: pure functions of arrays and of split.json.

Thresholds are compared as float32 and inclusively, as the decisions are: score >= float32(tau).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.stats import wilson

Scores = NDArray[np.float32]

# Widths a person can read off an axis.
_NICE = (0.0005, 0.001, 0.002, 0.0025, 0.005, 0.01, 0.02, 0.025, 0.05, 0.1, 0.2, 0.25)
_MAX_BINS = 64
_SWEEP_POINTS = 120
_SWEEP_ROWS = 24
# The tallest bar over the median non-empty bar at which a linear axis hides the small ones.
_LOG_RATIO = 20


@dataclass(frozen=True)
class Share:
    """`hits` of `total` images, with the 95 % Wilson interval of the share."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; 0 of 0 is 0."""
        return self.hits / self.total if self.total else 0.0


@dataclass(frozen=True)
class Sameness:
    """Overlap images by how alike the most alike of their matches is.

    Attributes:
        bytes: the stored files are equal.
        pixels: they are not, but decode to equal pixels.
        score: they match by their score, or by a person's word, alone.
    """

    bytes: int
    pixels: int
    score: int


@dataclass(frozen=True)
class Bin:
    """Images whose nearest score lies in [low, high); the last bin includes `high`."""

    low: float
    high: float
    count: int
    flagged: bool


@dataclass(frozen=True)
class Histogram:
    """Bins from the lowest score to 1 with an edge on the threshold, and what is not in them."""

    bins: tuple[Bin, ...]
    below_floor: int
    log: bool


@dataclass(frozen=True)
class SweepPoint:
    """The images that a threshold would flag."""

    threshold: float
    share: Share


@dataclass(frozen=True)
class Group:
    """A row of a folded table: a shard or a class."""

    name: str
    total: int
    clean: int
    overlap: int
    unknown: int
    share: Share


def share(hits: int, total: int) -> Share:
    """A share with its 95 % Wilson interval."""
    low, high = wilson(hits, total)
    return Share(hits, total, low, high)


def nearest_scores(nearest: pl.DataFrame, decisions: pl.DataFrame) -> Scores:
    """Best stored scores (n,) float32 of the test images that could be read, ascending."""
    known = decisions.filter(pl.col("decision") != "unknown").select("id")
    rows = nearest.join(known, left_on="test_id", right_on="id", how="semi")
    return np.sort(rows["score"].drop_nulls().to_numpy().astype(np.float32))


def nice_step(span: float, most: int) -> float:
    """The smallest readable step that covers `span` in at most `most` steps."""
    return next((step for step in _NICE if span / step <= most + 1e-9), 0.5)


def bin_edges(low: float, threshold: float) -> NDArray[np.float64]:
    """Ascending float32 edges from `low` to 1, one of them exactly float32(threshold).

    Edges are the threshold plus whole multiples of a readable step, so the bar colours change
    exactly at the threshold; the outermost bins are cut off at `low` and at 1 and may be narrower.
    A threshold of 1 gets one bin above it, for what it flags.
    """
    step = nice_step(1 - low, _MAX_BINS)
    tau = float(np.float32(threshold))
    below = [threshold - i * step for i in range(1, math.ceil((threshold - low) / step) + 1)]
    above = [threshold + i * step for i in range(1, math.ceil((1 - threshold) / step) + 1)]
    slack = step / 1000
    inner = [edge for edge in below if edge > low + slack]
    outer = [edge for edge in above if edge < 1 - slack]
    top = 1.0 if tau < 1 else tau + step
    edges = np.array([min(low, tau), *inner, tau, *outer, top], np.float32)
    return np.unique(edges).astype(np.float64)


def histogram(scores: Scores, total: int, floor: float, threshold: float) -> Histogram:
    """Counts of nearest scores; `total` minus them have no stored match.

    Args:
        scores: (n,) float32, best score of each image that has one.
        total: images compared, n and those without a stored match together.
        floor: lowest similarity that is stored.
        threshold: scores at or above it are flagged.
    """
    lowest = min(floor, float(scores.min())) if scores.size else floor
    edges = bin_edges(lowest, threshold)
    # Rounding may lift the cosine of two equal images a few ulp above 1.
    counts, _ = np.histogram(np.clip(scores.astype(np.float64), edges[0], edges[-1]), edges)
    tau = float(np.float32(threshold))
    bins = tuple(
        Bin(float(low), float(high), int(count), bool(low >= tau))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    filled = counts[counts > 0]
    log = bool(filled.size > 1 and filled.max() > _LOG_RATIO * np.median(filled))
    return Histogram(bins, total - int(scores.size), log)


def flagged(scores: Scores, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of the ascending `scores` are >= each threshold, compared as float32."""
    below = np.searchsorted(scores, thresholds.astype(np.float32), side="left")
    return (scores.size - below).astype(np.int64)


def sweep(scores: Scores, total: int, thresholds: NDArray[np.float64]) -> tuple[SweepPoint, ...]:
    """The flagged share at each threshold, with its Wilson interval."""
    hits = flagged(scores, thresholds)
    return tuple(
        SweepPoint(float(threshold), share(int(count), total))
        for threshold, count in zip(thresholds, hits, strict=True)
    )


def sweep_curve(floor: float, threshold: float) -> NDArray[np.float64]:
    """Thresholds for the curve: evenly spaced from the floor to 1, and the one in use."""
    grid = np.linspace(min(floor, threshold), 1.0, _SWEEP_POINTS + 1)
    return np.unique(np.append(grid, threshold))


def sweep_rows(floor: float, threshold: float) -> NDArray[np.float64]:
    """Thresholds for the table: readable steps from the floor to 1, and the one in use."""
    low = min(floor, threshold)
    step = nice_step(1 - low, _SWEEP_ROWS)
    first = math.ceil(low / step - 1e-9)
    steps = np.round(np.arange(first, round(1 / step) + 1) * step, 6)
    return np.unique(np.append(steps[steps <= 1], [low, threshold]))


def groups(rows: Mapping[str, Mapping[str, int]]) -> tuple[Group, ...]:
    """Shards or classes of split.json in their order there; shares are of the readable images."""
    return tuple(_group(name, row) for name, row in rows.items())


def _group(name: str, row: Mapping[str, int]) -> Group:
    readable = row["in"] - row["unknown"]
    return Group(
        name=name,
        total=row["in"],
        clean=row.get("clean", readable - row["overlap"]),
        overlap=row["overlap"],
        unknown=row["unknown"],
        share=share(row["overlap"], readable),
    )


def by_share(rows: tuple[Group, ...]) -> tuple[Group, ...]:
    """Highest share first; ties by more overlap, then by name."""
    return tuple(sorted(rows, key=lambda row: (-row.share.value, -row.overlap, row.name)))


def sameness() -> pl.Expr:
    """Of each pair "bytes", "pixels" or null; older artifacts know of equal files only."""
    equal = pl.col("test_sha256") == pl.col("train_sha256")
    return pl.when(equal).then(pl.lit("bytes")).otherwise("same").alias("same")


def count_same(pairs: pl.DataFrame, decisions: pl.DataFrame) -> Sameness:
    """Overlap images that have a train image of the same bytes, of the same pixels, and others."""
    overlap = decisions.filter(pl.col("decision") == "overlap").select("id")
    found = pairs.select("test_id", sameness()).drop_nulls()
    # "bytes" comes before "pixels", so the least of an image's levels is the most alike
    best = found.group_by("test_id").agg(pl.col("same").min())
    levels = overlap.join(best, left_on="id", right_on="test_id")["same"]
    equal, alike = (int((levels == name).sum()) for name in ("bytes", "pixels"))
    return Sameness(equal, alike, overlap.height - equal - alike)


def reasons(decisions: pl.DataFrame) -> list[tuple[str, str, int]]:
    """(decision, reason, images), most frequent first."""
    counted = decisions.group_by("decision", "reason").len()
    ordered = counted.sort(["len", "decision", "reason"], descending=[True, False, False])
    return [(str(d), str(r), int(n)) for d, r, n in ordered.iter_rows()]


def conserved(counts: Mapping[str, int], shards: tuple[Group, ...]) -> bool:
    """Check in = clean + overlap + unknown, in total, in every shard, and over the shards."""
    parts = ("clean", "overlap", "unknown")
    whole = counts["in"] == sum(counts[part] for part in parts)
    rows = all(row.total == row.clean + row.overlap + row.unknown for row in shards)
    sums = all(counts[part] == sum(getattr(row, part) for row in shards) for part in parts)
    return whole and rows and (sums or not shards)
