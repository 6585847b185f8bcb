"""Pairs of one set as a graph: its groups, and which items to keep so that no two kept ones match.

Everything here is linear in the pairs, apart from one sort.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import GateError

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class MatchGraph:
    """The pairs of one set that reach a threshold; a pair has no direction.

    Items are the samples that occur in a pair, numbered from 0 in the order of the samples.

    Attributes:
        samples: (m,) ascending, the number of each item's sample.
        ids: (m,) strings, the samples' ids.
        one: (p,) an item of each pair.
        two: (p,) the other one.
        scores: (p,) float32.
        views: (p,) strings.
        cut: (m,) whether an item may have further pairs with earlier items, not stored. The
            later item of every pair that is not stored is marked, so between unmarked items no
            pair is missing.
    """

    samples: Numbers
    ids: pl.Series
    one: Numbers
    two: Numbers
    scores: NDArray[np.float32]
    views: pl.Series
    cut: Flags


def reaches(threshold: float) -> pl.Expr:
    """Whether a row's score is at or above the threshold, compared as float32."""
    return pl.col("score") >= pl.lit(np.float32(threshold), dtype=pl.Float32)


def is_match(pairs: pl.DataFrame, threshold: float) -> pl.Expr:
    """Whether a row of `pairs` is a match.

    It is if it reaches the threshold and was not refused by a second look (`rejected`). Where a
    column `match` is there, people had a word in it, and it decides instead; see
    `curate.words.with_words`.
    """
    if "match" in pairs.columns:
        return pl.col("match")
    above = reaches(threshold)
    return above & pl.col("rejected").is_null() if "rejected" in pairs.columns else above


def cut_above(pairs: pl.DataFrame, overflown: Iterable[str], threshold: float) -> set[str]:
    """Of the overflown items those that may have matches at the threshold which were not stored.

    The stored ones are the best, so this is so where all of them reach the threshold.
    """
    stored = pairs.filter(pl.col("test_id").is_in(list(overflown)))
    lowest = stored.group_by("test_id").agg(pl.col("score").min())
    return set(lowest.filter(reaches(threshold))["test_id"])


def match_graph(
    ids: pl.Series, pairs: pl.DataFrame, overflown: Iterable[str], threshold: float
) -> MatchGraph:
    """The graph of the pairs at or above a threshold.

    Args:
        ids: of all samples, in order.
        pairs: pairs of an item (`test_id`) with earlier items (`train_id`).
        overflown: items with more pairs than were stored.
        threshold: lowest score of a pair.

    Raises:
        GateError: a pair names an item that is no sample, or two samples share an id.
    """
    if ids.n_unique() != ids.len():
        raise GateError(f"{ids.len()} samples have {ids.n_unique()} ids: some share one.")
    numbers = pl.DataFrame({"id": ids, "at": np.arange(ids.len())})
    above = pairs.filter(is_match(pairs, threshold)).select("test_id", "train_id", "score", "view")
    ends = [_numbers_of(above[name], numbers) for name in ("test_id", "train_id")]
    samples, inverse = np.unique(np.concatenate(ends), return_inverse=True)
    one, two = inverse[: above.height], inverse[above.height :]
    cut = ids.gather(samples).is_in(list(cut_above(pairs, overflown, threshold)))
    return MatchGraph(
        samples, ids.gather(samples), one, two, above["score"].to_numpy(), above["view"],
        cut.to_numpy().astype(np.bool_),
    )  # fmt: skip


def _numbers_of(names: pl.Series, numbers: pl.DataFrame) -> Numbers:
    at = names.to_frame("id").join(numbers, on="id", how="left", maintain_order="left")["at"]
    if at.null_count():
        lost = names.filter(at.is_null())
        raise GateError(
            f"{lost[0]} is in a pair but is no sample of the set; run `curate dedup` again."
        )
    return at.to_numpy().astype(np.int64)


def components(graph: MatchGraph) -> Numbers:
    """The connected component of each item: (m,), numbered from 0 by their first items."""
    import scipy.sparse
    import scipy.sparse.csgraph

    count = len(graph.samples)
    weights = np.ones(len(graph.one), np.int8)
    matrix = scipy.sparse.coo_array((weights, (graph.one, graph.two)), shape=(count, count))
    _, labels = scipy.sparse.csgraph.connected_components(matrix, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank: Numbers = np.argsort(np.argsort(first))
    return rank[inverse].astype(np.int64)


def ranking(graph: MatchGraph, preference: NDArray[np.float64] | None) -> Numbers:
    """The rank of each item, 0 for the most preferred: (m,).

    Args:
        graph: of m items.
        preference: (m,), lower is preferred; ties, and all items with None, by the earlier item.
    """
    rank: Numbers = np.arange(len(graph.samples), dtype=np.int64)
    if preference is not None:
        rank[np.argsort(preference, kind="stable")] = np.arange(len(rank))
    return rank


def independent(graph: MatchGraph, rank: Numbers) -> Flags:
    """Which items to keep: (m,).

    Items are taken by rank, and one is kept when it has no pair with one that is kept already. No
    kept items form a pair, and every other item has a pair with a kept one of lower rank.

    Where pairs were not stored, this is so of the items that are not `cut`. Those that are cut are
    never kept, because either side of a pair that was not stored may be preferred: with the later
    side gone, it cannot be between two kept items, whatever the ranks. The first item of a
    component has no earlier ones, hence is not cut, so no component is lost whole.
    """
    sound = ~(graph.cut[graph.one] | graph.cut[graph.two])
    ends = rank[graph.one[sound]], rank[graph.two[sound]]
    before, after = np.minimum(*ends), np.maximum(*ends)
    dropped: Flags = np.zeros(len(rank), np.bool_)
    # Most have nothing before them or are dropped by one that has not; the loop is for the others.
    is_top = np.bincount(after, minlength=len(rank)) == 0
    dropped[after[is_top[before]]] = True
    left = (~is_top & ~dropped)[before]
    before, after = before[left], after[left]
    after = after[np.argsort(before)]
    degrees = np.bincount(before, minlength=len(rank))
    starts = np.concatenate([[0], np.cumsum(degrees)]).tolist()
    seen = memoryview(dropped)  # type: ignore[arg-type]  # an array is a buffer
    for item in np.flatnonzero(degrees).tolist():
        if not seen[item]:
            dropped[after[starts[item] : starts[item + 1]]] = True
    return ~dropped[rank] & ~graph.cut


def evidence(graph: MatchGraph, rank: Numbers, kept: Flags) -> tuple[Numbers, Flags]:
    """The pair for which each item was dropped.

    It is the best with a kept item that is preferred to it; ties go to the earlier item. A cut item
    has lost pairs, so any kept item will do; if none is stored, its best pair stands in.

    Returns:
        the number of the pair, (m,), -1 for kept items; and (m,) whether it is with a kept item.
    """
    item = np.concatenate([graph.one, graph.two])
    other = np.concatenate([graph.two, graph.one])
    decisive = kept[other] & ((rank[other] < rank[item]) | graph.cut[item])
    found = _best_pair(graph, item, other, ~kept[item] & decisive)
    proven = found >= 0
    lost = ~kept & ~proven
    if lost.any():
        found = np.where(lost, _best_pair(graph, item, other, lost[item]), found)
    return found, proven


def _best_pair(graph: MatchGraph, item: Numbers, other: Numbers, among: Flags) -> Numbers:
    """Per item the pair of highest score among those chosen, then of the earliest other: (m,)."""
    chosen = np.flatnonzero(among)
    item, other, pair = item[chosen], other[chosen], chosen % len(graph.one)
    scores = graph.scores[pair]
    count = len(graph.samples)
    best = np.full(count, -np.inf, np.float32)
    np.maximum.at(best, item, scores)
    tied = scores == best[item]
    item, other, pair = item[tied], other[tied], pair[tied]
    first = np.full(count, count, np.int64)
    np.minimum.at(first, item, other)
    last = other == first[item]
    found: Numbers = np.full(count, -1, np.int64)
    found[item[last]] = pair[last]
    return found


def table(graph: MatchGraph, decisions: pl.DataFrame) -> pl.DataFrame:
    """`tables.COMPONENTS`: every item that is in a pair, component by component.

    Args:
        graph: the pairs at the threshold. Where some were not stored, a component may be in pieces.
        decisions: one row per sample.
    """
    component = components(graph)
    words = decisions["decision"].gather(graph.samples)
    frame = pl.DataFrame({
        "id": graph.ids,
        "component": component,
        "size": np.bincount(component)[component] if len(component) else component,
        "kept": words == "clean",
    })  # fmt: skip
    return frame.sort("component", maintain_order=True)


def summarise(components: pl.DataFrame) -> dict[str, Any]:
    """What `split.json` says of the groups: how many there are, of how many items, by size."""
    sizes = components.group_by("size").agg(pl.col("component").n_unique()).sort("size")
    return {
        "count": components["component"].n_unique(),
        "items": components.height,
        "kept": int(components["kept"].sum()),
        "sizes": {str(size): count for size, count in sizes.iter_rows()},
    }
