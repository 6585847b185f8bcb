"""FAISS indices against the exact join, with the real faiss."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexing import build
from numpy.typing import NDArray
from slow_twins import DTYPES, SHAPES, assert_same, make_vectors, split

from indices import exact, faiss_index
from indices.faiss_index import load, search, top_k
from indices.faiss_plan import KINDS, Kind, Plan, choose
from indices.pairs import Pairs
from indices.scores import pair_scores, unit_rows

faiss = pytest.importorskip("faiss")
Crowd = tuple[NDArray[np.floating], list[NDArray[np.floating]]]
FLAT = Plan("flat", 0, 0, "")


def ivf(lists: int, probes: int, kind: Kind = "ivf") -> Plan:
    return Plan(kind, lists, probes, "")


def save(index: Any, path: Path) -> None:
    faiss.write_index(index, str(path))


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    """Clustered items in parts (one empty), and queries that are near some of them."""
    rng = np.random.default_rng(0)
    items = make_vectors(rng, 4000, 24, "clustered", "float16")
    queries = (items[::40] + 0.2 * rng.standard_normal((100, 24))).astype(np.float16)
    return queries, split(items, [0, 1000, 1000, 2500])


@settings(deadline=None, max_examples=60)
@given(st.data(), SHAPES, DTYPES, st.lists(st.integers(0, 40), max_size=4), st.sampled_from(KINDS))
def test_an_index_searched_whole_gives_just_the_pairs_of_the_exact_join(
    data: st.DataObject, shape: str, dtype: str, cuts: list[int], kind: Kind
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
    index = build(FLAT if kind == "flat" else ivf(lists, lists, kind), parts)
    for nearest in (False, True):
        expected = exact.join(queries, parts, floor, cap=cap, nearest=nearest)
        found = search(index, queries, parts, floor, cap=cap, nearest=nearest)
        assert_same(found, expected)
    best = top_k(index, queries, parts, cap)
    every = exact.join(queries, parts, -1.0, cap=cap)
    for name in ("query", "item", "score"):
        np.testing.assert_array_equal(getattr(best, name), getattr(every, name))


@pytest.mark.parametrize("kind", ["ivf-fp16", "ivf-sq8"])
def test_pairs_at_the_floor_are_found_though_their_codes_score_below_it(
    crowd: Crowd, kind: Kind
) -> None:
    queries, parts = crowd
    index = build(ivf(32, 32, kind), parts)
    scores = exact.join(queries, parts, 0.5).score
    for floor in (0.9, 0.99, *np.sort(scores)[:: len(scores) // 20]):
        expected = exact.join(queries, parts, float(floor))
        assert_same(search(index, queries, parts, float(floor)), expected)
    kept = index.sq.rangestat_arg
    index.sq.rangestat_arg = 1e-9  # as if codes were exact: then some are lost
    found = [search(index, queries, parts, float(f)).count.sum() for f in np.sort(scores)[::50]]
    index.sq.rangestat_arg = kept
    expected = [(scores >= f).sum() for f in np.sort(scores)[::50]]
    assert sum(found) < sum(expected)


def test_a_quantised_index_of_others_is_refused_as_its_error_is_unknown(crowd: Crowd) -> None:
    queries, parts = crowd
    foreign = faiss.index_factory(24, "IVF4,SQ8", faiss.METRIC_INNER_PRODUCT)
    foreign.train(unit_rows(np.concatenate(parts)))
    foreign.add(unit_rows(np.concatenate(parts)))
    with pytest.raises(ValueError, match="does not say how far its codes are off"):
        search(foreign, queries, parts, 0.5)


def test_the_number_of_queries_does_not_matter(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, parts = crowd  # faiss multiplies few queries another way than many
    index = build(FLAT, parts)
    expected = exact.join(queries, parts, 0.9)
    assert expected.count.sum() > 100
    for block in (1, 7, 1000):
        monkeypatch.setattr(faiss_index, "_QUERY_BLOCK", block)
        assert_same(search(index, queries, parts, 0.9), expected)


def test_fewer_probes_find_a_growing_part_of_the_pairs(crowd: Crowd) -> None:
    queries, parts = crowd
    index = build(ivf(32, 1), parts)

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
    found = search(build(FLAT, parts), queries, parts, 0.999, nearest=True)
    assert not len(found.query)
    assert_same(found, exact.join(queries, parts, 0.999, nearest=True))


def test_a_saved_index_opens_in_plain_faiss_and_gives_the_same(
    crowd: Crowd, tmp_path: Path
) -> None:
    queries, parts = crowd
    for plan in (FLAT, *(ivf(16, 4, kind) for kind in KINDS[1:])):
        index = build(plan, parts)
        save(index, tmp_path / "index.faiss")
        plain = faiss.read_index(str(tmp_path / "index.faiss"))
        assert (plain.ntotal, plain.d, plain.metric_type) == (4000, 24, faiss.METRIC_INNER_PRODUCT)
        expected = index.search(unit_rows(queries), 5)
        for got, wanted in zip(plain.search(unit_rows(queries), 5), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
        ours = load(tmp_path / "index.faiss")
        assert_same(search(ours, queries, parts, 0.8), search(index, queries, parts, 0.8))


def test_an_open_index_is_mapped_and_not_read(tmp_path: Path) -> None:
    items = np.random.default_rng(0).standard_normal((100_000, 64)).astype(np.float32)
    for plan in (FLAT, ivf(8, 1)):
        save(build(plan, [items]), tmp_path / "index.faiss")
        before = anonymous_memory()
        index = load(tmp_path / "index.faiss")
        search(index, items[:3], [items], 0.9)
        assert anonymous_memory() - before < 8_000_000
        assert index.ntotal == 100_000


def anonymous_memory() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_are_those_that_all_scores_show(crowd: Crowd, kind: Kind) -> None:
    queries, parts = crowd
    index = build(FLAT if kind == "flat" else ivf(8, 8, kind), parts)
    for count in (1, 5, 300):
        found = top_k(index, queries, parts, count)
        expected = exact.join(queries, parts, -1.0, cap=count)
        for name in ("query", "item", "score", "nearest_item"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_the_vector_of_an_item_is_at_its_number(crowd: Crowd) -> None:
    _, parts = crowd
    index = build(FLAT, parts)
    np.testing.assert_array_equal(index.reconstruct(2600), unit_rows(parts[4])[100])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(crowd: Crowd) -> None:
    _, parts = crowd

    def content(seed: int, cuts: list[int]) -> bytes:
        other = split(np.concatenate(parts), cuts)
        index = build(ivf(16, 4), other, seed=seed)
        return bytes(faiss.serialize_index(index).tobytes())

    assert content(7, [1000]) == content(7, [1000]) == content(7, [3, 2000])
    assert content(7, [1000]) != content(8, [1000])


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "other numbers"])
def test_a_damaged_index_file_is_a_clear_error(crowd: Crowd, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "index.faiss"
    save(build(FLAT, crowd[1]), path)
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
    index = build(FLAT, parts)
    with pytest.raises(ValueError, match="4000 vectors of width 24, but 3000"):
        search(index, queries, [*parts[:-1], parts[-1][:500]], 0.5)
    with pytest.raises(ValueError, match="of width 23"):
        search(index, queries[:, :23], parts, 0.5)


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_tiny_sets_make_an_index_without_complaint(
    count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    items = np.random.default_rng(2).standard_normal((count, 8)).astype(np.float32)
    index = build(choose(count, 8, "ivf"), [items])
    found = search(index, items, [items], 0.9999)
    assert (found.nearest_item == np.arange(count)).all()
    assert capfd.readouterr().err == ""
