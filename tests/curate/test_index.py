"""The index artifact: what is in the folder, reuse, and what is refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up import embeddings, random_parts

from curate import artifacts, tables
from curate.artifacts import verify_all
from curate.errors import CurateError
from curate.index import IDS_FILE, INDEX_FILE, build_index, open_index, require_faiss
from curate.parts import Embeddings
from indices.scores import unit_rows

faiss = pytest.importorskip("faiss")


@pytest.fixture
def train(tmp_path: Path) -> Embeddings:
    return embeddings(tmp_path / "train", random_parts(0, [3, 0, 60]), failed={0: [1]})


def test_the_ids_tell_of_every_vector_whose_and_where_it_is(
    train: Embeddings, tmp_path: Path
) -> None:
    index = build_index(train, tmp_path / "index")
    ids = tables.read_table(index.root / IDS_FILE, tables.IDS)
    assert ids["item"].to_list() == list(range(63))
    assert ids["id"].to_list() == train.all_metadata()["id"].to_list()
    assert ids["id"][:4].to_list() == ["train-0:k0", "train-0:k2", "train-0:k3", "train-2:k0"]
    plain = faiss.read_index(str(index.root / INDEX_FILE))
    for item, part, row in ids.select("item", "part", "row").rows():
        vector = unit_rows(train.vectors(part))[row]
        np.testing.assert_array_equal(plain.reconstruct(item), vector)


def test_a_finished_index_is_used_again_and_another_kind_is_built_anew(
    train: Embeddings, tmp_path: Path
) -> None:
    first = build_index(train, tmp_path / "index", kind="flat")
    time = (first.root / INDEX_FILE).stat().st_mtime_ns
    again = build_index(train, tmp_path / "index", kind="flat")
    assert again.manifest.id == first.manifest.id
    assert (again.root / INDEX_FILE).stat().st_mtime_ns == time
    other = build_index(train, tmp_path / "index", kind="ivf")
    assert (other.manifest.config["kind"], first.manifest.config["kind"]) == ("ivf", "flat")
    assert other.manifest.id != first.manifest.id
    assert type(other.load()).__name__ == "IndexIVFFlat"


def test_the_same_input_gives_the_same_folder_byte_for_byte(
    train: Embeddings, tmp_path: Path
) -> None:
    for kind in ("flat", "ivf"):
        one = build_index(train, tmp_path / "one", kind=kind, seed=3)
        two = build_index(train, tmp_path / "two", kind=kind, seed=3)
        assert one.manifest.to_json() == two.manifest.to_json()
        assert one.embeddings_id == train.manifest.id
    assert verify_all([one.root, train.root]) == []


def test_progress_is_told_by_part(train: Embeddings, tmp_path: Path) -> None:
    seen: list[int] = []
    build_index(train, tmp_path / "index", on_part=seen.append)
    assert seen == [3, 0, 60]


def test_there_must_be_something_to_index_and_a_seed_faiss_can_take(
    train: Embeddings, tmp_path: Path
) -> None:
    empty = embeddings(tmp_path / "empty", random_parts(1, [0]))
    with pytest.raises(CurateError, match="empty: there is no vector to index"):
        build_index(empty, tmp_path / "index")
    for seed in (-1, 2**31):
        with pytest.raises(CurateError, match=f"--seed {seed}: a number from 0"):
            build_index(train, tmp_path / "index", seed=seed)
    assert not (tmp_path / "index").exists()


def test_a_damaged_index_says_to_build_it_again(train: Embeddings, tmp_path: Path) -> None:
    index = build_index(train, tmp_path / "index")
    (index.root / INDEX_FILE).write_bytes(b"IxFI")
    with pytest.raises(CurateError, match=r"index\.faiss: faiss cannot read it .*; build the"):
        index.load()


def test_only_an_index_folder_is_opened(train: Embeddings, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="holds embeddings, not an index"):
        open_index(train.root)
    with pytest.raises(CurateError, match="no such file"):
        open_index(tmp_path / "nothing")


def test_without_faiss_the_ways_to_get_it_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(CurateError, match=r"pip install 'curate\[cpu\]'"):
        require_faiss()


def test_damaged_ids_stop_the_build(train: Embeddings, tmp_path: Path) -> None:
    path = train.root / "metadata/metadata_000002.parquet"
    tables.write_table(path, pl.DataFrame(schema=tables.METADATA), tables.METADATA)
    with pytest.raises(CurateError, match="0 rows for 60 vectors"):
        build_index(train, tmp_path / "index")
    assert not list(artifacts.artifacts(tmp_path / "index"))
