"""Samples out of tars, and into files and tars."""

import io
import tarfile
from pathlib import Path

import pytest

from benchmarks.side_by_side.inputs import (
    PER_FOLDER,
    Sample,
    samples,
    some,
    write_files,
    write_tars,
)


def put_tar(path: Path, members: dict[str, bytes], mode: str) -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_members_of_one_key_come_together_from_plain_and_gzipped_tars(tmp_path: Path) -> None:
    put_tar(tmp_path / "0.tar.gz", {"a.jpg": b"1", "a.json": b"{}", "b.jpg": b"2"}, "w:gz")
    put_tar(tmp_path / "1.tar", {"c.jpg": b"3"}, "w")
    expected: list[Sample] = [
        ("a", {"jpg": b"1", "json": b"{}"}), ("b", {"jpg": b"2"}), ("c", {"jpg": b"3"})
    ]  # fmt: skip
    assert list(samples(tmp_path)) == expected
    assert list(some(tmp_path, 2)) == expected[:2]


def test_a_folder_without_tars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no tars"):
        list(samples(tmp_path))


def test_files_go_into_folders_of_a_thousand(tmp_path: Path) -> None:
    found = ((f"{number:08d}", {"jpg": b"%d" % number}) for number in range(PER_FOLDER + 2))
    write_files(found, tmp_path / "test")
    names = {path.name: len(list(path.iterdir())) for path in (tmp_path / "test").iterdir()}
    assert names == {"000": PER_FOLDER, "001": 2}
    assert (tmp_path / "test" / "001" / "00001000.jpg").read_bytes() == b"1000"
    assert not (tmp_path / "test.partial").exists()


def test_tars_take_samples_in_turn_and_number_repeated_ones_apart(tmp_path: Path) -> None:
    found: list[Sample] = [("a", {"jpg": b"1"}), ("b", {"jpg": b"2"})]
    write_tars(found * 2, tmp_path / "out", 2)
    again = list(samples(tmp_path / "out"))
    assert again == [
        ("00000000", {"jpg": b"1"}), ("00000002", {"jpg": b"1"}),
        ("00000001", {"jpg": b"2"}), ("00000003", {"jpg": b"2"}),
    ]  # fmt: skip
