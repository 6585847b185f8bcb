"""Which pairs to show to people, so that few labels say much and every estimate is unbiased.

What is judged is a *unit*: an item that may be flagged, by its best pair, since precision is a
share of the flagged items. Units are put into zones of scores, and inside each zone some are drawn
at random. The draw goes by a digest of seed and item (permanent random numbers: B. Brewer, L. J.
Early, S. F. Joyce, 1972), which has three uses: a larger plan contains a smaller one, so labels
stay valid; whoever stops early has still judged a random sample of each zone; and the part of a
zone above any threshold was drawn at random too, so estimates are not bound to the zones' edges.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

STEP = 0.005
"""Thresholds and the edges of zones are multiples of it: equal in every run."""

PLAN = pl.Schema(
    {
        "order": pl.Int32,
        "test_id": pl.String,
        "train_id": pl.String,
        "score": pl.Float32,
        "zone": pl.Int32,
        "low": pl.Float64,
        "high": pl.Float64,
        "units": pl.Int64,
        "planned": pl.Int64,
        "inclusion": pl.Float64,
    }
)
"""One row per pair to judge, in the order in which to judge.

`zone` is 1 for the highest scores, low <= score < high; it holds `units`, `planned` of which are in
the plan, each with the chance `inclusion` of being drawn.
"""

_ABOVE = 4  # zones from the likely threshold up
_BELOW = 4
_LEAST = 5  # pairs of a zone, where it has so many
_SHARE_ABOVE = 2 / 3  # of the labels, as the precision of a threshold rests on what is above it
# What is expected of a zone before anybody has judged: share of copies, from the likely threshold
# away. It decides only where labels are spent, never what they say.
_GUESS_ABOVE = (0.80, 0.93, 0.97, 0.98)
_GUESS_BELOW = (0.50, 0.25, 0.10, 0.05)


@dataclass(frozen=True)
class Zone:
    """Units whose best score s is low <= s < high.

    Attributes:
        number: 1 has the highest scores.
        low: a multiple of STEP, or the floor.
        high: None: no end.
        units: how many there are.
        expected: share of copies that is expected or was seen.
        above: it lies at or above the likely threshold.
    """

    number: int
    low: float
    high: float | None
    units: int
    expected: float
    above: bool = True

    @property
    def spread(self) -> float:
        """Standard deviation of one unit's answer."""
        return float(np.sqrt(self.expected * (1 - self.expected)))


def grid(floor: float, *more: float) -> list[float]:
    """Thresholds from the floor to 1: the multiples of STEP, the floor itself, and others."""
    first = int(np.ceil(round(floor / STEP, 6)))
    steps = [round(step * STEP, 6) for step in range(first, round(1 / STEP) + 1)]
    return sorted({float(floor), *steps, *(value for value in more if value >= floor)})


def at_least(scores: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Which scores reach a threshold, compared as float32: (n,)."""
    return np.asarray(scores >= np.float32(threshold))


def zones(
    scores: NDArray[np.float32],
    floor: float,
    threshold: float,
    seen: Mapping[float, float] | None = None,
) -> list[Zone]:
    """Cut the units into zones, the highest first; the likely threshold is an edge.

    Above and below it the edges are those of equal steps of the cumulated square root of the
    frequency (T. Dalenius, J. L. Hodges, JASA 54 (1959) 88-101), so no zone is empty.

    Args:
        scores: of the units, all at or above the floor: (n,).
        floor: lowest score.
        threshold: near which most is asked.
        seen: share of copies among units judged so far, by the lower edge of their zone.
    """
    steps = grid(floor, threshold)
    below = [edge for edge in steps if edge < threshold]
    above = [edge for edge in steps if edge >= threshold]
    lows = _edges(scores, above, None, _ABOVE)[::-1]
    guesses = list(_GUESS_ABOVE[: len(lows)][::-1])
    lower = _edges(scores, below, threshold, _BELOW)[::-1] if below else []
    guesses += _GUESS_BELOW[: len(lower)]
    lows += lower
    found: list[Zone] = []
    high = None
    for low, guess in zip(lows, guesses, strict=True):
        units = _between(scores, low, high)
        if units:
            expected = (seen or {}).get(low, guess)
            found.append(Zone(len(found) + 1, low, high, units, expected, low >= threshold))
            high = low
    return found


def _between(scores: NDArray[np.float32], low: float, high: float | None) -> int:
    inside = at_least(scores, low)
    return int((inside if high is None else inside & ~at_least(scores, high)).sum())


def _edges(
    scores: NDArray[np.float32], lows: Sequence[float], end: float | None, count: int
) -> list[float]:
    """Lower edges of at most `count` zones that begin at some of `lows`, the lowest first."""
    highs = [*lows[1:], end]
    frequencies = [_between(scores, low, high) for low, high in zip(lows, highs, strict=True)]
    weights = np.cumsum(np.sqrt(frequencies))
    if not weights[-1]:
        return [lows[0]]
    before = np.concatenate([[0], weights[:-1]])
    piece = np.minimum(np.floor(before / weights[-1] * count).astype(int), count - 1)
    starts = np.flatnonzero(np.diff(piece, prepend=-1))
    return [lows[at] for at in starts.tolist()]


def allocate(of: Sequence[Zone], labels: int) -> list[int]:
    """How many units of each zone to judge, `labels` in all or every unit.

    Two thirds are for the zones at or above the likely threshold, on which its precision rests, and
    one for those below, which say whether it could be lower and how many copies there are in all.
    Among these, in proportion to sqrt(units) times the expected spread: the compromise of power
    allocation (M. D. Bankier, The American Statistician 42 (1988) 174-177) between the whole, where
    large zones count most, and each zone, as any threshold may be asked for. Each zone gets a few.
    """
    units = np.array([zone.units for zone in of])
    weights = np.array([np.sqrt(zone.units) * max(zone.spread, 0.1) for zone in of])
    above = np.array([zone.above for zone in of], np.bool_)
    for side, share in ((above, _SHARE_ABOVE), (~above, 1 - _SHARE_ABOVE)):
        weights[side] *= share / max(weights[side].sum(), 1e-9)
    given = np.minimum(units, min(_LEAST, labels // max(1, len(of))))
    while (left := labels - int(given.sum())) > 0 and (given < units).any():
        is_open = given < units
        share = np.where(is_open, weights, 0) / weights[is_open].sum() * left
        more = np.minimum(np.floor(share).astype(int), units - given)
        if not more.any():  # fewer than one each: to those that lack most
            more[np.argsort(-share, kind="stable")[: min(left, int(is_open.sum()))]] = 1
        given = given + more
    return [int(count) for count in given]


def chances(ids: pl.Series, seed: int) -> pl.Series:
    """Each item's permanent random number, as a digest."""
    digests = [hashlib.sha256(f"{seed}:plan:{id_}".encode()).hexdigest() for id_ in ids]
    return pl.Series("chance", digests, dtype=pl.String)


def draw(units: pl.DataFrame, of: Sequence[Zone], labels: int, seed: int) -> pl.DataFrame:
    """The plan: which units to judge, in an order that reaches all zones at the same pace.

    Args:
        units: unit, test_id, train_id, score, all at or above the floor.
        of: their zones.
        labels: how many to judge.
        seed: of the draw.

    Returns:
        `PLAN`.
    """
    frame = units.with_columns(chances(units["unit"], seed))
    parts = [pl.DataFrame(schema={**PLAN, "turn": pl.Float64, "chance": pl.String})]
    for zone, count in zip(of, allocate(of, labels), strict=True):
        inside = at_least(frame["score"].to_numpy(), zone.low)
        if zone.high is not None:
            inside &= ~at_least(frame["score"].to_numpy(), zone.high)
        chosen = frame.filter(inside).sort("chance").head(count)
        turn = (np.arange(chosen.height) + 0.5) / max(1, chosen.height)
        columns = {
            "order": 0, "zone": zone.number, "low": zone.low, "high": zone.high,
            "units": zone.units, "planned": count, "inclusion": count / zone.units,
        }  # fmt: skip
        constant = [pl.lit(value, PLAN[name]).alias(name) for name, value in columns.items()]
        chosen = chosen.with_columns(*constant, turn=pl.Series(turn, dtype=pl.Float64))
        parts.append(chosen.select(parts[0].columns))
    plan = pl.concat(parts).sort("turn", "chance").drop("turn", "chance", "order")
    order = pl.int_range(1, plan.height + 1, dtype=pl.Int32, eager=True).alias("order")
    return plan.with_columns(order).select(PLAN.names())
