"""The exact threshold join: every (query, item) pair with cosine >= floor, by a blocked product.

A float32 product proposes, with an allowance for its rounding that is proven in `indices.scores`;
the stored vectors decide, in float64 rounded once to float32. So no pair at or above the floor is
missed, and equal input gives equal pairs whatever the block sizes, threads or device.

Web-scale sets hold one placeholder image a million times. Equal queries are searched once, and
where a block of items gives very many candidates, its equal rows are scored once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indices.pairs import PairCollector, Pairs
from indices.rows import distinct, ranges
from indices.scores import pair_scores, rounding_allowance, unit_rows, usable_rows

Device = Literal["cpu", "cuda"]
Vectors = NDArray[np.floating]
Numbers = NDArray[np.int64]
Scores = NDArray[np.float32]
Product = Callable[[Scores], Scores]

_QUERY_BLOCK = 1024
_ITEM_BLOCK = 8192
_CROWD = 8
"""Candidates per row of a block at which a search for equal rows pays."""
_RESCORED = 1 << 20
"""Candidates that are scored at a time."""


def join(
    queries: Vectors,
    parts: Iterable[Vectors],
    floor: float,
    *,
    cap: int = 1000,
    device: Device = "cpu",
    within: bool = False,
    on_part: Callable[[int], None] | None = None,
) -> Pairs:
    """Find all pairs with cosine >= floor, and each query's nearest item.

    Args:
        queries: (q, d), any float type; rows need not have unit length.
        parts: arrays (n_i, d), read once, one after the other; items are numbered through.
        floor: lowest score that is reported, compared as float32.
        cap: pairs kept per query, the best ones; `Pairs.count` tells where there were more.
        device: where the product runs ("cuda" through torch).
        within: queries are the items themselves; only pairs with item < query are reported, once.
        on_part: called with the number of items of each part that is done.

    Rows that are zero or not finite match nothing. Memory: the queries twice (three times if some
    are equal), a block of items, one of scores with its candidates, and the pairs that are kept.
    """
    queries = np.asarray(queries)
    first = owner = np.arange(len(queries))
    if not within:
        first, owner = distinct(queries)
    if len(first) < len(owner):
        queries = queries[first]
    collector = PairCollector(len(queries), cap)
    search = _Search(queries, np.float32(floor), device, collector, within)
    start = 0
    for part in parts:
        for at in range(0, len(part), _ITEM_BLOCK):
            search.block(np.asarray(part[at : at + _ITEM_BLOCK]), start + at)
        start += len(part)
        if on_part:
            on_part(len(part))
    found = collector.finish()
    return found if len(first) == len(owner) else found.spread(owner)


@dataclass(frozen=True)
class _Items:
    """A block of items; once merged, a row stands for all items that have just these bytes.

    Attributes:
        rows: (k, d) stored vectors.
        units: (k, d) the same at unit length.
        members: (m,) numbers of the items that each row stands for, ascending within a row.
        bounds: (k + 1,) where the members of each row begin.
    """

    rows: Vectors
    units: Scores
    members: Numbers
    bounds: Numbers

    @classmethod
    def of(cls, rows: Vectors, start: int) -> "_Items":
        """A block of which the first item has number `start`."""
        numbers = np.arange(len(rows) + 1)
        return cls(rows, unit_rows(rows), numbers[:-1] + start, numbers)

    def merged(self) -> "_Items":
        """The block with equal rows put together."""
        first, owner = distinct(self.rows)
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(first) + 1))
        return _Items(self.rows[first], self.units[first], self.members[order], bounds)

    @property
    def lowest(self) -> Numbers:
        """The first item of each row."""
        return self.members[self.bounds[:-1]]

    def count_below(self, row: Numbers, limit: Numbers) -> Numbers:
        """How many items of each given row have a number below the limit that goes with it."""
        base, span = self.members.min(), len(self.members) + 1
        owner = np.repeat(np.arange(len(self.rows)), np.diff(self.bounds))
        keys = owner * span + (self.members - base)  # ascending
        wanted = row * span + np.clip(limit - base, 0, span - 1)
        count: Numbers = np.searchsorted(keys, wanted) - self.bounds[row]
        return count


@dataclass(frozen=True)
class _Candidates:
    """Places of a block of scores that have to be scored exactly: `mask[n, j]` is row `rows[n]`."""

    rows: Numbers
    mask: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.mask))

    def __iter__(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Rows and columns, row by row, not too many at a time."""
        for piece in np.array_split(np.arange(len(self.rows)), self.count // _RESCORED + 1):
            i, j = np.nonzero(self.mask[piece])
            yield self.rows[piece[i]], j


class _Search:
    """The queries, prepared once, and what happens to each block of items."""

    def __init__(
        self,
        queries: Vectors,
        limit: np.float32,
        device: Device,
        collector: PairCollector,
        within: bool,
    ) -> None:
        self._queries = queries
        self._limit = limit
        self._collector = collector
        self._within = within
        self._allowance = np.float32(2 * rounding_allowance(queries.shape[1]))
        units = unit_rows(queries)
        self._usable = usable_rows(units)
        blocks = range(0, len(queries), _QUERY_BLOCK)
        make = _cuda_product
        if device == "cpu":
            buffer = np.empty(_QUERY_BLOCK * _ITEM_BLOCK, np.float32)
            make = partial(_cpu_product, buffer=buffer)
        self._products = [(at, make(units[at : at + _QUERY_BLOCK])) for at in blocks]

    def block(self, rows: Vectors, start: int) -> None:
        """Join all queries with one block of items, the first of which has number `start`."""
        if not self._products:
            return
        items = _Items.of(rows, start)
        is_merged = False
        for at, product in self._products:
            if self._within and at + _QUERY_BLOCK <= start:
                continue
            above, near = self._propose(product, items, at)
            if above.count + near.count > _CROWD * (_QUERY_BLOCK + len(rows)) and not is_merged:
                items, is_merged = items.merged(), True
                above, near = self._propose(product, items, at)
            self._report(above, near, items, at)

    def _propose(self, product: Product, items: _Items, at: int) -> tuple[_Candidates, _Candidates]:
        """What may reach the floor; and, where that tells nothing of it, what may be the nearest.

        A row that certainly reaches the floor has its nearest among the first.
        """
        scores = product(items.units)
        self._hide(scores, items, at)
        best, lowest = scores.max(axis=1), self._limit - self._allowance
        rows = np.flatnonzero(best >= lowest)
        above = _Candidates(rows, scores[rows] >= lowest)
        known = self._collector.nearest_score[at : at + len(scores)]
        open_ = (best > -np.inf) & (best < self._limit + self._allowance)
        rows = np.flatnonzero(open_ & (best >= known - self._allowance))
        return above, _Candidates(rows, scores[rows] >= (best[rows] - self._allowance)[:, None])

    def _hide(self, scores: Scores, items: _Items, at: int) -> None:
        """Take out rows that match nothing and, in a self-join, the items not before the query."""
        usable = self._usable[at : at + len(scores)]
        if not usable.all():
            scores[~usable] = -np.inf
        usable = usable_rows(items.units)
        if not usable.all():
            scores[:, ~usable] = -np.inf
        if self._within and items.members.max() >= at:
            query = np.arange(at, at + len(scores))
            scores[items.lowest[None, :] >= query[:, None]] = -np.inf

    def _report(self, above: _Candidates, near: _Candidates, items: _Items, at: int) -> None:
        """Score the candidates from the stored vectors and hand them on."""
        for i, j in above:
            score = pair_scores(self._queries, items.rows, i + at, j)
            self._collector.offer_nearest(i + at, items.lowest[j], score)
            kept = score >= self._limit
            self._keep(i[kept] + at, j[kept], score[kept], items)
        for i, j in near:
            score = pair_scores(self._queries, items.rows, i + at, j)
            self._collector.offer_nearest(i + at, items.lowest[j], score)

    def _keep(self, query: Numbers, row: Numbers, score: Scores, items: _Items) -> None:
        """Report a row's items one by one, as many of the first as can be among the best."""
        if len(items.rows) == len(items.members):
            self._collector.add(query, items.lowest[row], score)
            return
        sizes = np.diff(items.bounds)[row]
        if self._within:
            sizes = items.count_below(row, query)
        shown = np.minimum(sizes, self._collector.cap)
        members = items.members[ranges(items.bounds[row], shown)]
        self._collector.add(np.repeat(query, shown), members, np.repeat(score, shown))
        self._collector.add_count(query, sizes - shown)


def _cpu_product(queries: Scores, buffer: Scores) -> Product:
    """The product into memory that is used again: fresh pages cost as much as the arithmetic."""

    def product(items: Scores) -> Scores:
        scores = buffer[: len(queries) * len(items)].reshape(len(queries), len(items))
        return np.matmul(queries, items.T, out=scores)

    return product


def _cuda_product(queries: Scores) -> Product:
    import torch

    held = torch.from_numpy(queries).cuda()
    settings = torch.backends.cuda.matmul

    def product(items: Scores) -> Scores:
        before, settings.allow_tf32 = settings.allow_tf32, False  # the allowance is for float32
        try:
            scores: Scores = (held @ torch.from_numpy(items).cuda().T).cpu().numpy()
        finally:
            settings.allow_tf32 = before
        return scores

    return product
