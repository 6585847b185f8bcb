"""Graphs of matches: groups, sets in which no two match, and their evidence."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_twins import naive_components, naive_keep

from curate import groups, tables
from curate.errors import GateError
from curate.groups import MatchGraph, match_graph

T = 0.9
ABOVE = st.sampled_from([0.9, 0.95, 1.0])


def names(count: int) -> pl.Series:
    return pl.Series([f"s:{n}" for n in range(count)], dtype=pl.String)


def pairs_of(*rows: tuple[int, int, float]) -> pl.DataFrame:
    records = [
        {"test_id": f"s:{i}", "train_id": f"s:{j}", "score": s, "view": "identity"}
        for i, j, s in rows
    ]
    return tables.rows(records, tables.PAIRS)


def graph_of(
    count: int, *rows: tuple[int, int, float], overflown: Sequence[int] = ()
) -> MatchGraph:
    return match_graph(names(count), pairs_of(*rows), [f"s:{n}" for n in overflown], T)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, dict[tuple[int, int], float], list[int]]:
    """Number of samples, pairs with their scores, overflown items."""
    count = draw(st.integers(1, 12))
    every = [(i, j) for i in range(count) for j in range(i)]
    chosen = draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    later = sorted({i for i, _ in chosen})
    overflown = draw(st.lists(st.sampled_from(later), unique=True)) if later else []
    return count, {pair: draw(ABOVE) for pair in chosen}, overflown


@settings(deadline=None, max_examples=200)
@given(graphs(), st.data())
def test_the_fast_choice_is_that_of_the_slow_one(
    case: tuple[int, dict[tuple[int, int], float], list[int]], data: st.DataObject
) -> None:
    count, scores, overflown = case
    graph = graph_of(count, *((i, j, s) for (i, j), s in scores.items()), overflown=overflown)
    items = sorted({item for pair in scores for item in pair})
    assert graph.samples.tolist() == items
    taste = [data.draw(st.sampled_from([-1.5, 0.0, 2.0])) for _ in items]
    order = [item for _, item in sorted(zip(taste, items, strict=True))]
    rank = groups.ranking(graph, np.array(taste))
    kept = groups.independent(graph, rank)
    pair, proven = groups.evidence(graph, rank, kept)
    expected = naive_keep(scores, order, set(overflown))
    for number, item in enumerate(items):
        found = expected[item]
        assert bool(kept[number]) is (found is None)
        assert bool(pair[number] == -1) is (found is None)
        if found is not None:
            ends = {items[graph.one[pair[number]]], items[graph.two[pair[number]]]}
            assert (ends, proven[number]) == ({item, found[0]}, found[1])


@settings(deadline=None, max_examples=100)
@given(graphs())
def test_components_are_those_found_by_joining_sets(
    case: tuple[int, dict[tuple[int, int], float], list[int]],
) -> None:
    count, scores, _ = case
    graph = graph_of(count, *((i, j, s) for (i, j), s in scores.items()))
    labels = groups.components(graph)
    found = [graph.samples[labels == label].tolist() for label in range(labels.max(initial=-1) + 1)]
    assert found == naive_components(scores)


def test_every_component_keeps_an_item_though_all_but_its_first_overflow() -> None:
    rows = [(i, j, 1.0) for i in range(5) for j in range(i)]
    graph = graph_of(5, *rows, overflown=[1, 2, 3, 4])
    kept = groups.independent(graph, groups.ranking(graph, np.arange(5, 0, -1.0)))
    assert kept.tolist() == [True, False, False, False, False]


def test_only_pairs_at_the_threshold_are_in_the_graph_to_the_last_bit() -> None:
    below = float(np.nextafter(np.float32(T), np.float32(0)))
    graph = graph_of(4, (1, 0, below), (3, 2, float(np.float32(T))))
    assert graph.ids.to_list() == ["s:2", "s:3"]
    assert not graph.cut.any()


def test_a_set_without_a_match_has_no_group() -> None:
    graph = graph_of(3)
    rank = groups.ranking(graph, None)
    kept = groups.independent(graph, rank)
    assert kept.size == groups.evidence(graph, rank, kept)[0].size == 0
    components = groups.table(graph, pl.DataFrame({"decision": ["clean"] * 3}))
    assert components.height == 0
    assert groups.summarise(components) == {"count": 0, "items": 0, "kept": 0, "sizes": {}}


def test_the_table_lists_the_items_group_by_group() -> None:
    graph = graph_of(7, (3, 0, 1.0), (5, 3, 1.0), (6, 2, 1.0))
    words = ["clean", "unknown", "clean", "overlap", "clean", "clean", "overlap"]
    components = groups.table(graph, pl.DataFrame({"decision": words}))
    assert components.schema == tables.COMPONENTS
    assert components.rows() == [
        ("s:0", 0, 3, True), ("s:3", 0, 3, False), ("s:5", 0, 3, True),
        ("s:2", 1, 2, True), ("s:6", 1, 2, False),
    ]  # fmt: skip
    assert groups.summarise(components) == {
        "count": 2, "items": 5, "kept": 3, "sizes": {"2": 1, "3": 1},
    }  # fmt: skip


def test_a_pair_of_an_unknown_sample_is_an_error() -> None:
    with pytest.raises(GateError, match="s:9 is in a pair but is no sample"):
        graph_of(3, (9, 0, 1.0))


def test_samples_that_share_an_id_are_an_error() -> None:
    with pytest.raises(GateError, match="2 samples have 1 ids"):
        match_graph(pl.Series(["a", "a"]), pairs_of(), [], T)


@pytest.mark.parametrize("shape", ["random", "chain", "star", "pairs"])
def test_a_million_pairs_take_seconds_whatever_their_shape(shape: str) -> None:
    count = 1_000_000
    number = np.arange(count)
    rng = np.random.default_rng(0)
    one, two = {
        "random": (rng.integers(0, 50_000, count), rng.integers(50_000, 100_000, count)),
        "chain": (number, number + 1),
        "star": (np.zeros_like(number), number + 1),
        "pairs": (2 * number, 2 * number + 1),
    }[shape]
    size = int(two.max()) + 1
    scores = rng.integers(90, 101, count).astype(np.float32) / 100
    graph = MatchGraph(
        np.arange(size), pl.Series([], dtype=pl.String), one, two, scores,
        pl.Series([], dtype=pl.String), np.zeros(size, np.bool_),
    )  # fmt: skip
    began = perf_counter()
    rank = groups.ranking(graph, None)
    kept = groups.independent(graph, rank)
    pair, proven = groups.evidence(graph, rank, kept)
    labels = groups.components(graph)
    assert perf_counter() - began < 20
    assert not (kept[one] & kept[two]).any()
    dropped = np.flatnonzero(~kept)
    assert proven[dropped].all()
    other = one[pair[dropped]] + two[pair[dropped]] - dropped
    assert kept[other].all()
    assert (labels[one] == labels[two]).all()
    if shape != "random":
        assert kept.sum() == {"chain": (size + 1) // 2, "star": 1, "pairs": count}[shape]
