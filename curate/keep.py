"""Which of the items that match each other is to be kept: the order of preference."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import groups, tables
from curate.errors import GateError
from curate.groups import MatchGraph
from curate.matches import stored
from curate.parts import Embeddings
from indices.stored import Numbers, Stored, Vectors

Keep = Literal["first", "largest", "closest", "farthest"]
BLOCK = 4096
"""Vectors in memory at a time."""


def preference(keep: Keep, graph: MatchGraph, side: Embeddings) -> NDArray[np.float64] | None:
    """How much each item of a graph is to be kept: (m,), lower is preferred; None: by order.

    Ties go to the earlier item (`groups.ranking`).

    - first: the earlier item.
    - largest: the image of the most pixels, width times height as stored.
    - closest, farthest: the item whose vector has the highest or the lowest cosine with the
      centroid of its connected component at the threshold, see `centrality`. SemDeDup (Abbas et
      al. 2023, arXiv:2303.09540) keeps the farthest from the centroid of a k-means cluster; a
      component is the cluster that needs neither a number of clusters nor a seed.
      Vectors are those of the images as stored, so a mirrored copy may lie far from its group.

    Args:
        keep: the policy.
        graph: the pairs at the threshold.
        side: the set; only vectors of items in components of three and more are read.

    Raises:
        GateError: an item of the graph has no vector in the set.
    """
    if keep == "first":
        return None
    if keep == "largest":
        rows = _rows(graph, side, ("width", "height"))
        pixels = rows["width"].cast(pl.Int64) * rows["height"].cast(pl.Int64)
        return -pixels.fill_null(0).to_numpy().astype(np.float64)
    component = groups.components(graph)
    numbers = _rows(graph, side)["number"].to_numpy().astype(np.int64)
    cosine = centrality(stored(side), numbers, component)
    return cosine if keep == "farthest" else -cosine


def _rows(graph: MatchGraph, side: Embeddings, columns: tuple[str, ...] = ()) -> pl.DataFrame:
    """The vector number and metadata of every item of the graph, in order."""
    schema = pl.Schema({name: tables.METADATA[name] for name in ("id", *columns)})
    every = side.all_metadata(schema).with_row_index("number")
    rows = graph.ids.to_frame("id").join(every, on="id", how="left", maintain_order="left")
    if rows.height != len(graph.samples) or rows["number"].null_count():
        raise GateError(
            f"{side.root}: not every item of a pair has one vector; run `curate dedup` again."
        )
    return rows


def centrality(vectors: Stored, numbers: Numbers, component: Numbers) -> NDArray[np.float64]:
    """The cosine of each item's vector with the centroid of its component: (m,) float64.

    The centroid is the mean of the members' unit vectors. Norms, sums and cosines are computed in
    float64, the sum of a component in the order of its members and in blocks that begin with it, so
    that a value depends on nothing but the component; then rounded to float32, so that what differs
    by rounding alone is a tie. In a component of one or two all are equally far from the centroid:
    they get 0 and are not read. Memory is a few blocks, whatever the size of the components.

    Args:
        vectors: all vectors of the set.
        numbers: (m,) the vector of each item, none of them zero.
        component: (m,) of each item.
    """
    cosine = np.zeros(len(numbers), np.float64)
    size = np.bincount(component)[component] if len(component) else component
    order = np.argsort(component, kind="stable")
    order = order[size[order] > 2]  # noqa: PLR2004  # see above
    starts = np.flatnonzero(np.diff(component[order], prepend=-1))
    for begin, end in _batches(np.append(starts, len(order)).tolist()):
        members = order[begin:end]
        firsts = np.diff(component[members], prepend=-1) != 0
        local = np.cumsum(firsts) - 1
        cosine[members] = _batch(vectors, numbers[members], local)
    return cosine


def _batches(bounds: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of whole components of at most `BLOCK` members; a larger component is one of its own."""
    begin = 0
    for start, stop in pairwise(bounds):
        if stop - begin > BLOCK and start > begin:
            yield begin, start
            begin = start
    if bounds[-1] > begin:
        yield begin, bounds[-1]


def _batch(vectors: Stored, numbers: Numbers, local: Numbers) -> NDArray[np.float32]:
    """Cosines of the members of some components, numbered from 0 and following each other: (n,)."""
    sums: NDArray[np.float64] | None = None
    for at, units in _units(vectors, numbers):
        labels = local[at : at + len(units)]
        firsts = np.flatnonzero(np.diff(labels, prepend=-1))
        if sums is None:
            sums = np.zeros((int(local[-1]) + 1, units.shape[1]))
        sums[labels[firsts]] += np.add.reduceat(units, firsts, axis=0)
    assert sums is not None
    lengths = np.sqrt((sums * sums).sum(axis=1))
    lengths[lengths == 0] = 1  # vectors that cancel out: no direction, and all get 0
    cosine = np.empty(len(numbers), np.float32)
    for at, units in _units(vectors, numbers):
        labels = local[at : at + len(units)]
        products = (units * sums[labels]).sum(axis=1)
        cosine[at : at + len(units)] = products / lengths[labels]
    return cosine


def _units(vectors: Stored, numbers: Numbers) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Where each block begins, and its unit vectors (k, d)."""
    for at in range(0, len(numbers), BLOCK):
        rows: Vectors = vectors.rows(numbers[at : at + BLOCK])
        wide = rows.astype(np.float64)
        yield at, wide / np.sqrt((wide * wide).sum(axis=1))[:, None]
