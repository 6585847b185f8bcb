"""Embedding parts: written, opened, looked up, and refused when damaged."""

import io
import random
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import embeddings, part_tables, random_parts
from numpy.typing import NDArray

from curate import artifacts, parts, tables
from curate.artifacts import Manifest
from curate.errors import CurateError


def test_the_layout_is_that_of_clip_retrieval(tmp_path: Path) -> None:
    arrays = random_parts(0, [3, 2])
    root = embeddings(tmp_path / "test", arrays, mirrors=arrays).root
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    for part in ("000000", "000001"):
        assert {
            f"img_emb/img_emb_{part}.npy", f"img_emb_mirror/img_emb_mirror_{part}.npy",
            f"metadata/metadata_{part}.parquet", f"status/status_{part}.parquet",
        } < files  # fmt: skip
    assert np.load(root / "img_emb/img_emb_000001.npy").tobytes() == arrays[1].tobytes()


def test_a_part_is_described_by_the_digests_of_its_files(tmp_path: Path) -> None:
    metadata, status = part_tables("s", 2, failed=[1])
    vectors = {parts.IMAGES: np.asfortranarray(np.ones((2, 3), np.float16))}
    entries = parts.write_part(tmp_path, 7, vectors, metadata, status)
    assert [entry["path"] for entry in entries] == [
        "img_emb/img_emb_000007.npy", "metadata/metadata_000007.parquet",
        "status/status_000007.parquet",
    ]  # fmt: skip
    for entry in entries:
        assert entry == artifacts.output_entry(tmp_path, tmp_path / entry["path"])
    assert np.load(tmp_path / entries[0]["path"]).flags.c_contiguous


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.data())
def test_items_are_looked_up_in_the_order_asked_for(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    side = embeddings(tmp_path_factory.mktemp("x") / "set", random_parts(1, sizes))
    every = side.all_metadata()
    assert (side.count, side.dim, side.name) == (sum(sizes), 4, "set")
    wanted = data.draw(st.lists(st.integers(0, max(0, side.count - 1)), max_size=9))
    wanted = wanted if side.count else []
    assert side.lookup(wanted).equals(every[wanted])
    short = pl.Schema({"id": pl.String})
    assert side.lookup(np.array(wanted, np.int64), short).equals(every[wanted].select("id"))


def test_tables_of_all_parts_are_one_after_the_other(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "set", random_parts(2, [2, 0, 1]), failed={0: [1], 1: [0]})
    assert side.all_metadata()["id"].to_list() == ["set-0:k0", "set-0:k2", "set-2:k0"]
    words = ["success", "zero_bytes", "success", "zero_bytes", "success"]
    assert side.all_status()["status"].to_list() == words
    empty = embeddings(tmp_path / "none", [])
    assert empty.all_vectors().shape == (0, 4)
    assert empty.all_metadata().schema == tables.METADATA


def test_vectors_are_mapped_not_read(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "set", random_parts(3, [5, 0]))
    assert isinstance(side.vectors(0), np.memmap)
    assert not side.vectors(0).flags.writeable
    assert side.vectors(1).shape == (0, 4)
    whole = np.concatenate(random_parts(3, [5, 0]))
    assert side.all_vectors().tobytes() == whole.tobytes()
    assert np.concatenate(list(side.view_parts())).tobytes() == whole.tobytes()


def test_thousands_of_parts_need_few_open_files(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "set", random_parts(4, [1] * 80))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(list(Path("/proc/self/fd").iterdir())) + 30  # other tests may have left some open
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        assert len(side.all_vectors()) == 80
        assert sum(len(part) for part in side.view_parts()) == 80
        assert side.view_parts()[79].shape == (1, 4)
        assert len(side.view_parts()) == 80
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_is_named_before_it_can_pass_as_clean(
    tmp_path: Path, bad: float
) -> None:
    arrays = random_parts(5, [2, 3])
    arrays[1][2] = bad
    with pytest.raises(CurateError, match=r"img_emb_000001\.npy: a vector is zero or not finite"):
        embeddings(tmp_path / "set", arrays).all_vectors()


def saved(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones((2, 4)))
    return buffer.getvalue()


DAMAGED = {
    "empty": b"", "text": b"hello", "cut": saved(np.ones((2, 4), np.float16))[:-1],
    "objects": saved(np.array([[None] * 4] * 2)), "integers": saved(np.ones((2, 4), int)),
    "complex": saved(np.ones((2, 4), complex)), "records": saved(np.zeros(2, "f4,f4")),
    "another length": saved(np.ones((3, 4), np.float16)), "flat": saved(np.ones(8)),
    "another width": saved(np.ones((2, 5), np.float16)), "an archive": zipped(),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_vector_file_is_a_clear_error(tmp_path: Path, name: str) -> None:
    side = embeddings(tmp_path / "set", random_parts(6, [2]))
    (side.root / "img_emb/img_emb_000000.npy").write_bytes(DAMAGED[name])
    with pytest.raises(CurateError, match=r"img_emb_000000\.npy: "):
        side.vectors(0)


def test_no_damage_of_a_header_is_a_traceback(tmp_path: Path) -> None:
    good, path, chance = saved(np.ones((2, 4), np.float16)), tmp_path / "v.npy", random.Random(0)
    for _ in range(600):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(128)] = chance.randrange(256)
        path.write_bytes(data)
        with suppress(CurateError):
            assert parts.read_vectors(path).dtype.kind == "f"


def test_a_table_with_another_number_of_rows_is_refused_before_ids_shift(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "set", random_parts(7, [2, 3]))
    metadata, _ = part_tables("set-0", 1)
    tables.write_table(parts.metadata_path(side.root, 0), metadata, tables.METADATA)
    with pytest.raises(CurateError, match=r"metadata_000000\.parquet: 1 rows for 2 vectors"):
        side.lookup([1])


def test_only_an_embeddings_folder_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="not an embeddings folder"):
        parts.open_embeddings(tmp_path)
    work = artifacts.work_folder(tmp_path / "split", "k")
    artifacts.commit(work, tmp_path / "split", Manifest("split", {}, []))
    with pytest.raises(CurateError, match="holds split, not embeddings"):
        parts.open_embeddings(tmp_path / "split")
