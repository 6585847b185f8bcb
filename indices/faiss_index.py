"""Searching FAISS indices over stored vectors: by floor, and for the nearest items.

An index proposes candidates; the stored vectors decide (`indices.scores`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indices.faiss_rows import noted_error
from indices.pairs import PairCollector, Pairs
from indices.rows import distinct
from indices.scores import rounding_allowance, unit_rows, usable_rows
from indices.stored import Matrix, Numbers, Stored, Vectors

_QUERY_BLOCK = 2048
_SPARE = 7
"""Proposals beyond those asked for: where the last is worse than what was found, that is all."""


def search(
    index: Any,
    queries: Vectors,
    parts: Sequence[Matrix],
    floor: float,
    *,
    probes: int | None = None,
    cap: int = 1000,
    nearest: bool = False,
) -> Pairs:
    """Find the pairs with cosine >= floor that the index proposes.

    A Flat index, or an IVF index that visits all lists, gives what `indices.exact.join` gives: of a
    quantised index, proposals reach as far below the floor as its codes are off.

    Args:
        index: what `load` opened.
        queries: (q, d), any float type.
        parts: the stored arrays that the index was built from, in order; they decide.
        floor: lowest score that is reported, compared as float32.
        probes: lists to visit (IVF); None keeps the index's own.
        cap: pairs kept per query.
        nearest: find the nearest item of queries without a pair too.

    Raises:
        ValueError: the index holds another number of vectors, or of another width; or it is
            quantised and does not say how far its codes are off.
    """
    stored = _checked(index, queries, parts)
    first, owner = distinct(queries)
    collector = PairCollector(len(first), cap)
    run = _Search(index, probes, stored, collector)
    for at in range(0, len(first), _QUERY_BLOCK):
        block = np.asarray(queries[first[at : at + _QUERY_BLOCK]])
        lonely = run.floor(block, at, np.float32(floor))
        if nearest:
            run.best(block, at, lonely, 1, are_pairs=False)
    return collector.finish().spread(owner)


def top_k(
    index: Any,
    queries: Vectors,
    parts: Sequence[Matrix],
    k: int,
    *,
    probes: int | None = None,
) -> Pairs:
    """Find the `k` best items of each query among those that the index visits.

    A Flat index, or an IVF index that visits all lists, gives the best of all.

    Args:
        index: what `load` opened.
        queries: (q, d), any float type.
        parts: the stored arrays that the index was built from, in order; they decide.
        k: items per query.
        probes: lists to visit (IVF); None keeps the index's own.

    Raises:
        ValueError: as `search` does.
    """
    stored = _checked(index, queries, parts)
    first, owner = distinct(queries)
    collector = PairCollector(len(first), k)
    run = _Search(index, probes, stored, collector)
    for at in range(0, len(first), _QUERY_BLOCK):
        block = np.asarray(queries[first[at : at + _QUERY_BLOCK]])
        run.best(block, at, np.arange(len(block)), k, are_pairs=True)
    return collector.finish().spread(owner)


def _checked(index: Any, queries: Vectors, parts: Sequence[Matrix]) -> Stored:
    stored = Stored(parts)
    if index.ntotal != stored.count or index.d != queries.shape[1]:
        raise ValueError(
            f"the index holds {index.ntotal} vectors of width {index.d}, "
            f"but {stored.count} of width {queries.shape[1]} are searched"
        )
    return stored


class _Search:
    """An index, and what decides on its proposals.

    What scores at least s is proposed at s less the allowance, so range searches are asked there.
    The allowance covers the rounding of the product, and |q . (x - y)| <= |x - y| for a unit query
    q and a row x of which the index holds y: the largest distance is recorded in the index. faiss
    decodes y anew in each search; each number of y may then be off by 16 u more, u = 2^-24.
    """

    def __init__(
        self, index: Any, probes: int | None, stored: Stored, collector: PairCollector
    ) -> None:
        self._index = index
        self._options = _search_options(index, probes)
        self._stored = stored
        self._collector = collector
        error = noted_error(index)
        self._allowance = 2 * rounding_allowance(index.d) * (1 + error)
        if error:
            self._allowance += error * (1 + 2.0**-20) + 16 * 2.0**-24 * index.d**0.5

    def floor(self, queries: Vectors, start: int, limit: np.float32) -> Numbers:
        """Find pairs at or above a floor; returns the rows that have none.

        Args:
            queries: a block of them.
            start: number of the first.
            limit: the floor.
        """
        units = unit_rows(queries)
        usable = np.flatnonzero(usable_rows(units))
        i, j = self._above(units[usable], float(limit))
        i = usable[i]
        score = self._stored.scores(queries, i, j)
        kept = score >= limit
        found = i[kept] + start, j[kept], score[kept]
        self._collector.add(*found)
        self._collector.offer_nearest(*found)
        return np.setdiff1d(usable, i[kept])

    def best(
        self, queries: Vectors, start: int, rows: Numbers, count: int, *, are_pairs: bool
    ) -> None:
        """Find the `count` best items of some rows of a block of queries.

        Args:
            queries: a block of them.
            start: number of the first.
            rows: which of them.
            count: items per query.
            are_pairs: they are pairs; else the best one is noted as the nearest item only.
        """
        units = unit_rows(queries)
        rows = rows[usable_rows(units[rows])]
        for i, j, score in self._find_best(queries, units, rows, count):
            known = score > -np.inf
            found = i[known] + start, j[known], score[known]
            if are_pairs:
                self._collector.add(*found)
            self._collector.offer_nearest(*found)

    def _find_best(
        self, queries: Vectors, units: NDArray[np.float32], rows: Numbers, count: int
    ) -> Iterator[tuple[Numbers, Numbers, NDArray[np.float32]]]:
        """Queries, items and scores among which are the `count` best of each of `rows`.

        The first few proposals are certain to hold them where the last of these is worse than the
        best beyond the allowance, or where there are no more. Else all that are as good are scored.
        """
        if not len(rows):
            return
        few = min(count + _SPARE, max(1, self._index.ntotal))
        proposed, items = self._index.search(units[rows], few, **self._options)
        scores = np.full(items.shape, -np.inf, np.float32)
        i, k = np.nonzero(items >= 0)
        scores[i, k] = self._stored.scores(queries, rows[i], items[i, k])
        worst = np.sort(scores, axis=1)[:, -min(count, few)]
        bar = np.maximum(worst, -1) - np.float32(self._allowance)
        open_ = (items[:, -1] >= 0) & (proposed[:, -1] >= bar) & (few < self._index.ntotal)
        done = ~open_[i]
        yield rows[i[done]], items[i, k][done], scores[i, k][done]
        for row, score in zip(rows[open_], worst[open_], strict=True):
            _, j = self._above(units[row : row + 1], max(float(score), -1.0))
            i = np.full(len(j), row)
            yield i, j, self._stored.scores(queries, i, j)

    def _above(self, units: NDArray[np.float32], score: float) -> tuple[Numbers, Numbers]:
        """Rows and items of all proposals that may have at least this score."""
        # faiss reports strictly greater values only, hence the next float below
        radius = np.nextafter(np.float32(score - self._allowance), np.float32(-np.inf))
        bounds, _, items = self._index.range_search(units, float(radius), **self._options)
        # and without any query it gives numbers of another type
        counts = np.diff(bounds.astype(np.int64))
        return np.repeat(np.arange(len(units)), counts), items.astype(np.int64)


def _search_options(index: Any, probes: int | None) -> dict[str, Any]:
    import faiss

    if probes is None or not isinstance(index, faiss.IndexIVF):
        return {}
    parameters: Any = faiss.SearchParametersIVF
    return {"params": parameters(nprobe=probes)}


def load(path: Path) -> Any:
    """Open a saved index, mapped into memory: nothing of its rows is read before it is searched.

    Raises:
        ValueError: faiss cannot read it.
    """
    import faiss

    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(
            f"{path}: faiss cannot read it ({str(error).partition(chr(10))[0]})"
        ) from error
