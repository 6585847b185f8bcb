"""FAISS indices against the exact join, with the real faiss."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_twins import DTYPES, SHAPES, assert_same, make_vectors, split

from indices import exact, faiss_index
from indices.faiss_index import Plan, build, choose, load, save, search
from indices.pairs import Pairs
from indices.scores import pair_scores, unit_rows

faiss = pytest.importorskip("faiss")
Crowd = tuple[NDArray[np.floating], list[NDArray[np.floating]]]
FLAT = Plan("flat", 0, 0, "")


def ivf(lists: int, probes: int) -> Plan:
    return Plan("ivf", lists, probes, "")


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    """Clustered items in parts (one empty), and queries that are near some of them."""
    rng = np.random.default_rng(0)
    items = make_vectors(rng, 4000, 24, "clustered", "float16")
    queries = (items[::40] + 0.2 * rng.standard_normal((100, 24))).astype(np.float16)
    return queries, split(items, [0, 1000, 1000, 2500])


@settings(deadline=None, max_examples=60)
@given(st.data(), SHAPES, DTYPES, st.lists(st.integers(0, 40), max_size=4), st.booleans())
def test_an_index_searched_whole_gives_just_the_pairs_of_the_exact_join(
    data: st.DataObject, shape: str, dtype: str, cuts: list[int], flat: bool
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dim = data.draw(st.sampled_from([1, 3, 24]))
    items = make_vectors(rng, data.draw(st.integers(1, 40)), dim, shape, dtype)
    queries = make_vectors(rng, data.draw(st.integers(0, 12)), dim, shape, "float16")
    floor = data.draw(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 0.9, 1.0]))
    if len(queries) and data.draw(st.booleans()):
        at = np.array([0])
        floor = max(-1.0, float(pair_scores(queries, items, at, at)[0]))
    cap, parts = data.draw(st.integers(1, 8)), split(items, cuts)
    lists = data.draw(st.integers(1, min(4, len(items))))
    index = build(FLAT if flat else ivf(lists, lists), lambda: parts, dim)
    expected = exact.join(queries, parts, floor, cap=cap)
    assert_same(search(index, queries, parts, floor, cap=cap), expected)


def test_the_number_of_queries_does_not_matter(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, parts = crowd  # faiss multiplies few queries another way than many
    index = build(FLAT, lambda: parts, 24)
    expected = exact.join(queries, parts, 0.9)
    assert expected.count.sum() > 100
    for block in (1, 7, 1000):
        monkeypatch.setattr(faiss_index, "_QUERY_BLOCK", block)
        assert_same(search(index, queries, parts, 0.9), expected)


def test_fewer_probes_find_a_growing_part_of_the_pairs(crowd: Crowd) -> None:
    queries, parts = crowd
    index = build(ivf(32, 1), lambda: parts, 24)

    def pairs(found: Pairs) -> set[tuple[int, int, float]]:
        return set(
            zip(found.query.tolist(), found.item.tolist(), found.score.tolist(), strict=True)
        )

    every = pairs(exact.join(queries, parts, 0.5))
    sets = [pairs(search(index, queries, parts, 0.5, probes=probes)) for probes in (1, 4, 16, 32)]
    for fewer, more in itertools.pairwise(sets):
        assert fewer <= more
    assert len(sets[0]) < len(sets[1]) < len(every)
    assert sets[-1] == every
    assert pairs(search(index, queries, parts, 0.5)) == sets[0]  # the index's own number


def test_near_ties_below_the_floor_do_not_mislead_the_nearest() -> None:
    rng = np.random.default_rng(1)
    base = rng.standard_normal(16)
    items = (base + 1e-7 * rng.standard_normal((300, 16))).astype(np.float32)
    items = np.concatenate([items, np.repeat(items[-1:], 50, axis=0)])
    queries = (base + rng.standard_normal((20, 16))).astype(np.float32)
    parts = [items]
    found = search(build(FLAT, lambda: parts, 16), queries, parts, 0.999)
    assert not len(found.query)
    assert_same(found, exact.join(queries, parts, 0.999))


def test_a_saved_index_opens_in_plain_faiss_and_gives_the_same(
    crowd: Crowd, tmp_path: Path
) -> None:
    queries, parts = crowd
    for plan in (FLAT, ivf(16, 4)):
        index = build(plan, lambda: parts, 24)
        save(index, tmp_path / "index.faiss")
        plain = faiss.read_index(str(tmp_path / "index.faiss"))
        assert (plain.ntotal, plain.d, plain.metric_type) == (4000, 24, faiss.METRIC_INNER_PRODUCT)
        expected = index.search(unit_rows(queries), 5)
        for got, wanted in zip(plain.search(unit_rows(queries), 5), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
        ours = load(tmp_path / "index.faiss")
        assert_same(search(ours, queries, parts, 0.8), search(index, queries, parts, 0.8))
    assert [path.name for path in tmp_path.iterdir()] == ["index.faiss"]


def test_the_vector_of_an_item_is_at_its_number(crowd: Crowd) -> None:
    _, parts = crowd
    index = build(FLAT, lambda: parts, 24)
    np.testing.assert_array_equal(index.reconstruct(2600), unit_rows(parts[4])[100])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    crowd: Crowd, tmp_path: Path
) -> None:
    _, parts = crowd

    def content(seed: int, cuts: list[int]) -> bytes:
        other = split(np.concatenate(parts), cuts)
        save(build(ivf(16, 4), lambda: other, 24, seed=seed), tmp_path / "index.faiss")
        return (tmp_path / "index.faiss").read_bytes()

    assert content(7, [1000]) == content(7, [1000]) == content(7, [3, 2000])
    assert content(7, [1000]) != content(8, [1000])


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "other numbers"])
def test_a_damaged_index_file_is_a_clear_error(crowd: Crowd, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "index.faiss"
    save(build(FLAT, lambda: crowd[1], 24), path)
    whole = path.read_bytes()
    changed = {
        "empty": b"", "text": b"no index at all", "cut": whole[: len(whole) // 2],
        "other numbers": whole[:4] + b"\xff" * 40 + whole[44:],
    }  # fmt: skip
    path.write_bytes(changed[damage])
    with pytest.raises(ValueError, match=r"index\.faiss: faiss cannot read it"):
        load(path)
    with pytest.raises(ValueError, match=r"gone\.faiss"):
        load(tmp_path / "gone.faiss")


def test_an_index_of_other_vectors_is_refused(crowd: Crowd) -> None:
    queries, parts = crowd
    index = build(FLAT, lambda: parts, 24)
    with pytest.raises(ValueError, match="4000 vectors of width 24, but 3000"):
        search(index, queries, [*parts[:-1], parts[-1][:500]], 0.5)
    with pytest.raises(ValueError, match="of width 23"):
        search(index, queries[:, :23], parts, 0.5)


def test_progress_names_every_part(crowd: Crowd) -> None:
    seen: list[int] = []
    build(ivf(4, 1), lambda: crowd[1], 24, on_part=seen.append)
    assert seen == [0, 1000, 0, 1500, 1500]


def test_small_sets_are_flat_and_large_ones_have_lists() -> None:
    assert choose(200_000, 512).kind == "flat"
    assert choose(200_001, 512).kind == "ivf"
    assert "exactly" in choose(10, 8).reason
    assert "lists" in choose(10**6, 8).reason
    assert choose(10**9, 512, "flat") == choose(10**9, 512, "flat")
    for count in (1, 2, 38, 39, 100, 5000, 10**6, 4 * 10**8):
        plan = choose(count, 16, "ivf")
        assert 1 <= plan.probes <= plan.lists <= max(1, count // 39)


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_tiny_sets_make_an_index_without_complaint(
    count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    items = np.random.default_rng(2).standard_normal((count, 8)).astype(np.float32)
    index = build(choose(count, 8, "ivf"), lambda: [items], 8)
    found = search(index, items, [items], 0.9999)
    assert (found.nearest_item == np.arange(count)).all()
    assert capfd.readouterr().err == ""


def test_the_sample_is_drawn_evenly_in_order_and_without_repetition() -> None:
    items = np.arange(1.0, 1001)[:, None] * [[1.0, 0.0]] + [[0.0, 1000.0]]
    parts = split(items, [0, 10, 10, 600])
    sample = faiss_index._sample(lambda: parts, 100, 3)
    assert sample.shape == (100, 2)
    assert sample.dtype == np.float32
    slope = sample[:, 0] / sample[:, 1]
    assert (np.diff(slope) > 0).all()
    assert 40 < (slope > 0.6).sum() + 20 < 80
    assert len(faiss_index._sample(lambda: parts, 5000, 3)) == 1000


def test_the_sample_takes_memory_for_itself_only(tmp_path: Path) -> None:
    paths = []
    for part in range(10):
        paths.append(tmp_path / f"{part}.npy")
        np.save(paths[-1], np.random.default_rng(part).random((20_000, 64)).astype(np.float16))
    tracemalloc.start()
    sample = faiss_index._sample(lambda: (np.load(p, mmap_mode="r") for p in paths), 40_000, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sample.nbytes == 10_240_000
    assert peak < 1.6 * sample.nbytes + (4 << 20)
