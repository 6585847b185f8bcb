"""Pairs found by a search, kept within memory: per query the `cap` best ones, and the count."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indices.rows import ranges

_Block = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
_COLUMNS = {
    "item": np.int64,
    "score": np.float32,
    "count": np.int64,
    "nearest_item": np.int64,
    "nearest_score": np.float32,
}
_NO_ITEM = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Pairs:
    """The outcome of a search of q queries against n items.

    Attributes:
        query: (p,) int64, ascending.
        item: (p,) int64; within a query by falling score, then ascending item.
        score: (p,) float32.
        count: (q,) int64, pairs at or above the floor, kept or not.
        nearest_item: (q,) int64, the best item that is known; -1 if there is none.
        nearest_score: (q,) float32; -inf if there is none.
        unusable: (u,) int64, ascending: items found to be zero or not finite, which match nothing.
    """

    query: NDArray[np.int64]
    item: NDArray[np.int64]
    score: NDArray[np.float32]
    count: NDArray[np.int64]
    nearest_item: NDArray[np.int64]
    nearest_score: NDArray[np.float32]
    unusable: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def together(cls, found: Sequence["Pairs"]) -> "Pairs":
        """One result for blocks of queries that are numbered on."""
        starts = np.cumsum([0, *(len(part.count) for part in found)])
        shifted = [part.query + start for part, start in zip(found, starts, strict=False)]
        columns = {
            name: np.concatenate([np.empty(0, kind), *(getattr(part, name) for part in found)])
            for name, kind in _COLUMNS.items()
        }
        query = np.concatenate([np.empty(0, np.int64), *shifted])
        met = [np.empty(0, np.int64), *(part.unusable for part in found)]
        return cls(query=query, unusable=np.unique(np.concatenate(met)), **columns)

    def between(self, start: int, stop: int) -> "Pairs":
        """The result for the queries from `start` to `stop` alone, numbered from 0."""
        low, high = np.searchsorted(self.query, (start, stop))
        return Pairs(
            self.query[low:high] - start,
            self.item[low:high],
            self.score[low:high],
            self.count[start:stop],
            self.nearest_item[start:stop],
            self.nearest_score[start:stop],
            self.unusable,
        )

    def spread(self, owner: NDArray[np.int64]) -> "Pairs":
        """The same for a list of queries that repeats these: query `n` of it is `owner[n]`."""
        bounds = np.searchsorted(self.query, np.arange(len(self.count) + 1))
        sizes = np.diff(bounds)[owner]
        kept = ranges(bounds[owner], sizes)
        return Pairs(
            np.repeat(np.arange(len(owner)), sizes),
            self.item[kept],
            self.score[kept],
            self.count[owner],
            self.nearest_item[owner],
            self.nearest_score[owner],
            self.unusable,
        )


@dataclass
class PairCollector:
    """Gathers pairs block by block; sorts and cuts whenever many have come together.

    Args:
        queries: how many queries there are.
        cap: pairs kept per query.
        slack: pairs held before the next cut, beyond `2 * queries * cap` in the worst case.
    """

    queries: int
    cap: int
    slack: int = 1 << 21
    _blocks: list[_Block] = field(default_factory=list)
    _held: int = 0
    _kept: int = 0

    def __post_init__(self) -> None:
        self.count = np.zeros(self.queries, dtype=np.int64)
        self.nearest_item = np.full(self.queries, -1, dtype=np.int64)
        self.nearest_score = np.full(self.queries, -np.inf, dtype=np.float32)
        # what a pair must beat, by query, once `cap` better ones are held
        self._bar_score = np.full(self.queries, -np.inf, dtype=np.float32)
        self._bar_item = np.full(self.queries, _NO_ITEM)
        self._unusable: list[NDArray[np.int64]] = []

    def add(
        self, query: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[np.float32]
    ) -> None:
        """Take pairs at or above the floor; each pair comes once."""
        np.add.at(self.count, query, 1)
        bar = self._bar_score[query]
        fits = (score > bar) | ((score == bar) & (item < self._bar_item[query]))
        self._blocks.append((query[fits], item[fits], score[fits]))
        self._held += int(np.count_nonzero(fits))
        if self._held > 2 * self._kept + self.slack:
            self._cut()

    def add_count(self, query: NDArray[np.int64], more: NDArray[np.int64]) -> None:
        """Count pairs at or above the floor that cannot be among the best `cap` of their query."""
        np.add.at(self.count, query, more)

    @property
    def bars(self) -> NDArray[np.float32]:
        """What a pair of each query must reach to be among the best: (q,), -inf while unknown."""
        return self._bar_score

    def offer_nearest(
        self, query: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[np.float32]
    ) -> None:
        """Take candidates for the nearest item; on equal scores the lowest item number wins."""
        held = self.nearest_score[query]
        np.maximum.at(self.nearest_score, query, score)
        now = self.nearest_score[query]
        wins = (score == now) & (score > -np.inf)
        self.nearest_item[query[wins & (now > held)]] = _NO_ITEM
        np.minimum.at(self.nearest_item, query[wins], item[wins])

    def note_unusable(self, item: NDArray[np.int64]) -> None:
        """Take numbers of items that are zero or not finite."""
        if len(item):
            self._unusable.append(item)

    def finish(self) -> Pairs:
        """All pairs in their final order."""
        self._cut()
        unusable = np.unique(np.concatenate([np.empty(0, np.int64), *self._unusable]))
        best = (self.nearest_item, self.nearest_score)
        return Pairs(*self._blocks[0], self.count, *best, unusable)

    def _cut(self) -> None:
        empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        columns = zip(empty, *self._blocks, strict=True)
        query, item, score = (np.concatenate(column) for column in columns)
        order = np.lexsort((item, -score, query))
        query, item, score = query[order], item[order], score[order]
        place = np.arange(len(query)) - np.searchsorted(query, np.arange(self.queries))[query]
        kept, last = place < self.cap, place == self.cap - 1
        self._bar_score[query[last]] = score[last]
        self._bar_item[query[last]] = item[last]
        self._blocks = [(query[kept], item[kept], score[kept])]
        self._held = self._kept = int(kept.sum())
