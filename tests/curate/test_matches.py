"""Matches as tables: views merged, ids right, limits told, bytes equal."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import ENCODER, digest_of, embeddings, random_parts

from curate.artifacts import verify
from curate.errors import CurateError
from curate.index import build_index
from curate.matches import UNUSABLE_FILE, MatchSettings, match, open_matches
from curate.parts import Embeddings, metadata_path
from curate.tables import METADATA, write_table
from indices.scores import pair_scores

E = np.eye(4, dtype=np.float16)


def naive_pairs(
    test: Embeddings, train: Embeddings, floor: float
) -> dict[tuple[str, str], tuple[float, str]]:
    """(test_id, train_id) -> (score, view), the better view of each pair; identity wins ties."""
    best = {}
    tests, trains = test.all_metadata()["id"], train.all_metadata()["id"]
    stored = np.concatenate([np.empty((0, 4)), *train.view_parts()])
    for view in test.manifest.config["views"]:
        for i, query in enumerate(test.all_vectors(view)):
            for j, item in enumerate(stored):
                score = pair_scores(query[None], item[None], np.array([0]), np.array([0]))[0]
                if score >= np.float32(floor) and score > best.get((i, j), (-2,))[0]:
                    best[i, j] = (float(score), view)
    return {(tests[i], trains[j]): found for (i, j), found in best.items()}


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=3),
       st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 2**32),
       st.booleans())  # fmt: skip
def test_the_tables_say_what_two_loops_find(
    tmp_path_factory: pytest.TempPathFactory,
    test_sizes: list[int],
    train_sizes: list[int],
    seed: int,
    is_nearest_wanted: bool,
) -> None:
    root = tmp_path_factory.mktemp("run")
    test = embeddings(root / "test", random_parts(seed, test_sizes),
                      mirrors=random_parts(seed + 1, test_sizes))  # fmt: skip
    train = embeddings(root / "train", random_parts(seed + 2, train_sizes))
    wanted = MatchSettings(0.2, cap=100, nearest=is_nearest_wanted)
    found = match(test, train, wanted, root / "matches")
    pairs, nearest = found.pairs(), found.nearest()
    expected = naive_pairs(test, train, 0.2)
    rows = pairs.select("test_id", "train_id", "score", "view").rows()
    assert {row[:2]: row[2:] for row in rows} == expected
    assert len(rows) == len(expected)
    assert pairs["test_sha256"].to_list() == [digest_of(id_) for id_ in pairs["test_id"]]
    assert pairs["train_sha256"].to_list() == [digest_of(id_) for id_ in pairs["train_id"]]

    order = {id_: n for n, id_ in enumerate(test.all_metadata()["id"])}
    items = {id_: n for n, id_ in enumerate(train.all_metadata()["id"])}
    keys = [(order[t], -s, items[r]) for t, r, s, _ in rows]
    assert keys == sorted(keys)
    ranks = [sum(k[0] == key[0] for k in keys[:n]) + 1 for n, key in enumerate(keys)]
    assert pairs["rank"].to_list() == ranks

    assert nearest["test_id"].to_list() == list(order)
    known = naive_pairs(test, train, -1.0) if is_nearest_wanted else expected
    for id_, train_id, score, count in nearest.select(
        "test_id", "train_id", "score", "pairs"
    ).rows():
        own = [(-s, items[r]) for (t, r), (s, _) in known.items() if t == id_]
        assert (score, train_id) == (
            (-min(own)[0], list(items)[min(own)[1]]) if own else (None,) * 2
        )
        assert count == sum(t == id_ for t, _ in expected)
    assert not nearest["overflow"].any()
    assert verify(found.root) == []


def test_a_mirrored_copy_is_found_and_said_to_be_one(tmp_path: Path) -> None:
    test = embeddings(tmp_path / "test", [E[:2]], mirrors=[E[2:]])
    train = embeddings(tmp_path / "train", [E[1:3]])
    pairs = match(test, train, MatchSettings(0.9), tmp_path / "m").pairs()
    assert pairs.select("test_id", "train_id", "view").rows() == [
        ("test-0:k0", "train-0:k1", "mirror"),
        ("test-0:k1", "train-0:k0", "identity"),
    ]


def test_of_equal_views_the_identity_is_reported(tmp_path: Path) -> None:
    test = embeddings(tmp_path / "test", [E[:1]], mirrors=[E[:1]])
    train = embeddings(tmp_path / "train", [E[[0, 0]]])
    found = match(test, train, MatchSettings(0.9), tmp_path / "m")
    assert found.pairs()["view"].to_list() == ["identity"] * 2
    nearest = found.nearest().row(0, named=True)
    assert (nearest["view"], nearest["train_id"], nearest["pairs"]) == ("identity", "train-0:k0", 2)


def test_of_equally_near_items_that_of_the_identity_is_the_nearest(tmp_path: Path) -> None:
    test = embeddings(tmp_path / "test", [E[:1]], mirrors=[E[1:2]])
    train = embeddings(tmp_path / "train", [E[[1, 0]]])
    nearest = match(test, train, MatchSettings(0.9), tmp_path / "m").nearest()
    assert nearest.select("train_id", "view").rows() == [("train-0:k1", "identity")]


def test_more_pairs_than_are_stored_are_counted_and_flagged(tmp_path: Path) -> None:
    test = embeddings(tmp_path / "test", [E[:2]])
    train = embeddings(tmp_path / "train", [E[[0, 0, 0, 1, 1]]])
    found = match(test, train, MatchSettings(0.9, cap=2), tmp_path / "m")
    assert found.nearest()["overflow"].to_list() == [True, False]
    assert found.nearest()["pairs"].to_list() == [3, 2]
    assert found.pairs()["train_id"].to_list() == [f"train-0:k{n}" for n in (0, 1, 3, 4)]
    assert found.manifest.counts == {
        "overflow": 1, "pairs": 4, "test_items_with_pairs": 2, "train_unusable": 0,
        "same": {"bytes": 0, "pixels": 0},
    }  # fmt: skip


def test_pairs_lost_by_merging_views_are_flagged_too(tmp_path: Path) -> None:
    test = embeddings(tmp_path / "test", [E[:1]], mirrors=[E[1:2]])
    train = embeddings(tmp_path / "train", [E[[0, 0, 1, 1]]])
    nearest = match(test, train, MatchSettings(0.9, cap=3), tmp_path / "m").nearest()
    assert nearest.select("pairs", "overflow").rows() == [(4, True)]


def test_within_a_set_each_pair_is_there_once_and_the_later_item_asks(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "test", [E[[0, 1]], E[[0, 0]]])
    found = match(side, side, MatchSettings(0.9, within=True), tmp_path / "m")
    assert found.pairs().select("test_id", "train_id").rows() == [
        ("test-1:k0", "test-0:k0"), ("test-1:k1", "test-0:k0"), ("test-1:k1", "test-1:k0"),
    ]  # fmt: skip
    assert found.nearest()["train_id"].to_list()[0] is None


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_an_index_searched_whole_gives_the_bytes_of_the_exact_join(
    tmp_path: Path, kind: str
) -> None:
    test = embeddings(
        tmp_path / "test", random_parts(0, [30, 0, 9]), mirrors=random_parts(1, [30, 0, 9])
    )
    train = embeddings(tmp_path / "train", random_parts(2, [0, 200, 50]))
    index = build_index(train, tmp_path / "index", kind=kind)
    joined = match(test, train, MatchSettings(0.7, cap=5), tmp_path / "exact")
    asked = MatchSettings(0.7, cap=5, probes=index.manifest.config["lists"] or None)
    searched = match(test, train, asked, tmp_path / "searched", index=index)
    assert joined.pairs().height > 50
    for name in ("pairs.parquet", "nearest.parquet"):
        assert (joined.root / name).read_bytes() == (searched.root / name).read_bytes()
    assert joined.manifest.id != searched.manifest.id


def test_within_a_set_mirrored_copies_are_found_once(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "test", [E[:3]], mirrors=[E[[1, 0, 2]]])
    found = match(side, side, MatchSettings(0.9, within=True), tmp_path / "m")
    assert found.pairs().select("test_id", "train_id", "view").rows() == [
        ("test-0:k1", "test-0:k0", "mirror")
    ]


def test_matches_are_used_again_until_something_changes(tmp_path: Path) -> None:
    test, train = (embeddings(tmp_path / n, random_parts(3, [4])) for n in ("test", "train"))
    seen: list[int] = []
    for settings_ in (MatchSettings(0.5), MatchSettings(0.5), MatchSettings(0.6)):
        match(test, train, settings_, tmp_path / "m", on_part=seen.append)
    assert seen == [4, 4]
    assert open_matches(tmp_path / "m").manifest.config["floor"] == 0.6


def test_sets_without_vectors_have_no_matches(tmp_path: Path) -> None:
    full = embeddings(tmp_path / "full", random_parts(4, [3]))
    empty = embeddings(tmp_path / "empty", random_parts(4, [0, 0]))
    found = match(full, empty, MatchSettings(0.5), tmp_path / "a")
    assert found.pairs().height == 0
    assert found.nearest().select("train_id", "score", "pairs").rows() == [(None, None, 0)] * 3
    found = match(empty, full, MatchSettings(0.5), tmp_path / "b")
    assert found.pairs().height == found.nearest().height == 0


def test_vectors_of_different_encoders_are_not_compared(tmp_path: Path) -> None:
    test = embeddings(tmp_path / "test", [E])
    train = embeddings(tmp_path / "train", [E], encoder={**ENCODER, "weights": "others"})
    with pytest.raises(CurateError, match=r"different encoders .* or versions of one"):
        match(test, train, MatchSettings(0.5), tmp_path / "m")


def test_an_index_of_other_vectors_or_within_a_set_is_refused(tmp_path: Path) -> None:
    test, train = (embeddings(tmp_path / n, random_parts(5, [4])) for n in ("test", "train"))
    index = build_index(test, tmp_path / "index")
    with pytest.raises(CurateError, match="built from other vectors than"):
        match(test, train, MatchSettings(0.5), tmp_path / "m", index=index)
    with pytest.raises(CurateError, match="--within is joined exactly"):
        match(test, test, MatchSettings(0.5, within=True), tmp_path / "m", index=index)


def test_an_index_file_put_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    train = embeddings(tmp_path / "train", random_parts(6, [4]))
    small = embeddings(tmp_path / "small", random_parts(6, [3]))
    index, other = (build_index(s, tmp_path / f"i-{s.name}") for s in (train, small))
    (index.root / "index.faiss").write_bytes((other.root / "index.faiss").read_bytes())
    with pytest.raises(CurateError, match="holds 3 vectors of width 4, but 4"):
        match(train, train, MatchSettings(0.5), tmp_path / "m", index=index)


def test_a_test_vector_without_direction_stops_the_search(tmp_path: Path) -> None:
    test = embeddings(tmp_path / "test", [E], mirrors=[E * np.float16(0)])
    with pytest.raises(CurateError, match=r"test: vector 0 .* in part 0 \(mirror\) is zero"):
        match(test, test, MatchSettings(0.5), tmp_path / "m")


def test_only_a_matches_folder_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="holds embeddings, not matches"):
        open_matches(embeddings(tmp_path / "test", [E]).root)


def test_train_vectors_without_direction_are_named(tmp_path: Path) -> None:
    arrays = random_parts(0, [4, 3])
    arrays[0][1], arrays[1][2] = 0, np.nan
    test, train = embeddings(tmp_path / "test", random_parts(1, [5])), embeddings(
        tmp_path / "train", arrays
    )  # fmt: skip
    found = match(test, train, MatchSettings(0.9), tmp_path / "m")
    table = pl.read_parquet(tmp_path / "m" / UNUSABLE_FILE)
    assert table["train_id"].to_list() == ["train-0:k1", "train-1:k2"]
    assert set(table["error"]) == {"the vector is zero or not finite"}
    assert found.manifest.counts["train_unusable"] == 2


def test_a_pair_says_how_much_of_its_images_is_equal(tmp_path: Path) -> None:
    sides = [embeddings(tmp_path / name, [E[[0, 0, 0, 0]]]) for name in ("test", "train")]
    known = [("aa", "p1"), ("ab", "p2"), ("ac", None), ("ad", "p3")]
    others = [("aa", "p9"), ("bb", "p2"), ("bc", None), (None, "p4")]
    for side, digests in zip(sides, (known, others), strict=True):
        columns = dict(zip(("sha256", "pixels_sha256"), zip(*digests, strict=True), strict=True))
        table = side.metadata(0).with_columns(**{k: pl.Series(v) for k, v in columns.items()})
        write_table(metadata_path(side.root, 0), table, METADATA)
    found = match(*sides, MatchSettings(0.9), tmp_path / "m")
    pairs = found.pairs().filter(pl.col("same").is_not_null())
    assert pairs.select("test_id", "train_id", "same").rows() == [
        ("test-0:k0", "train-0:k0", "bytes"), ("test-0:k1", "train-0:k1", "pixels"),
    ]  # fmt: skip
    assert found.manifest.counts["same"] == {"bytes": 1, "pixels": 1}
