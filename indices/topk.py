"""Exact nearest items, whatever their score, by the full product."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from indices.items import Items
from indices.kernels import plain_float32
from indices.pairs import PairCollector, Pairs
from indices.reading import read_ahead
from indices.rows import ranges
from indices.scores import pair_scores, rounding_allowance, usable_rows
from indices.sketch import Sketcher
from indices.stored import Matrix, Numbers, Stored, Vectors

_QUERY_BLOCK = 1024
_ITEM_BLOCK = 8192
_READ_BLOCK = 1 << 16
_QUERIES = 1 << 17
"""Queries that are compared with the items in one reading of them."""
_CROWD = 8


def top_k(
    queries: Vectors | Stored, parts: Sequence[Matrix] | Stored, k: int, *, device: str = "cpu"
) -> Pairs:
    """The k best items of every query; of equal scores the lowest item number wins.

    Args:
        queries: (q, d), any float type.
        parts: arrays (n_i, d), read once for every `2**17` queries.
        k: items per query.
        device: where the product runs.

    Returns:
        Pairs whose `count` is how many items a query got: fewer than k where there are fewer that
        match at all. `nearest_item` and `nearest_score` are the first of them.
    """
    held = queries if isinstance(queries, Stored) else Stored([queries])
    items = parts if isinstance(parts, Stored) else Stored(parts)
    found = []
    with plain_float32():
        for rows in held.blocks(_QUERIES):
            search = _Search(np.asarray(rows), k, device)
            start = 0
            for block in read_ahead(items.blocks(_READ_BLOCK)):
                for at in range(0, len(block), _ITEM_BLOCK):
                    search.meet(block[at : at + _ITEM_BLOCK], start + at)
                start += len(block)
            found.append(search.finish())
    return Pairs.together(found)


class _Search:
    """Some queries, and the best items they have met.

    Both sides have unit rows, and `2 * rounding_allowance` is more than a product of them can be
    from the score that decides; so the k-th best of a block, less two of these, is a limit that
    none of the k best misses, and so is the k-th best that is held, less one.
    """

    def __init__(self, rows: Vectors, k: int, device: str) -> None:
        self._rows = rows
        self._k = k
        self._device = device
        self._sketcher = Sketcher(rows.shape[1], None, "fp32")
        self._units = self._sketcher.sketches(rows, device)
        self._usable = usable_rows(self._units.cpu().numpy())
        self._allowance = 2 * rounding_allowance(rows.shape[1])
        self._collector = PairCollector(len(rows), k, slack=2 * len(rows) * k)

    def meet(self, rows: Vectors, start: int) -> None:
        """Compare all queries with a block of items, the first of which has number `start`."""
        items = Items.of(rows, start, self._sketcher, self._device)
        for at in range(0, len(self._rows), _QUERY_BLOCK):
            query, row = self._candidates(items, at)
            if len(query) > _CROWD * (_QUERY_BLOCK * self._k + len(rows)) and not items.is_merged:
                items = items.merged()
                query, row = self._candidates(items, at)
            self._report(query + at, row, items)

    def _candidates(self, items: Items, at: int) -> tuple[Numbers, Numbers]:
        """Queries, counted from `at`, and rows of items that may be among the best."""
        import torch

        end = at + _QUERY_BLOCK
        scores = torch.mm(self._units[at:end], items.codes.values.t())
        scores[:, items.codes.scale == 0] = -np.inf
        scores[torch.from_numpy(~self._usable[at:end])] = -np.inf
        bars = torch.from_numpy(self._collector.bars[at:end]).to(scores.device) - self._allowance
        rows = torch.nonzero(scores.amax(dim=1) >= bars)[:, 0]
        scores, limit = scores[rows], bars[rows]
        if scores.shape[1] > self._k:
            kth = scores.topk(self._k, dim=1).values[:, -1]
            limit = torch.maximum(limit, kth - 2 * self._allowance)
        i, j = torch.nonzero((scores >= limit[:, None]) & (scores > -np.inf), as_tuple=True)
        return rows[i].cpu().numpy(), j.cpu().numpy()

    def _report(self, query: Numbers, row: Numbers, items: Items) -> None:
        if not len(query):
            return
        wanted, place = np.unique(row, return_inverse=True)
        score = pair_scores(self._rows, items.fetch(wanted), query, place)
        shown = np.minimum(items.sizes[row], self._k)
        members = items.members[ranges(items.bounds[row], shown)]
        self._collector.add(np.repeat(query, shown), members, np.repeat(score, shown))

    def finish(self) -> Pairs:
        """The best items of each query."""
        found = self._collector.finish()
        count = np.bincount(found.query, minlength=len(self._rows))
        first = np.searchsorted(found.query, np.flatnonzero(count))
        item = np.full(len(count), -1)
        score = np.full(len(count), -np.inf, np.float32)
        item[count > 0], score[count > 0] = found.item[first], found.score[first]
        return replace(found, count=count, nearest_item=item, nearest_score=score)
