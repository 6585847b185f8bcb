"""FAISS indices over stored vectors: built from parts, saved, searched by floor.

An index proposes candidates; the stored vectors decide (`indices.scores`). Graph and
product-quantised indices are not offered: they lose pairs at high thresholds, where duplicates
cluster.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from indices.pairs import PairCollector, Pairs
from indices.rows import distinct
from indices.scores import rounding_allowance, unit_rows, usable_rows
from indices.stored import Stored, Vectors

Kind = Literal["flat", "ivf"]

FLAT_LIMIT = 200_000
_TRAIN_PER_LIST = 64
_QUERY_BLOCK = 2048
_ADD_BLOCK = 65_536
_NEAREST = 8
"""Proposals among which the nearest item is looked for before a wider search."""


@dataclass(frozen=True)
class Plan:
    """What index to build, and why.

    Attributes:
        lists: inverted lists of an IVF index; 0 for Flat.
        probes: lists that a search visits by default.
    """

    kind: Kind
    lists: int
    probes: int
    reason: str


def choose(count: int, dim: int, kind: Kind | None = None) -> Plan:
    """Choose an index for `count` vectors of width `dim`; a given `kind` is only sized."""
    megabytes = count * dim * 4 / 1e6
    if kind == "flat" or (kind is None and count <= FLAT_LIMIT):
        return Plan(
            "flat", 0, 0, f"{count} vectors ({megabytes:.0f} MB) are searched whole, exactly"
        )
    lists = int(np.clip(4 * np.sqrt(count), 1, max(1, count // 39)))
    probes = max(1, min(lists, 16 + lists // 32))
    reason = (
        f"{count} vectors ({megabytes:.0f} MB): {lists} lists, of which a search visits {probes}"
    )
    return Plan("ivf", lists, probes, reason)


def build(
    plan: Plan,
    parts: Callable[[], Iterable[Vectors]],
    dim: int,
    *,
    seed: int = 0,
    on_part: Callable[[int], None] | None = None,
) -> Any:
    """Train where needed and fill an inner-product index with unit rows, in the order of the parts.

    Args:
        plan: what to build.
        parts: gives the arrays (n_i, d) anew each time it is called.
        dim: width of a vector.
        seed: of the sample and of k-means.
        on_part: called with the number of vectors of each part that was added.

    Returns:
        A `faiss.Index` on the CPU; training and filling run on a GPU where faiss has one.
    """
    import faiss

    index: Any = faiss.IndexFlatIP(dim)
    if plan.kind == "ivf":
        index = faiss.IndexIVFFlat(index, dim, plan.lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = plan.probes
        index.cp.seed = seed
        index.cp.spherical = True
        index.cp.min_points_per_centroid = 1  # small sets are wanted as they are
    worker = _on_gpu(index)
    if plan.kind == "ivf":
        worker.train(_sample(parts, plan.lists * _TRAIN_PER_LIST, seed))
    for part in parts():
        for at in range(0, len(part), _ADD_BLOCK):
            worker.add(unit_rows(part[at : at + _ADD_BLOCK]))
        if on_part:
            on_part(len(part))
    return worker if worker is index else faiss.index_gpu_to_cpu(worker)


def _on_gpu(index: Any) -> Any:
    import faiss

    if not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0:
        return index
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def _sample(parts: Callable[[], Iterable[Vectors]], size: int, seed: int) -> NDArray[np.float32]:
    """`size` unit rows, or all, drawn evenly over the parts and in their order: (s, d) float32."""
    starts = np.cumsum([0, *(len(part) for part in parts())])
    size = min(size, int(starts[-1]))
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(starts[-1], size, replace=False, shuffle=False))
    bounds = np.searchsorted(chosen, starts)
    picked: NDArray[np.float32] | None = None
    for number, part in enumerate(parts()):
        if picked is None:
            picked = np.empty((size, part.shape[1]), dtype=np.float32)
        here = slice(bounds[number], bounds[number + 1])
        picked[here] = unit_rows(part[chosen[here] - starts[number]])
    assert picked is not None
    return picked


def search(
    index: Any,
    queries: Vectors,
    parts: Sequence[Vectors],
    floor: float,
    *,
    probes: int | None = None,
    cap: int = 1000,
) -> Pairs:
    """Find the pairs with cosine >= floor that the index proposes, and each query's nearest item.

    A Flat index, or an IVF index that visits all lists, gives what `indices.exact.join` gives.

    Args:
        index: what `build` returned or `faiss.read_index` read.
        queries: (q, d), any float type.
        parts: the stored arrays that the index was built from, in order; they decide.
        floor: lowest score that is reported, compared as float32.
        probes: lists to visit (IVF); None keeps the index's own.
        cap: pairs kept per query.

    Raises:
        ValueError: the index holds another number of vectors, or of another width.
    """
    stored = Stored(parts)
    if index.ntotal != stored.count or index.d != queries.shape[1]:
        raise ValueError(
            f"the index holds {index.ntotal} vectors of width {index.d}, "
            f"but {stored.count} of width {queries.shape[1]} are searched"
        )
    first, owner = distinct(queries)
    collector = PairCollector(len(first), cap)
    run = _Search(index, probes, stored, np.float32(floor), collector)
    for at in range(0, len(first), _QUERY_BLOCK):
        run.block(np.asarray(queries[first[at : at + _QUERY_BLOCK]]), at)
    return collector.finish().spread(owner)


class _Search:
    """An index, and what decides on its proposals.

    What scores at least s is proposed at s less the allowance, so range searches are asked there.
    """

    def __init__(
        self,
        index: Any,
        probes: int | None,
        stored: Stored,
        limit: np.float32,
        collector: PairCollector,
    ) -> None:
        self._index = index
        self._options = _search_options(index, probes)
        self._stored = stored
        self._limit = limit
        self._collector = collector
        self._allowance = 2 * rounding_allowance(index.d)

    def block(self, queries: Vectors, start: int) -> None:
        """Search for queries of which the first has number `start`."""
        units = unit_rows(queries)
        usable = np.flatnonzero(usable_rows(units))
        i, j = self._above(units[usable], float(self._limit))
        i = usable[i]
        score = self._stored.scores(queries, i, j)
        kept = score >= self._limit
        self._collector.add(i[kept] + start, j[kept], score[kept])
        self._collector.offer_nearest(i[kept] + start, j[kept], score[kept])
        self._find_nearest(queries, units, np.setdiff1d(usable, i[kept]), start)

    def _find_nearest(
        self, queries: Vectors, units: NDArray[np.float32], rows: NDArray[np.int64], start: int
    ) -> None:
        """Find the nearest item of rows without pairs among the first few proposals.

        It is certain where the last of these is worse than the best beyond all rounding, or where
        there are no more. Else all proposals as good as the best are scored.
        """
        if not len(rows):
            return
        proposed, items = self._index.search(units[rows], _NEAREST, **self._options)
        i, k = np.nonzero(items >= 0)
        self._offer(queries, rows[i], items[i, k], start)
        best = np.maximum(self._collector.nearest_score[rows + start], -1)
        open_ = (items[:, -1] >= 0) & (proposed[:, -1] >= best - np.float32(self._allowance))
        for row, score in zip(rows[open_], best[open_], strict=True):
            _, j = self._above(units[row : row + 1], float(score))
            self._offer(queries, np.full(len(j), row), j, start)

    def _above(
        self, units: NDArray[np.float32], score: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and items of all proposals that may have at least this score."""
        # faiss reports strictly greater values only, hence the next float below
        radius = np.nextafter(np.float32(score - self._allowance), np.float32(-np.inf))
        bounds, _, items = self._index.range_search(units, float(radius), **self._options)
        # and without any query it gives numbers of another type
        counts = np.diff(bounds.astype(np.int64))
        return np.repeat(np.arange(len(units)), counts), items.astype(np.int64)

    def _offer(
        self, queries: Vectors, i: NDArray[np.int64], j: NDArray[np.int64], start: int
    ) -> None:
        self._collector.offer_nearest(i + start, j, self._stored.scores(queries, i, j))


def _search_options(index: Any, probes: int | None) -> dict[str, Any]:
    import faiss

    if probes is None or not isinstance(index, faiss.IndexIVF):
        return {}
    parameters: Any = faiss.SearchParametersIVF
    return {"params": parameters(nprobe=probes)}


def save(index: Any, path: Path) -> None:
    """Write an index whole or not at all; `faiss.read_index` opens it.

    Raises:
        OSError: it cannot be written.
    """
    import faiss

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        faiss.write_index(index, str(temporary))
        temporary.replace(path)
    except RuntimeError as error:  # what faiss makes of a full disk
        raise OSError(str(error).splitlines()[0]) from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> Any:
    """Open a saved index.

    Raises:
        ValueError: faiss cannot read it.
    """
    import faiss

    try:
        return faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(
            f"{path}: faiss cannot read it ({str(error).partition(chr(10))[0]})"
        ) from error
