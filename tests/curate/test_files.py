"""Files are whole or absent, whatever fails; equal values give equal bytes."""

import errno
import hashlib
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import files
from curate.errors import CurateError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


class FullDisk(io.RawIOBase):
    """A file that takes `room` bytes and no more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        self.room -= len(memoryview(data))  # type: ignore[arg-type]
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(memoryview(data))  # type: ignore[arg-type]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_appears_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.bin"
    with files.atomic_write(path) as stream:
        stream.write(b"half")
        assert not path.exists()
        assert len(left_in(tmp_path)) == 1
    assert path.read_bytes() == b"half"
    assert left_in(tmp_path) == ["x.bin"]


def test_an_error_in_the_middle_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    files.write_bytes(path, b"old")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), files.atomic_write(path) as stream:  # noqa: PT012
        stream.write(b"new")
        stop()
    assert path.read_bytes() == b"old"
    assert left_in(tmp_path) == ["x"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_at_any_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write() -> None:
        with files.atomic_write(tmp_path / "x.bin") as stream:
            stream.write(b"data")
            if step == "write":
                io.BufferedWriter(FullDisk(5), 2).write(b"too much")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif step == "replace":
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CurateError) as caught:
        write()
    monkeypatch.undo()
    text = str(caught.value)
    assert "x.bin" in text
    assert "No space left" in text
    assert "--out" in text
    assert left_in(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CurateError, match="file/x: could not be written"):
        files.write_bytes(tmp_path / "file" / "x", b"data")


def test_the_longest_name_of_a_file_system_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        files.write_bytes(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    with pytest.raises(CurateError, match="could not be written"):
        files.write_bytes(tmp_path / ("x" * 256), b"1")


def write_half(path: Path) -> None:
    """Leave what a writer leaves that is killed."""
    with files.atomic_write(path):
        (name,) = (one.name for one in path.parent.glob(f".{path.name}.*"))
    path.with_name(name).write_bytes(b"half")


def test_remains_are_removed_and_nothing_else(tmp_path: Path) -> None:
    mine = sorted([".mine.tmp", ".x.tmp", f".x.{'y' * 16}.tmp", f"x.{'0' * 16}.tmp"])
    for name in mine:
        (tmp_path / name).touch()
    for path in (tmp_path / "a", tmp_path / "b" / "c"):
        write_half(path)
    before = left_in(tmp_path)
    files.remove_remains(tmp_path, "b", below=True)
    assert left_in(tmp_path) == before
    files.remove_remains(tmp_path)
    assert [name[:3] for name in left_in(tmp_path) if name not in (*mine, "a", "c")] == [".c."]
    files.remove_remains(tmp_path, below=True)
    assert left_in(tmp_path) == sorted([*mine, "a", "c"])
    files.remove_remains(tmp_path / "nowhere", below=True)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with files.atomic_write(path) as one, files.atomic_write(path) as two:
        one.write(b"1" * 100)
        two.write(b"2" * 50)
    assert path.read_bytes() == b"1" * 100  # the outer one was renamed last
    assert left_in(tmp_path) == ["x"]


@given(json_values)
def test_canonical_json_is_read_again_and_does_not_depend_on_order(value: object) -> None:
    data = files.canonical_json({"a": value, "b": 1})
    assert data == files.canonical_json({"b": 1, "a": value})
    assert json.loads(data) == {"a": value, "b": 1}
    assert files.digest(value) == hashlib.sha256(files.canonical_json(value)).hexdigest()


def test_not_a_number_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        files.canonical_json(float("nan"))


def test_file_names_that_are_no_utf8_survive_json(tmp_path: Path) -> None:
    value = {"path": os.fsdecode(b"caf\xe9.tar")}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000])
def test_what_is_no_json_is_a_clear_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(CurateError, match=r"x\.json: not readable as JSON"):
        files.read_json(tmp_path / "x.json")


def test_missing_json_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no such file"):
        files.read_json(tmp_path / "x.json")
    with pytest.raises(CurateError, match="not readable"):
        files.read_json(tmp_path)


@given(st.binary(max_size=3000), st.lists(st.integers(1, 700), max_size=5))
def test_the_digest_of_a_stream_is_that_of_the_file(data: bytes, reads: list[int]) -> None:
    reader = files.HashingReader(io.BytesIO(data))
    got = b"".join(reader.read(size) for size in reads)
    assert got == data[: sum(reads)]
    assert reader.finish() == hashlib.sha256(data).hexdigest()
    assert reader.size == len(data)


def test_a_files_digest_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 999_999)
    assert files.file_digest(tmp_path / "x") == hashlib.sha256(b"abc" * 999_999).hexdigest()
