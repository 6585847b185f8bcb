"""FAISS indices over stored vectors: built from parts, saved for `faiss.read_index`, searched by floor.

An index proposes candidates; the stored vectors decide (`indices.scores`). Graph and product-quantised
indices are not offered: they lose pairs at high thresholds, where duplicates cluster.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from indices.pairs import PairCollector, Pairs
from indices.scores import pair_scores, rounding_allowance, unit_rows

Kind = Literal["flat", "ivf"]
Vectors = NDArray[np.floating]

FLAT_LIMIT = 200_000
_TRAIN_PER_LIST = 64
_QUERY_BLOCK = 256
_ADD_BLOCK = 65_536


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
        return Plan("flat", 0, 0, f"{count} vectors ({megabytes:.0f} MB) are searched whole, exactly")
    lists = int(np.clip(4 * np.sqrt(count), 1, max(1, count // 39)))
    probes = max(1, min(lists, 16 + lists // 32))
    reason = f"{count} vectors ({megabytes:.0f} MB): {lists} lists, of which a search visits {probes}"
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

    index = faiss.IndexFlatIP(dim)
    if plan.kind == "ivf":
        index = faiss.IndexIVFFlat(index, dim, plan.lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = plan.probes
        index.cp.seed = seed
        index.cp.spherical = True
    worker = _on_gpu(index)
    if plan.kind == "ivf":
        worker.train(_sample(parts(), plan.lists * _TRAIN_PER_LIST, seed))
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


def _sample(parts: Iterable[Vectors], size: int, seed: int) -> NDArray[np.float32]:
    """About `size` unit rows, drawn evenly over the parts and in their order: (s, d) float32."""
    arrays = list(parts)
    count = sum(len(part) for part in arrays)
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(count, size=min(size, count), replace=False))
    picked, start = [], 0
    for part in arrays:
        rows = chosen[(chosen >= start) & (chosen < start + len(part))] - start
        picked.append(unit_rows(part[rows]))
        start += len(part)
    return np.concatenate(picked)


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

    Args:
        index: what `build` returned or `faiss.read_index` read.
        queries: (q, d), any float type.
        parts: the stored arrays that the index was built from, in order; they decide.
        floor: lowest score that is reported, compared as float32.
        probes: lists to visit (IVF); None keeps the index's own.
        cap: pairs kept per query.
    """
    collector = PairCollector(len(queries), cap)
    stored = _Stored(parts)
    # faiss reports strictly greater scores only, hence the next float below
    radius = np.nextafter(
        np.float32(floor - 2 * rounding_allowance(queries.shape[1])), np.float32(-1)
    )
    for at in range(0, len(queries), _QUERY_BLOCK):
        block = np.asarray(queries[at : at + _QUERY_BLOCK])
        for i, j in _proposals(index, unit_rows(block), float(radius), probes):
            score = stored.scores(block, i, j)
            kept = score >= np.float32(floor)
            collector.add(i[kept] + at, j[kept], score[kept])
            collector.offer_nearest(i + at, j, score)
    return collector.finish()


def _proposals(
    index: Any, units: NDArray[np.float32], radius: float, probes: int | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and items of candidates: all above the radius, and the nearest of rows without any."""
    options = _search_options(index, probes)
    bounds, _, items = index.range_search(units, radius, **options)
    counts = np.diff(bounds.astype(np.int64))
    yield np.repeat(np.arange(len(units)), counts), items.astype(np.int64)
    empty = np.flatnonzero(counts == 0)
    if len(empty) and index.ntotal:
        _, nearest = index.search(units[empty], 1, **options)
        found = nearest[:, 0] >= 0
        yield empty[found], nearest[found, 0].astype(np.int64)


def _search_options(index: Any, probes: int | None) -> dict[str, Any]:
    import faiss

    if probes is None or not isinstance(index, faiss.IndexIVF):
        return {}
    return {"params": faiss.SearchParametersIVF(nprobe=probes)}


class _Stored:
    """The stored vectors of all parts under one numbering."""

    def __init__(self, parts: Sequence[Vectors]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def scores(
        self, queries: Vectors, i: NDArray[np.int64], j: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        out = np.empty(len(j), dtype=np.float32)
        owner = np.searchsorted(self._starts, j, side="right") - 1
        for part in np.unique(owner):
            at = np.flatnonzero(owner == part)
            out[at] = pair_scores(queries, self._parts[part], i[at], j[at] - self._starts[part])
        return out


def save(index: Any, path: Path) -> None:
    """Write an index whole or not at all; `faiss.read_index` opens it."""
    import faiss

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        faiss.write_index(index, str(temporary))
        temporary.replace(path)
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
    except RuntimeError as error:
        raise ValueError(f"{path}: faiss cannot read it ({str(error).splitlines()[0]})") from error
