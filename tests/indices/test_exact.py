"""The exact join against two loops, and its limits of memory."""

import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
from indices.exact import join, self_join
from indices.pairs import Pairs
from indices.planning import Plan
from indices.scores import pair_scores
from indices.sketch import Sketcher, directions, turned
from indices.stored import Stored

BLOCKS = st.tuples(
    st.integers(1, 9), st.integers(1, 11), st.sampled_from([0, 8]), st.integers(1, 40)
)
CUTS = st.lists(st.integers(0, 30), max_size=5)


def with_blocks(blocks: Any, search: Callable[[], Pairs]) -> Pairs:
    """A search with other block sizes, merging and readings than the module's own."""
    names = ("QUERY_BLOCK", "ITEM_BLOCK", "_CROWD", "_READ_BLOCK")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(names, blocks, strict=True):
            patch.setattr(exact, name, value)
        patch.setattr(exact, "_SORTED_TOGETHER", 2 * blocks[0])
        patch.setattr(exact, "_SKETCHED_TOGETHER", 3 * blocks[0])
        return search()


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
    return draw(st.sampled_from([-1.0, -0.5, 0.0, 0.3, 0.5, 0.75, 0.9, 0.95, 1.0]))


def any_plan(draw: Callable[..., Any], items: NDArray[np.floating]) -> Plan | None:
    """The module's own choice, or any precision with any columns of the items' directions."""
    dim = items.shape[1]
    precision = draw(st.sampled_from([None, "int8", "bf16", "fp32"]))
    columns = draw(st.integers(0, dim))
    if precision is None:
        return None
    basis = turned(directions(items), columns) if columns and len(items) else None
    return Plan(Sketcher(dim, basis, precision))


def without_direction(rows: NDArray[np.floating]) -> set[int]:
    usable = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
    return set(np.flatnonzero(~usable).tolist())


@settings(deadline=None, max_examples=200)
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
    plan, nearest = any_plan(data.draw, items), data.draw(st.booleans())
    parts, memory = split(items, cuts), data.draw(st.sampled_from([1, 1 << 30]))
    found = with_blocks(
        blocks,
        lambda: join(queries, parts, floor, cap=cap, plan=plan, memory=memory, nearest=nearest),
    )
    assert_same(found, naive_join(queries, items, floor, cap, nearest=nearest))
    if without_direction(queries) < set(range(len(queries))):
        assert set(found.unusable.tolist()) == without_direction(items)


@settings(deadline=None, max_examples=120)
@given(st.data(), SHAPES, DTYPES, BLOCKS, CUTS)
def test_a_self_join_gives_each_pair_once(
    data: st.DataObject, shape: str, dtype: str, blocks: Any, cuts: list[int]
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    items = make_vectors(rng, data.draw(st.integers(0, 25)), 4, shape, dtype)
    floor, cap = any_floor(data.draw, items, items), data.draw(st.integers(1, 8))
    plan, memory = any_plan(data.draw, items), data.draw(st.sampled_from([1, 1 << 30]))
    found = with_blocks(
        blocks, lambda: self_join(split(items, cuts), floor, cap=cap, plan=plan, memory=memory)
    )
    assert (found.item < found.query).all()
    assert_same(found, naive_join(items, items, floor, cap, within=True))


def units(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1)[:, None]


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
@pytest.mark.parametrize("columns", [0, 30, 62])
def test_real_widths_give_the_pairs_of_a_full_float64_product(precision: Any, columns: int) -> None:
    rng = np.random.default_rng(columns)
    spectrum = np.arange(1, 513) ** -0.5

    def drawn(count: int) -> NDArray[np.floating]:
        """Vectors with a mean cosine of about one half and a power-law spectrum."""
        return rng.standard_normal((count, 512)) * spectrum + 0.115

    items = drawn(9000).astype(np.float16)
    near = items[::30] + 0.2 * spectrum * rng.standard_normal((300, 512))
    queries = np.concatenate([near, drawn(300)]).astype(np.float16)
    product = units(queries) @ units(items).T
    basis = turned(directions(items), columns) if columns else None
    plan = Plan(Sketcher(512, basis, precision))
    for floor in (0.95, float(np.sort(product, axis=None)[-2000])):
        found = join(queries, [items], floor, cap=9000, plan=plan)
        sure = set(zip(*np.nonzero(product >= floor + 1e-7), strict=True))
        may_be = set(zip(*np.nonzero(product >= floor - 1e-7), strict=True))
        pairs = set(zip(found.query.tolist(), found.item.tolist(), strict=True))
        assert sure <= pairs <= may_be
        assert len(pairs) >= 200
        np.testing.assert_allclose(found.score, product[found.query, found.item], atol=1e-6)


def test_a_pair_exactly_at_the_floor_is_kept_and_one_a_step_below_is_not() -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.standard_normal((2, 20, 64)).astype(np.float16)
    score = pair_scores(queries, items, np.arange(20), np.arange(20))
    for n in range(20):
        at = join(queries[n : n + 1], [items[n : n + 1]], float(score[n]))
        floor = float(np.nextafter(score[n], 2))
        above = join(queries[n : n + 1], [items[n : n + 1]], floor, nearest=True)
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
    parts = split(items, [5, 4000])
    tiny = with_blocks((100, 777, 8, 5000), lambda: join(queries, parts, 0.9, cap=50))
    assert_same(tiny, usual)


def test_queries_and_items_of_any_size_are_read_in_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    items = make_vectors(rng, 5000, 16, "clustered", "float16")
    np.save(tmp_path / "items.npy", items)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    stored = Stored([mapped[:1000], mapped[1000:]])
    whole = join(items[:3000], [items], 0.99, cap=5)
    few = with_blocks((64, 100, 8, 500), lambda: join(stored, stored, 0.99, cap=5, memory=1))
    assert_same(few, join(items, [items], 0.99, cap=5))
    assert (few.count[:3000] == whole.count).all()


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_progress_adds_up_to_all_items_whatever_the_passes(memory: int) -> None:
    parts = [np.ones((n, 3), np.float16) for n in (2, 0, 5)]
    for search in (partial(join, np.ones((9, 3)), parts, 0.5), partial(self_join, parts, 0.5)):
        seen: list[int] = []
        with_blocks((2, 3, 8, 4), partial(search, memory=memory, on_part=seen.append))
        assert sum(seen) == 7
        assert len(seen) > 1


def test_nothing_to_search_or_to_find_is_no_error() -> None:
    seen: list[int] = []
    found = join(np.empty((0, 3), np.float16), [np.ones((2, 3))], 0.5, on_part=seen.append)
    assert seen == [2]
    assert len(found.count) == len(found.query) == 0
    assert join(np.ones((2, 3)), [], 0.5).nearest_item.tolist() == [-1, -1]
    assert len(self_join([], 0.5).count) == 0


def test_placeholder_images_en_masse_cost_neither_time_nor_memory() -> None:
    image = np.random.default_rng(2).standard_normal((1, 128)).astype(np.float16)
    queries, items = np.repeat(image, 1000, axis=0), np.repeat(image, 50_000, axis=0)
    start = time.process_time()
    found = join(queries, [items], 0.9, cap=100)
    below = join(queries, [-items], 0.9, nearest=True)
    within = self_join([items[:20_000]], 0.9, cap=10)
    assert time.process_time() - start < 20  # measured: 2 s; pair by pair it takes minutes
    assert (found.count == 50_000).all()
    assert found.item.reshape(1000, 100)[7, 99] == 99
    assert (below.nearest_item == 0).all()
    assert not len(below.query)
    assert (within.count == np.arange(20_000)).all()
    assert within.item[-10:].tolist() == list(range(10))


def test_queries_without_direction_cost_no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NDArray[np.float32]:
        raise AssertionError("a pair was scored")

    monkeypatch.setattr(exact, "pair_scores", refuse)
    items = np.random.default_rng(3).standard_normal((100, 8))
    assert (join(np.zeros((5, 8)), [items], -1.0).nearest_item == -1).all()


@pytest.mark.gpu
@pytest.mark.parametrize("shape", ["random", "clustered", "tied", "odd"])
def test_the_gpu_gives_the_bits_of_the_cpu(shape: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rng = np.random.default_rng(4)
    items = make_vectors(rng, 20_000, 128, shape, "float16")
    queries = make_vectors(rng, 1500, 128, shape, "float16")
    parts = split(items, [10, 9000])
    cpu = join(queries, parts, 0.3, cap=20, nearest=True)
    assert_same(join(queries, parts, 0.3, cap=20, nearest=True, device="cuda"), cpu)


@pytest.mark.slow
def test_a_million_vectors_are_joined_in_less_than_a_gibibyte(tmp_path: Path) -> None:
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
    assert peak < 1 << 30, f"{peak / 2**20:.0f} MiB"
