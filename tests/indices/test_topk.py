"""The nearest items against sorting all."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_twins import DTYPES, SHAPES, make_vectors, naive_top_k, split

from indices import topk
from indices.topk import top_k


@settings(deadline=None, max_examples=120)
@given(
    st.integers(0, 2**32), SHAPES, st.tuples(DTYPES, DTYPES), st.integers(1, 6),
    st.tuples(
        st.tuples(*(st.integers(1, n) for n in (9, 11)), st.sampled_from([0, 8]), st.just(9)),
        st.lists(st.integers(0, 30), max_size=4),
    ),
)  # fmt: skip
def test_the_best_are_those_of_sorting_all(
    seed: int, shape: str, types: tuple[str, str], k: int, reading: tuple[Any, list[int]]
) -> None:
    blocks, cuts = reading
    rng = np.random.default_rng(seed)
    items = make_vectors(rng, int(rng.integers(0, 30)), 4, shape, types[0])
    queries = make_vectors(rng, 9, 4, shape, types[1])
    names = ("_QUERY_BLOCK", "_ITEM_BLOCK", "_CROWD", "_QUERIES")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(names, blocks, strict=True):
            patch.setattr(topk, name, value)
        found = top_k(queries, split(items, cuts), k)
    expected = naive_top_k(queries, items, k)
    assert found.count.tolist() == [len(row) for row in expected]
    assert found.item.tolist() == [item for row in expected for _, item in row]
    assert found.score.tolist() == [float(score) for row in expected for score, _ in row]
    best = [row[0] if row else (-np.inf, -1) for row in expected]
    assert found.nearest_item.tolist() == [item for _, item in best]
    assert found.nearest_score.tolist() == [float(score) for score, _ in best]


def test_a_placeholder_among_the_items_is_scored_once_a_block() -> None:
    rng = np.random.default_rng(0)
    items = np.repeat(rng.standard_normal((1, 64)).astype(np.float16), 40_000, axis=0)
    queries = rng.standard_normal((3000, 64)).astype(np.float16)
    found = top_k(queries, [items], 3)
    assert found.item.reshape(3000, 3).tolist() == [[0, 1, 2]] * 3000


def test_the_bars_rise_so_that_few_pairs_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = []
    original = topk.pair_scores

    def counting(a: Any, b: Any, i: Any, j: Any) -> Any:
        scored.append(len(i))
        return original(a, b, i, j)

    monkeypatch.setattr(topk, "pair_scores", counting)
    rng = np.random.default_rng(1)
    items = rng.standard_normal((100_000, 32)).astype(np.float16)
    top_k(rng.standard_normal((50, 32)).astype(np.float16), [items], 5)
    assert sum(scored) < 50 * 5 * 13  # every block's best five would be that many
