"""What an index misses at a threshold, measured against the exact join, and the gate on it.

A sample of the user's queries, and planted copies of stored vectors, are searched exactly and
through the index. Both searches let the stored vectors decide on a pair, so what the index finds is
a part of what is there; and both count pairs beyond those they keep. So two counts per query tell
all, and no query has too many pairs to be compared.

Planted copies differ from their vector in a random direction. Real copies differ in the directions
in which pictures do, and may leave the list of their original more often. So planted copies show
that an index is sound, and the user's queries what it does to them: both are told apart.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indices import exact, faiss_index
from indices.pairs import Pairs
from indices.scores import balanced, unit_rows
from indices.stored import Matrix, Numbers, Stored, Vectors

CONFIDENCE = 0.95
_AFFORDABLE = 1 / 8
"""Share of the vectors that a search may visit and still be measured once the gate is passed."""
_ORDERED = 1 << 22
"""Lists that are put in order at a time, over all queries of a block."""


# --- intervals ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """How many of how many were found, and where the true share lies with 95% confidence."""

    found: int
    total: int
    low: float
    high: float


def clopper_pearson(
    found: float, total: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Clopper-Pearson interval of a binomial share, two-sided: its coverage is never below.

    The bounds are quantiles of beta distributions, which also take numbers that are not whole.
    Nothing observed says nothing: (0, 1).

    Source: C. Clopper and E. Pearson, Biometrika 26 (1934) 404-413.

    Args:
        found: successes.
        total: trials, at least `found`.
        confidence: two-sided coverage.
    """
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, found, total - found + 1)) if found > 0 else 0.0
    high = float(beta.ppf(1 - tail, found + 1, total - found)) if found < total else 1.0
    return low, high


def queries_needed(recall: float) -> int:
    """Queries with pairs, all of them found, whose interval begins at `recall` or above.

    With n of n found it begins at 0.025^(1/n): 0.99 takes 368 queries.

    Args:
        recall: above 0 and below 1; no number of queries shows 1.
    """
    needed = max(1, math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(recall)) - 1)
    while clopper_pearson(needed, needed)[0] < recall:
        needed += 1
    return needed


@dataclass(frozen=True)
class Recall:
    """What was found of a set of queries.

    What was drawn at random are queries, so these are what an interval may count. Test items are
    queries; that each has a chance of its own to be found, and that the user's are drawn without
    repetition, only makes a binomial interval wider than needed (W. Hoeffding, Annals of
    Mathematical Statistics 27 (1956) 713-721). Pairs of one query are of one cluster of duplicates
    and tend to be found or missed together. Their interval is that of as many trials as the queries
    are worth, (sum t)^2 / sum t^2 for t pairs per query, which is right if all pairs of a query
    share one fate and too wide otherwise (Kish's effective size in a Clopper-Pearson interval:
    E. Korn and B. Graubard, Survey Methodology 24 (1998) 193-201).

    Attributes:
        items: queries with a pair at or above the threshold, found if one of their pairs is.
        pairs: these pairs.
    """

    items: Share
    pairs: Share

    @classmethod
    def of(cls, found: Numbers, true: Numbers) -> "Recall":
        """From the numbers of pairs that the index and the exact join found of each query: (q,)."""
        found, true = found[true > 0], true[true > 0]
        hits, total = int(np.count_nonzero(found)), len(true)
        items = Share(hits, total, *clopper_pearson(hits, total))
        part, whole = int(found.sum()), int(true.sum())
        size = float(whole) ** 2 / float(np.square(true, dtype=np.float64).sum()) if whole else 0.0
        # nothing missed must stay so after rounding
        share = size if part == whole else size * part / whole
        return cls(items, Share(part, whole, *clopper_pearson(share, size)))


# --- queries -----------------------------------------------------------------------------------


_PARALLEL = 1e-9
"""Share of a drawn vector below which what is orthogonal to a row is rounding."""


def plant(rows: Vectors, cosines: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """Copies at a given cosine, each in a random direction orthogonal to its row: (n, d).

    A copy has the length of its row, but for a power of two; one with cosine 1 has the row's bits.

    Args:
        rows: (n, d) stored vectors of any float type and any length.
        cosines: (n,) from -1 to 1; copies have them to 1e-6.
        seed: of the directions.

    Raises:
        ValueError: a row is zero or not finite and so has no copies; a cosine is none; or it is
            neither 1 nor -1 and vectors have one number only.
    """
    if not _have_direction(rows).all():
        number = int(np.argmin(_have_direction(rows)))
        raise ValueError(f"row {number} is zero or not finite: nothing is a copy of it")
    if not (np.abs(cosines) <= 1).all():
        raise ValueError("a cosine lies between -1 and 1")
    if rows.shape[1] == 1:
        if not (np.abs(cosines) == 1).all():
            raise ValueError("vectors of width 1 have no cosines but 1 and -1")
        return np.asarray(balanced(rows) * cosines[:, None], np.float32)
    ahead = balanced(rows)
    length = np.linalg.norm(ahead, axis=1, keepdims=True)
    unit = ahead / length
    aside = _across(unit, np.random.default_rng(seed).standard_normal(rows.shape))
    sines = np.sqrt((1 - cosines) * (1 + cosines))
    return np.asarray(ahead * cosines[:, None] + aside * length * sines[:, None], np.float32)


def _across(unit: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of drawn vectors that is orthogonal to unit rows, as unit rows: (n, d), d > 1."""
    aside = drawn - unit * (drawn * unit).sum(axis=1, keepdims=True)
    length = np.linalg.norm(aside, axis=1)
    parallel = length < _PARALLEL * np.linalg.norm(drawn, axis=1)
    nearest_to_orthogonal = np.abs(unit[parallel]).argmin(axis=1)
    aside[parallel] = np.eye(unit.shape[1])[nearest_to_orthogonal]
    length[parallel] = 1
    aside /= length[:, None]
    # once leaves what rounding adds where the two are nearly parallel
    aside -= unit * (aside * unit).sum(axis=1, keepdims=True)
    return np.asarray(aside / np.linalg.norm(aside, axis=1, keepdims=True))


def _have_direction(rows: Vectors) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1))


@dataclass(frozen=True)
class Sample:
    """Queries to measure with: the user's first, then planted ones.

    Attributes:
        queries: (q, d).
        own: how many are the user's.
    """

    queries: Vectors
    own: int


def draw(
    stored: Stored,
    queries: Stored | None,
    threshold: float,
    *,
    own: int = 1000,
    planted: int = 1000,
    seed: int = 0,
) -> Sample:
    """Draw the queries: the user's without repetition, planted ones from any stored vector.

    Stored vectors are drawn with repetition, so that planted queries are independent however few
    vectors there are. Their cosines are spread evenly from the threshold to 1 (the middles of as
    many steps; 1 where vectors have width 1). Vectors that are zero or not finite are left out.

    Args:
        stored: what the index holds.
        queries: the user's; None if there are none.
        threshold: cosine at or above which a pair counts.
        own: the user's queries at most.
        planted: copies at most.
        seed: the same seed draws the same queries.

    Raises:
        ValueError: nothing could be drawn.
    """
    drawn: list[Vectors] = []
    if queries is not None and (size := min(own, queries.count)):
        chosen = np.random.default_rng([seed, 1]).choice(queries.count, size, replace=False)
        rows = queries.rows(np.sort(chosen))
        drawn.append(rows[_have_direction(rows)])
    kept = sum(map(len, drawn))
    if planted and stored.count:
        rows = stored.rows(np.random.default_rng([seed, 2]).integers(stored.count, size=planted))
        rows = rows[_have_direction(rows)]
        steps = (np.arange(len(rows)) + 0.5) / max(1, len(rows))
        cosines = threshold + (1 - threshold) * steps if rows.shape[1] > 1 else np.ones(len(rows))
        drawn.append(plant(rows, cosines, seed))
    if not sum(map(len, drawn)):
        raise ValueError("there is no query to measure with, and no vector to plant one from")
    return Sample(np.concatenate(drawn), kept)


# --- operating points --------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """What a search finds that visits so many lists.

    Attributes:
        probes: the lists; None where the index has no lists.
        visited: mean share of the stored vectors that a query is compared with.
        queries: what is found of the user's queries.
        planted: what is found of the planted ones.
        together: what is found of both; the gate looks at its test items.
    """

    probes: int | None
    visited: float
    queries: Recall
    planted: Recall
    together: Recall


@dataclass(frozen=True)
class Measurement:
    """The operating points of an index, and which one passes the gate.

    Attributes:
        points: by rising number of lists.
        chosen: place in `points` of the first that passes; None: none does.
        seconds: that each point took.
        seconds_exact: that the exact join took.
    """

    points: tuple[Point, ...]
    chosen: int | None
    seconds: tuple[float, ...]
    seconds_exact: float


def is_exact(index: Any) -> bool:
    """Whether an index compares a query with every vector as it is, so that it cannot miss."""
    import faiss

    return isinstance(index, faiss.IndexFlat)


def lists_of(index: Any) -> int:
    """How many lists an index has; 0 if it is not made of lists."""
    import faiss

    return int(index.nlist) if isinstance(index, faiss.IndexIVF) else 0


def measure(
    index: Any,
    parts: Sequence[Matrix],
    sample: Sample,
    threshold: float,
    min_recall: float,
    *,
    probes: int | None = None,
    device: str = "cpu",
    on_part: Callable[[int], None] | None = None,
) -> Measurement:
    """Measure an index at a threshold and find the fewest lists that pass.

    A point passes if the interval of its test items, of both kinds of queries, begins at
    `min_recall` or above. Points are 1, 2, 4, ... lists up to all: as far as the first that passes,
    and beyond it while a search visits an eighth of the vectors at most; then those by which
    bisection finds the fewest lists that pass. What is found grows with the lists, so some number
    that is too low passes only if the highest such number does: choosing among many points adds no
    risk, and at most 2.5% of samples choose an index that misses too much.

    Args:
        index: what `faiss_index.load` opened.
        parts: the stored arrays that it was built from.
        sample: what `draw` drew.
        threshold: cosine at or above which a pair counts, compared as float32.
        min_recall: what the gate asks for.
        probes: measure just this many lists.
        device: where the exact join multiplies.
        on_part: called by the exact join with the number of vectors of each part that is done.

    Returns:
        The points. A Flat index has one, and passes if it finds all there is.

    Raises:
        ValueError: the index is of other vectors, or holds a vector twice.
    """
    search = partial(faiss_index.search, index, parts=parts, floor=threshold, cap=1)
    search(sample.queries[:1], probes=1)  # a wrong index is told before the join, which takes long
    started = time.perf_counter()
    joined = exact.join(sample.queries, parts, threshold, cap=1, device=device, on_part=on_part)
    seconds = time.perf_counter() - started
    gauge = _Gauge(index, search, sample, joined.count, min_recall)
    if probes is None and gauge.lists:
        chosen = _fewest(gauge)
    else:
        place = min(probes or 0, gauge.lists)
        chosen = place if gauge.passes(place) else None
    numbers = sorted(gauge.points)
    return Measurement(
        tuple(gauge.points[number] for number in numbers),
        None if chosen is None else numbers.index(chosen),
        tuple(gauge.seconds[number] for number in numbers),
        seconds,
    )


def _fewest(gauge: "_Gauge") -> int | None:
    """The fewest lists that pass."""
    failing, chosen = 0, None
    for probes in [*(2**n for n in range((gauge.lists - 1).bit_length())), gauge.lists]:
        is_settled = chosen is not None or not gauge.is_enough
        if probes > 1 and is_settled and gauge.visited(probes) > _AFFORDABLE:
            break
        passes = gauge.passes(probes)
        if chosen is None and passes:
            chosen = probes
        elif chosen is None:
            failing = probes
    while chosen is not None and chosen - failing > 1:
        middle = (chosen + failing) // 2
        if gauge.passes(middle):
            chosen = middle
        else:
            failing = middle
    return chosen


class _Gauge:
    """An index, a sample with the true number of pairs of each query, and what was measured.

    Points and their seconds are found under their number of lists, 0 where there are none.
    """

    def __init__(
        self,
        index: Any,
        search: Callable[..., Pairs],
        sample: Sample,
        true: Numbers,
        min_recall: float,
    ) -> None:
        self._search, self._sample = search, sample
        self._true, self._min_recall = true, min_recall
        self.exact = is_exact(index)
        self.lists = lists_of(index)
        self._visits = _visits(index, sample.queries) if self.lists else np.ones(1)
        self.points: dict[int, Point] = {}
        self.seconds: dict[int, float] = {}
        self.is_enough = Recall.of(true, true).items.low >= min_recall

    def visited(self, probes: int) -> float:
        """Mean share of the vectors that a query is compared with."""
        return float(self._visits[probes - 1])

    def passes(self, probes: int) -> bool:
        """Measure one point, and say whether it passes."""
        started = time.perf_counter()
        found = self._search(self._sample.queries, probes=probes or None).count
        self.seconds[probes] = time.perf_counter() - started
        if (found > self._true).any():
            raise ValueError("the index holds a vector twice")
        own = self._sample.own
        together = Recall.of(found, self._true)
        self.points[probes] = Point(
            probes or None,
            self.visited(probes),
            Recall.of(found[:own], self._true[:own]),
            Recall.of(found[own:], self._true[own:]),
            together,
        )
        if self.exact:
            return together.pairs.found == together.pairs.total
        return together.items.low >= self._min_recall


def _visits(index: Any, queries: Vectors) -> NDArray[np.float64]:
    """Mean share of the vectors that is in the 1, 2, ... best lists of a query: (lists,)."""
    # the last stands for "no list", which faiss numbers -1
    sizes = np.array([index.invlists.list_size(n) for n in range(index.nlist)] + [0], np.int64)
    total = np.zeros(index.nlist, np.int64)
    step = max(1, _ORDERED // index.nlist)
    for at in range(0, len(queries), step):
        _, order = index.quantizer.search(unit_rows(queries[at : at + step]), index.nlist)
        total += sizes[order].sum(axis=0)
    return np.asarray(np.cumsum(total) / (len(queries) * index.ntotal))
