"""The exact join against two loops, and its limits of memory."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_twins import (
    DTYPES,
    SHAPES,
    assert_same,
    join_a_million,
    make_vectors,
    naive_join,
    split,
)

from indices import exact
from indices.exact import join
from indices.pairs import Pairs
from indices.scores import pair_scores, rounding_allowance

BLOCKS = st.tuples(
    st.integers(1, 9), st.integers(1, 11), st.sampled_from([0, 8]), st.integers(1, 40)
)
CUTS = st.lists(st.integers(0, 30), max_size=5)


def joined(blocks: Any, *args: Any, **options: Any) -> Pairs:
    """`join` with other block sizes, merging and pieces than the module's own."""
    names = ("_QUERY_BLOCK", "_ITEM_BLOCK", "_CROWD", "_RESCORED")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(names, blocks, strict=True):
            patch.setattr(exact, name, value)
        return join(*args, **options)


def any_floor(
    draw: Callable[..., Any], queries: NDArray[np.floating], items: NDArray[np.floating]
) -> float:
    """A round number, or the score of some pair, so that pairs stand exactly at the floor."""
    if len(queries) and len(items) and draw(st.booleans()):
        i = draw(st.integers(0, len(queries) - 1))
        j = draw(st.integers(0, len(items) - 1))
        score = float(pair_scores(queries, items, np.array([i]), np.array([j]))[0])
        if score >= -1:
            return score
    return draw(st.sampled_from([-1.0, -0.5, 0.0, 0.3, 0.5, 0.9, 1.0]))


@settings(deadline=None, max_examples=120)
@given(st.data(), SHAPES, st.tuples(DTYPES, DTYPES), BLOCKS, CUTS)
def test_the_join_equals_two_loops(
    data: st.DataObject, shape: str, types: tuple[str, str], blocks: Any, cuts: list[int]
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dim = data.draw(st.sampled_from([1, 2, 5, 40]))
    items = make_vectors(rng, data.draw(st.integers(0, 30)), dim, shape, types[1])
    queries = make_vectors(rng, data.draw(st.integers(0, 12)), dim, shape, types[0])
    if len(items) and len(queries) and data.draw(st.booleans()):
        queries[:3] = items[rng.integers(0, len(items), len(queries[:3]))].astype(types[0])
    floor, cap = any_floor(data.draw, queries, items), data.draw(st.integers(1, 8))
    found = joined(blocks, queries, split(items, cuts), floor, cap=cap)
    assert_same(found, naive_join(queries, items, floor, cap))


@settings(deadline=None, max_examples=80)
@given(st.data(), SHAPES, DTYPES, BLOCKS, CUTS)
def test_a_self_join_gives_each_pair_once(
    data: st.DataObject, shape: str, dtype: str, blocks: Any, cuts: list[int]
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    items = make_vectors(rng, data.draw(st.integers(0, 25)), 4, shape, dtype)
    floor, cap = any_floor(data.draw, items, items), data.draw(st.integers(1, 8))
    found = joined(blocks, items, split(items, cuts), floor, cap=cap, within=True)
    assert (found.item < found.query).all()
    assert_same(found, naive_join(items, items, floor, cap, within=True))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([-1, 0, 1, 2, 2.5]))
def test_a_product_with_any_error_within_the_allowance_changes_nothing(
    seed: int, merge: bool, above: float
) -> None:
    rng, dim = np.random.default_rng(seed), 64
    allowance = rounding_allowance(dim)

    def product_of(queries: NDArray[np.float32], **_: object) -> exact.Product:
        def product(items: NDArray[np.float32]) -> NDArray[np.float32]:
            noise = rng.choice([-0.99, 0, 0.99], (len(queries), len(items))) * allowance
            return (queries.astype(np.float64) @ items.T + noise).astype(np.float32)

        return product

    base = rng.standard_normal((1, dim))
    queries = rng.standard_normal((6, dim))
    items = base + 4 * allowance * rng.standard_normal((40, dim))  # scores about an allowance apart
    items[rng.integers(0, 40, 8)] = items[:8]
    scores = np.sort(pair_scores(queries, items, np.zeros(40, int), np.arange(40)))
    floor = float(scores[-3] if above < 0 else scores[-1] + above * allowance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_cpu_product", product_of)
        found = joined((4, 16, 0 if merge else 8, 99), queries, [items], floor)
    assert_same(found, naive_join(queries, items, floor, 1000))


def test_a_pair_exactly_at_the_floor_is_kept_and_one_a_step_below_is_not() -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.standard_normal((2, 20, 64)).astype(np.float16)
    score = pair_scores(queries, items, np.arange(20), np.arange(20))
    for n in range(20):
        at = join(queries[n : n + 1], [items[n : n + 1]], float(score[n]))
        above = join(queries[n : n + 1], [items[n : n + 1]], float(np.nextafter(score[n], 2)))
        assert (at.count[0], above.count[0]) == (1, 0)
        assert above.nearest_score[0] == score[n]


def test_a_threshold_that_float32_cannot_hold_is_rounded_as_the_scores_are() -> None:
    x = np.array([[19.0, np.sqrt(400 - 361)]])  # cosine 0.95 with (1, 0)
    found = join(x, [np.array([[1.0, 0.0]])], 0.95)
    assert found.score.tolist() == [float(np.float32(0.95))]


def test_real_block_sizes_give_the_bits_of_tiny_ones() -> None:
    rng = np.random.default_rng(1)
    items = make_vectors(rng, 9000, 32, "clustered", "float16")
    queries = items[rng.integers(0, 9000, 1100)]
    usual = join(queries, [items], 0.9, cap=50)
    assert usual.count.sum() > 1000
    assert_same(joined((100, 777, 8, 5000), queries, split(items, [5, 4000]), 0.9, cap=50), usual)


def test_the_nearest_survives_zero_rows_when_all_scores_are_negative() -> None:
    items = np.array([[0.0, 0.0], [-1.0, 0.1], [np.nan, 0.0], [-1.0, 0.0]])
    found = join(np.array([[1.0, 0.0], [0.0, 0.0]]), [items], 0.5)
    assert found.nearest_item.tolist() == [1, -1]
    assert found.nearest_score[0] < -0.9


def test_progress_names_every_part_even_without_queries() -> None:
    seen: list[int] = []
    parts = [np.ones((n, 3), np.float16) for n in (2, 0, 5)]
    found = join(np.empty((0, 3), np.float16), parts, 0.5, on_part=seen.append)
    assert seen == [2, 0, 5]
    assert len(found.count) == len(found.query) == 0
    assert join(np.ones((2, 3)), [], 0.5).nearest_item.tolist() == [-1, -1]


def test_placeholder_images_en_masse_cost_neither_time_nor_memory() -> None:
    image = np.random.default_rng(2).standard_normal((1, 128)).astype(np.float16)
    queries, items = np.repeat(image, 1000, axis=0), np.repeat(image, 50_000, axis=0)
    start = time.process_time()
    found = join(queries, [items], 0.9, cap=100)
    below = join(queries, [-items], 0.9)
    within = join(items[:20_000], [items[:20_000]], 0.9, cap=10, within=True)
    assert time.process_time() - start < 20  # measured: 1 s; pair by pair it takes minutes
    assert (found.count == 50_000).all()
    assert found.item.reshape(1000, 100)[7, 99] == 99
    assert (below.nearest_item == 0).all()
    assert not len(below.query)
    assert (within.count == np.arange(20_000)).all()
    assert within.item[-10:].tolist() == list(range(10))


def test_queries_without_direction_cost_no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_a: Any, _b: Any, i: NDArray[np.int64], _j: Any) -> NDArray[np.float32]:
        assert not len(i), "a pair was scored"
        return np.empty(0, np.float32)

    monkeypatch.setattr(exact, "pair_scores", refuse)
    items = np.random.default_rng(3).standard_normal((100, 8))
    assert (join(np.zeros((5, 8)), [items], -1.0).nearest_item == -1).all()


@pytest.mark.gpu
@pytest.mark.parametrize("shape", ["random", "clustered", "tied", "odd"])
def test_the_gpu_gives_the_bits_of_the_cpu(shape: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rng = np.random.default_rng(4)
    items = make_vectors(rng, 20_000, 128, shape, "float16")
    queries = make_vectors(rng, 1500, 128, shape, "float16")
    parts = split(items, [10, 9000])
    cpu = join(queries, parts, 0.3, cap=20)
    assert_same(join(queries, parts, 0.3, cap=20, device="cuda"), cpu)


@pytest.mark.slow
def test_a_million_vectors_are_joined_in_less_than_two_gibibytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for part in range(20):
        vectors = rng.standard_normal((50_000, 512), np.float32).astype(np.float16)
        np.save(tmp_path / f"{part:02}.npy", vectors)
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=join_a_million, args=(str(tmp_path), answer))
    process.start()
    peak, pairs, queries = answer.get(timeout=550)
    process.join()
    assert (pairs, queries) == (1000, 1000)
    assert peak < 2 << 30, f"{peak / 2**20:.0f} MiB"
    assert peak < 1600 << 20  # the mapped files are 977 MiB of it
