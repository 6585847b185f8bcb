"""The exact threshold join: every (query, item) pair with cosine >= floor, by a blocked full product.

A float32 product proposes, with an allowance for its rounding that is proven in `indices.scores`; the
stored vectors decide, in float64 rounded once to float32. So no pair at or above the floor is missed,
and equal input gives equal pairs whatever the block sizes, threads or device.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indices.pairs import PairCollector, Pairs
from indices.scores import pair_scores, rounding_allowance, unit_rows

Device = Literal["cpu", "cuda"]
Product = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_QUERY_BLOCK = 1024
_ITEM_BLOCK = 8192


def join(
    queries: NDArray[np.floating],
    parts: Iterable[NDArray[np.floating]],
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

    Rows that are zero or not finite match nothing. Memory: the queries twice, one block of items and
    one of scores, and the pairs that are kept.
    """
    collector = PairCollector(len(queries), cap)
    limit = np.float32(floor)
    search = _Search(np.asarray(queries), limit, device, collector, within)
    start = 0
    for part in parts:
        for at in range(0, len(part), _ITEM_BLOCK):
            search.block(np.asarray(part[at : at + _ITEM_BLOCK]), start + at)
        start += len(part)
        if on_part:
            on_part(len(part))
    return collector.finish()


class _Search:
    """The queries, prepared once, and what happens to each block of items."""

    def __init__(
        self,
        queries: NDArray[np.floating],
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
        blocks = range(0, len(queries), _QUERY_BLOCK)
        make = _cuda_product if device == "cuda" else _cpu_product
        self._products = [(at, make(units[at : at + _QUERY_BLOCK])) for at in blocks]

    def block(self, items: NDArray[np.floating], start: int) -> None:
        """Join all queries with one block of items, the first of which has number `start`."""
        units = unit_rows(items)
        for at, product in self._products:
            if self._within and at + _QUERY_BLOCK <= start:
                continue
            scores = product(units)
            if self._within:
                _hide_upper(scores, at, start)
            self._report(scores, items, at, start)

    def _report(
        self, scores: NDArray[np.float32], items: NDArray[np.floating], at: int, start: int
    ) -> None:
        """Re-score what may reach the floor, and what may be the nearest, from the stored vectors."""
        best = scores.max(axis=1)
        rows = np.flatnonzero(best >= self._limit - self._allowance)
        if len(rows):
            i, j = np.nonzero(scores[rows] >= self._limit - self._allowance)
            query, exact = self._exact(rows[i], j, items, at)
            kept = exact >= self._limit
            self._collector.add(query[kept], j[kept] + start, exact[kept])
        known = self._collector.nearest_score[at : at + len(scores)]
        rows = np.flatnonzero((best > -np.inf) & (best >= known - self._allowance))
        i, j = np.nonzero(scores[rows] >= (best[rows] - self._allowance)[:, None])
        query, exact = self._exact(rows[i], j, items, at)
        self._collector.offer_nearest(query, j + start, exact)

    def _exact(
        self, i: NDArray[np.int64], j: NDArray[np.int64], items: NDArray[np.floating], at: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        query = i + at
        return query, pair_scores(self._queries, items, query, j)


def _hide_upper(scores: NDArray[np.float32], at: int, start: int) -> None:
    """In a self-join, leave each pair once: the item before the query."""
    query = np.arange(at, at + scores.shape[0])[:, None]
    item = np.arange(start, start + scores.shape[1])[None, :]
    scores[item >= query] = -np.inf


def _cpu_product(queries: NDArray[np.float32]) -> Product:
    def product(items: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = queries @ items.T
        return scores

    return product


def _cuda_product(queries: NDArray[np.float32]) -> Product:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False  # the allowance is for true float32
    held = torch.from_numpy(queries).cuda()

    def product(items: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = (held @ torch.from_numpy(items).cuda().T).cpu().numpy()
        return scores

    return product
