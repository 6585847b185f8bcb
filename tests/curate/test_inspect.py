"""What is said of every kind of file and folder, and of those that are none."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st
from made_up import embeddings, random_parts
from pictures import encoded, picture, sample, write_set, write_shard

from curate.errors import CurateError
from curate.index import build_index
from curate.inspect import describe_path
from curate.matches import MatchSettings, match


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with embeddings, an index and matches."""
    test = embeddings(tmp_path / "run" / "embeddings" / "test", random_parts(0, [3, 2]))
    index = build_index(test, tmp_path / "run" / "indices" / "test")
    match(test, test, MatchSettings(0.5), tmp_path / "run" / "matches" / "m", index=index)
    return tmp_path / "run"


def test_a_run_lists_its_artifacts(run: Path) -> None:
    assert describe_path(run) == {
        "kind": "a run of curate", "embeddings/test": "embeddings", "indices/test": "index",
        "matches/m": "matches",
    }  # fmt: skip


def test_an_artifact_shows_settings_and_counts_but_no_line_per_shard(run: Path) -> None:
    found = describe_path(run / "embeddings" / "test")
    assert found["kind"] == "an artifact: embeddings"
    assert found["encoder"] == "builtin:layout"
    assert (found["vectors"], found["inputs"], found["files"]) == (5, 2, 6)
    assert found["bytes in files"] > 0
    assert len(found["id"]) == 64
    assert "vectors_per_part" not in found
    assert describe_path(run / "indices" / "test")["kind"] == "an artifact: index (flat)"
    assert describe_path(run / "matches" / "m")["floor"] == 0.5


def test_files_of_a_run_are_told_apart(run: Path) -> None:
    embedded = run / "embeddings" / "test"
    table = describe_path(embedded / "metadata" / "metadata_000000.parquet")
    assert (table["kind"], table["rows"], table["column width"]) == ("a table", 3, "int32")
    vectors = describe_path(embedded / "img_emb" / "img_emb_000001.npy")
    assert (vectors["kind"], vectors["shape"], vectors["dtype"]) == ("vectors", [2, 4], "float16")
    index = describe_path(run / "indices" / "test" / "index.faiss")
    assert (index["type"], index["vectors"], index["width"]) == ("IndexFlatIP", 5, 4)
    manifest = describe_path(embedded / "manifest.json")
    assert manifest["kind"] == "a JSON file"
    assert manifest["key kind"] == "embeddings"
    assert all(found["bytes"] > 0 for found in (table, vectors, index, manifest))


def test_lists_reports_and_short_json_are_described(tmp_path: Path) -> None:
    (tmp_path / "clean_ids.txt").write_text("a:1\na:2\n")
    (tmp_path / "index.html").write_text("<p>")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "long.json").write_text('{"a": "%s"}' % ("x" * 5000))
    assert describe_path(tmp_path / "clean_ids.txt")["ids"] == 2
    assert describe_path(tmp_path / "index.html")["kind"] == "a report; open it in a browser"
    assert describe_path(tmp_path / "list.json")["kind"] == "a JSON file"
    assert len(describe_path(tmp_path / "long.json")["key a"]) == 200


def test_nothing_that_a_file_holds_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    title = "\x1b]0;owned\x07"
    (tmp_path / "a.json").write_text(json.dumps({title: f"{title}\n\x9b2J\ud800", "list": [1]}))
    found = describe_path(tmp_path / "a.json")
    assert found["key \\x1b]0;owned\\x07"] == r"\x1b]0;owned\x07\n\x9b2J\ud800"
    assert found["key list"] == "[1]"
    pl.DataFrame({title: [{title: 1}]}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.json", "a.parquet"):
        shown = [text for pair in describe_path(tmp_path / name).items() for text in pair]
        assert all(str(text).isprintable() for text in shown)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_a_shard_counts_samples_and_members_and_names_damage(tmp_path: Path, suffix: str) -> None:
    path = write_shard(tmp_path / f"s{suffix}", [sample("a", b"x" * 2000), sample("b", b"y")])
    found = describe_path(path)
    assert (found["kind"], found["samples"], found["members"]) == ("a shard", 2, 6)
    assert found["damage"] == "none"
    path.write_bytes(path.read_bytes()[:4000])
    assert "not readable as tar" in describe_path(path)["damage"]


def test_data_sets_are_named_with_their_layout(tmp_path: Path) -> None:
    found = describe_path(write_set(tmp_path / "set", [[1, 2], [3]]))
    assert (found["kind"], found["shards"]) == ("a data set of layout webdataset", 2)
    assert found["name"] == "set"
    assert found["bytes"] > 0
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(encoded(picture(1)))
    assert describe_path(tmp_path / "photos")["kind"] == "a data set of layout folder"


def test_a_table_with_pattern_characters_in_its_name_is_itself(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "t[0].parquet")
    pl.DataFrame({"a": [1, 2]}).write_parquet(tmp_path / "t0.parquet")
    assert describe_path(tmp_path / "t[0].parquet")["rows"] == 1


def test_what_is_missing_empty_or_of_no_kind_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "notes.doc").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "gone": "nothing is there", "notes.doc": "of no kind that curate knows", "empty": "empty",
    }.items():  # fmt: skip
        with pytest.raises(CurateError, match=message):
            describe_path(tmp_path / name)


@pytest.mark.parametrize("name", ["x.parquet", "x.npy", "x.faiss", "x.json", "manifest.json"])
@pytest.mark.parametrize("data", [b"", b"hello", bytes(100)])
def test_a_damaged_file_is_a_clear_error(tmp_path: Path, name: str, data: st.DataObject) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CurateError, match=name):
        describe_path(tmp_path / name)


def test_a_folder_with_a_foreign_manifest_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(CurateError, match=r"manifest\.json: not a manifest"):
        describe_path(tmp_path)


def test_objects_in_a_vector_file_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(CurateError, match=r"x\.npy: not readable as vectors"):
        describe_path(tmp_path / "x.npy")
