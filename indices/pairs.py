"""Pairs found by a search, kept within memory: at most `cap` per query, the best ones, and the count."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pairs:
    """The outcome of a search of q queries against n items.

    Attributes:
        query: (p,) int64, ascending.
        item: (p,) int64; within a query by falling score, then ascending item.
        score: (p,) float32.
        count: (q,) int64, pairs at or above the floor, kept or not.
        nearest_item: (q,) int64, the best item whatever its score; -1 if there is none.
        nearest_score: (q,) float32; -inf if there is none.
    """

    query: NDArray[np.int64]
    item: NDArray[np.int64]
    score: NDArray[np.float32]
    count: NDArray[np.int64]
    nearest_item: NDArray[np.int64]
    nearest_score: NDArray[np.float32]


@dataclass
class PairCollector:
    """Gathers pairs block by block; sorts and cuts whenever many have come together.

    Args:
        queries: how many queries there are.
        cap: pairs kept per query.
        slack: pairs held before the next cut, beyond `queries * cap` in the worst case.
    """

    queries: int
    cap: int
    slack: int = 1 << 21
    _blocks: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = field(
        default_factory=list
    )
    _held: int = 0
    _kept: int = 0

    def __post_init__(self) -> None:
        self.count = np.zeros(self.queries, dtype=np.int64)
        self.nearest_item = np.full(self.queries, -1, dtype=np.int64)
        self.nearest_score = np.full(self.queries, -np.inf, dtype=np.float32)

    def add(
        self, query: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[np.float32]
    ) -> None:
        """Take pairs at or above the floor; each pair comes once."""
        self.count += np.bincount(query, minlength=self.queries)
        self._blocks.append((query, item, score))
        self._held += len(query)
        if self._held > 2 * self._kept + self.slack:
            self._cut()

    def offer_nearest(
        self, query: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[np.float32]
    ) -> None:
        """Take candidates for the nearest item; on equal scores the lowest item number wins."""
        order = np.lexsort((item, -score, query))
        query, item, score = query[order], item[order], score[order]
        first = np.flatnonzero(np.diff(query, prepend=-1))
        query, item, score = query[first], item[first], score[first]
        held, best = self.nearest_item[query], self.nearest_score[query]
        better = (score > best) | ((score == best) & ((held < 0) | (item < held)))
        better &= score > -np.inf
        self.nearest_item[query[better]] = item[better]
        self.nearest_score[query[better]] = score[better]

    def finish(self) -> Pairs:
        """All pairs in their final order."""
        self._cut()
        query, item, score = self._blocks[0]
        return Pairs(query, item, score, self.count, self.nearest_item, self.nearest_score)

    def _cut(self) -> None:
        empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        columns = zip(empty, *self._blocks, strict=True)
        query, item, score = (np.concatenate(column) for column in columns)
        order = np.lexsort((item, -score, query))
        query, item, score = query[order], item[order], score[order]
        starts = np.searchsorted(query, np.arange(self.queries))
        kept = np.arange(len(query)) - starts[query] < self.cap
        self._blocks = [(query[kept], item[kept], score[kept])]
        self._held = self._kept = int(kept.sum())
