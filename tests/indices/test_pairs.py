"""The collector, against a list that keeps everything."""

import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_twins import assert_same

from indices.pairs import PairCollector, Pairs

PAIR = st.tuples(st.integers(0, 4), st.integers(0, 30), st.sampled_from([0.5, 0.7, 0.9, 1.0]))


def columns(pairs: Sequence[tuple[Any, ...]]) -> tuple[NDArray[Any], ...]:
    query, item, score = zip(*pairs, strict=True) if pairs else ((), (), ())
    return np.array(query, np.int64), np.array(item, np.int64), np.array(score, np.float32)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(PAIR, max_size=12), max_size=8),
    st.integers(1, 6),
    st.integers(0, 10),
)
def test_the_best_pairs_are_kept_and_all_are_counted_whatever_comes_when(
    blocks: Any, cap: int, slack: int
) -> None:
    seen: set[tuple[int, int]] = set()
    collector = PairCollector(5, cap, slack)
    fresh = []
    for block in blocks:
        new = {pair[:2]: pair for pair in block if pair[:2] not in seen}
        seen |= new.keys()
        collector.add(*columns(list(new.values())))
        fresh += new.values()
    found = collector.finish()
    expected = []
    for query in range(5):
        own = sorted((p for p in fresh if p[0] == query), key=lambda p: (-p[2], p[1]))
        assert found.count[query] == len(own)
        expected += own[:cap]
    for got, wanted in zip((found.query, found.item, found.score), columns(expected), strict=True):
        np.testing.assert_array_equal(got, wanted)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(PAIR, max_size=12), max_size=6))
def test_the_nearest_is_the_best_and_of_equals_the_lowest(blocks: Any) -> None:
    collector = PairCollector(5, 1)
    for block in blocks:
        collector.offer_nearest(*columns(block))
    found = collector.finish()
    for query in range(5):
        own = sorted((-np.float32(s), j) for b in blocks for q, j, s in b if q == query)
        score, item = own[0] if own else (np.inf, -1)
        assert (found.nearest_item[query], found.nearest_score[query]) == (item, -score)


def test_a_candidate_that_matches_nothing_is_never_the_nearest() -> None:
    collector = PairCollector(1, 1)
    collector.offer_nearest(*columns([(0, 3, -np.inf)]))
    assert collector.finish().nearest_item.tolist() == [-1]


def test_pairs_that_were_only_counted_are_in_the_count() -> None:
    collector = PairCollector(3, 1)
    collector.add(*columns([(1, 0, 1.0)]))
    collector.add_count(np.array([1, 1, 2]), np.array([5, 6, 2**40]))
    assert collector.finish().count.tolist() == [0, 12, 2**40]


def test_nothing_added_gives_empty_columns_of_the_right_types() -> None:
    found = PairCollector(0, 10).finish()
    assert [c.dtype for c in (found.query, found.item, found.score)] == ["i8", "i8", "f4"]
    assert len(found.query) == len(found.count) == 0


def test_memory_stays_at_the_cap_when_pairs_never_end() -> None:
    query, item = np.repeat(np.arange(10), 1000), np.tile(np.arange(1000), 10)
    collector = PairCollector(10, 100, slack=20_000)
    tracemalloc.start()
    for block in range(100):
        score = np.random.default_rng(block).random(10_000, np.float32)
        collector.add(query, item + 1000 * block, score)
    found = collector.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.count == 100_000).all()
    assert len(found.query) == 1000
    assert peak < 6e6  # a million pairs would be 20 MB


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), max_size=9), st.integers(0, 2**32))
def test_repeated_queries_get_the_pairs_of_the_one_that_was_searched(
    owner: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 3, 4)
    query = np.repeat(np.arange(4), sizes)
    item, score = rng.integers(0, 99, len(query)), rng.random(len(query), np.float32)
    nearest = (rng.integers(0, 9, 4), rng.random(4, np.float32))
    few = Pairs(query, item, score, sizes.astype(np.int64), *nearest)
    many = few.spread(np.array(owner, np.int64))
    assert many.count.tolist() == [sizes[o] for o in owner]
    assert many.nearest_item.tolist() == [few.nearest_item[o] for o in owner]
    for n, o in enumerate(owner):
        assert many.item[many.query == n].tolist() == few.item[few.query == o].tolist()
        assert many.score[many.query == n].tolist() == few.score[few.query == o].tolist()
    assert (np.diff(many.query) >= 0).all()


@given(st.lists(PAIR, max_size=20, unique_by=lambda pair: pair[:2]), st.integers(0, 5))
def test_blocks_of_queries_put_together_and_taken_apart_are_what_they_were(
    pairs: Any, cut: int
) -> None:
    collector = PairCollector(5, cap=4)
    collector.add(*columns(pairs))
    whole = collector.finish()
    halves = [whole.between(0, cut), whole.between(cut, 5)]
    assert [len(half.count) for half in halves] == [cut, 5 - cut]
    assert_same(Pairs.together(halves), whole)
    assert len(Pairs.together([]).item) == 0
