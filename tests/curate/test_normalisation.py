"""Score normalisation equals two plain loops, with a cap, several views, and any search."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import embeddings, random_parts

from curate.background import Background
from curate.errors import CurateError
from curate.index import build_index
from curate.matches import Matches, MatchSettings, match
from curate.normalisation import Normalisation
from curate.parts import Embeddings
from indices.scores import pair_scores
from indices.stored import Stored

Found = dict[tuple[str, str], np.float32]


def background(seed: int, count: int, dim: int = 4) -> Background:
    return Background("b.npy", random_parts(seed, [count], dim)[0], f"{seed} {count}")


def cosine(a: np.ndarray, b: np.ndarray) -> np.float32:
    return np.float32(pair_scores(a[None], b[None], np.array([0]), np.array([0]))[0])


def naive_term(query: np.ndarray, how: Normalisation) -> float:
    cosines = sorted((float(cosine(query, b)) for b in how.background.vectors), reverse=True)
    return how.beta * float(np.mean(cosines[: how.neighbours]))


def naive(test: Embeddings, train: Embeddings, how: Normalisation) -> Found:
    """Normalised scores of all pairs, by their better view."""
    tests, trains = test.all_metadata()["id"], train.all_metadata()["id"]
    stored = np.concatenate([np.empty((0, 4)), *train.view_parts()])
    best: Found = {}
    for view in test.manifest.config["views"]:
        for i, query in enumerate(test.all_vectors(view)):
            term = naive_term(query, how)
            for j, item in enumerate(stored):
                score = np.float32(float(cosine(query, item)) - term)
                pair = tests[i], trains[j]
                best[pair] = max(score, best.get(pair, np.float32(-np.inf)))
    return best


def scores(found: Matches) -> Found:
    rows = found.pairs().select("test_id", "train_id", "score").rows()
    return {(test, train): np.float32(score) for test, train, score in rows}


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(*[st.lists(st.integers(0, 5), min_size=1, max_size=3)] * 2),
    st.integers(0, 2**32),
    st.tuples(st.floats(0.01, 2), st.integers(1, 5)),
    st.tuples(st.floats(-1, 1), st.booleans()),
)
def test_scores_are_those_of_two_loops(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: tuple[list[int], list[int]],
    seed: int,
    weight: tuple[float, int],
    limits: tuple[float, bool],
) -> None:
    (test_sizes, train_sizes), (beta, neighbours) = sizes, weight
    floor, is_nearest_wanted = limits
    root = tmp_path_factory.mktemp("run")
    mirrors = random_parts(seed + 1, test_sizes)
    test = embeddings(root / "test", random_parts(seed, test_sizes), mirrors=mirrors)
    train = embeddings(root / "train", random_parts(seed + 2, train_sizes))
    how = Normalisation(background(seed + 3, 7), beta, neighbours)
    wanted = MatchSettings(floor, cap=100, nearest=is_nearest_wanted)
    found = match(test, train, wanted, root / "m", normalisation=how)
    everything = naive(test, train, how)
    expected = {pair: s for pair, s in everything.items() if s >= np.float32(floor)}
    got = scores(found)
    # the mean of a term may be summed in another order, so the last bit is free
    near = {pair for pair, s in everything.items() if abs(s - floor) < 1e-5}
    assert set(got) - near == set(expected) - near
    for pair, score in got.items():
        assert abs(score - everything[pair]) < 1e-6
    for row in found.nearest().rows(named=True):
        own = [s for (t, _), s in everything.items() if t == row["test_id"]]
        shown = [s for s in own if is_nearest_wanted or s >= np.float32(floor) + 1e-5]
        if shown:
            assert abs(row["score"] - max(shown)) < 1e-6
        elif row["score"] is not None:
            assert abs(row["score"] - floor) < 2e-5
        assert row["pairs"] == sum(pair[0] == row["test_id"] for pair in got)


def test_more_pairs_than_the_cap_are_told_and_as_many_are_not(tmp_path: Path) -> None:
    e = np.eye(4, dtype=np.float16)
    test = embeddings(tmp_path / "test", [e[:2]])
    train = embeddings(tmp_path / "train", [e[[0, 0, 0, 1, 1, 2]]])
    how = Normalisation(Background("b", np.ones((3, 4), np.float16), "b"), 1.0, 1)
    found = match(test, train, MatchSettings(0.4, cap=2), tmp_path / "m", normalisation=how)
    assert found.nearest()["overflow"].to_list() == [True, False]
    assert found.nearest()["pairs"].to_list() == [3, 2]
    assert found.pairs()["train_id"].to_list() == [f"train-0:k{n}" for n in (0, 1, 3, 4)]
    assert set(found.pairs()["score"]) == {0.5}


def test_a_test_image_that_is_near_to_everything_needs_a_higher_cosine(tmp_path: Path) -> None:
    """The very purpose: equal cosines, of which only the one beyond the ordinary is a match."""
    test = embeddings(tmp_path / "test", [np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float16)])
    train = embeddings(tmp_path / "train", [np.array([[4, 4, 2, 0]], np.float16)])
    skies = Background("b", np.array([[1, 0, 0, 1], [1, 0, 0.5, 0]], np.float16), "b")
    found = match(test, train, MatchSettings(0.5), tmp_path / "m",
                  normalisation=Normalisation(skies, 1.0, 2))  # fmt: skip
    assert found.pairs()["test_id"].to_list() == ["test-0:k1"]


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_an_index_searched_whole_gives_the_bytes_of_the_exact_join(
    tmp_path: Path, kind: str
) -> None:
    test = embeddings(tmp_path / "test", random_parts(0, [30, 9]), mirrors=random_parts(1, [30, 9]))
    train = embeddings(tmp_path / "train", random_parts(2, [200, 50]))
    index = build_index(train, tmp_path / "index", kind=kind)
    how = Normalisation(background(3, 20))
    asked = MatchSettings(-0.2, cap=5, probes=index.manifest.config["lists"] or None)
    joined = match(test, train, asked, tmp_path / "exact", normalisation=how)
    searched = match(test, train, asked, tmp_path / "found", normalisation=how, index=index)
    assert joined.pairs().height > 50
    for name in ("pairs.parquet", "nearest.parquet"):
        assert (joined.root / name).read_bytes() == (searched.root / name).read_bytes()


def test_the_manifest_says_weightand_another_way_is_another_artifact(tmp_path: Path) -> None:
    test, train = (embeddings(tmp_path / n, random_parts(3, [4])) for n in ("test", "train"))
    plain = match(test, train, MatchSettings(0.1), tmp_path / "m").manifest
    assert "normalisation" not in plain.config
    keys = {plain.key}
    for how in (
        Normalisation(background(1, 5)), Normalisation(background(2, 5)),
        Normalisation(background(1, 5), 0.5), Normalisation(background(1, 5), 1.0, 2),
    ):  # fmt: skip
        found = match(test, train, MatchSettings(0.1), tmp_path / "m", normalisation=how).manifest
        assert found.config["normalisation"] == how.config()
        assert found.config["floor"] == 0.1
        keys.add(found.key)
    assert len(keys) == 5


def test_a_set_with_itself_has_no_normalised_scores(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "test", random_parts(3, [4]))
    how = Normalisation(background(1, 5))
    with pytest.raises(CurateError, match="no --beta"):
        match(side, side, MatchSettings(0.1, within=True), tmp_path / "m", normalisation=how)


def test_fewer_vectors_than_neighbours_are_refused() -> None:
    with pytest.raises(CurateError, match=r"b\.npy: holds 2 vectors, fewer than the 3 neighbours"):
        Normalisation(background(0, 2))


def test_a_term_does_not_depend_on_the_other_queries() -> None:
    how = Normalisation(background(0, 50, 16), 0.7, 4)
    rows = random_parts(1, [40], 16)[0]
    whole = how.terms(Stored([rows]))
    alone = np.concatenate([how.terms(Stored([row[None]])) for row in rows])
    assert np.array_equal(whole, alone)
    assert how.terms(Stored([rows[:0]])).shape == (0,)
    expected = [naive_term(row, how) for row in rows]
    np.testing.assert_allclose(whole, expected, atol=1e-12)
