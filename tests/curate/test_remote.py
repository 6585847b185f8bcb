"""Ranges over the network: whole, of one version, tried again, or an error that names the URL."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from servers import Faults, s3_server, web_server

from curate.errors import CurateError
from curate.remote import AbsentError, RangeStream, RemoteFile, Stamp, exists

DATA = bytes(range(256)) * 300
FAST = (0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Faults, Path]]:
    path = tmp_path / "x.bin"
    path.write_bytes(DATA)
    with web_server(tmp_path) as (address, faults):
        yield f"{address}/x.bin", faults, path


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server("remote") as url:
        yield url


def test_one_request_tells_size_version_and_first_bytes(served: tuple[str, Faults, Path]) -> None:
    url, faults, _ = served
    file = RemoteFile(url)
    assert file.head == DATA[: 1 << 14]
    assert file.stamp.size == len(DATA)
    assert file.stamp.tag
    assert len(faults.asked) == 1


def test_a_range_is_the_bytes_asked_for_and_no_more(served: tuple[str, Faults, Path]) -> None:
    url, faults, _ = served
    file = RemoteFile(url)
    faults.asked.clear()
    assert file.read(1000, 40_000) == DATA[1000:40_000]
    assert file.read(len(DATA) - 1, len(DATA)) == DATA[-1:]
    assert file.read(5, 5) == b""
    assert faults.bytes_of("x.bin") == 39_001


def test_what_is_known_already_is_not_asked_again(served: tuple[str, Faults, Path]) -> None:
    url, faults, _ = served
    stamp = RemoteFile(url).stamp
    faults.asked.clear()
    RemoteFile(url, stamp)
    assert faults.asked == []


@pytest.mark.parametrize("failures", [1, 4])
def test_a_server_that_recovers_is_asked_again(
    served: tuple[str, Faults, Path], failures: int
) -> None:
    url, faults, _ = served
    file = RemoteFile(url, waits=FAST)
    faults.broken["/x.bin"] = failures
    assert file.read(0, 100) == DATA[:100]


def test_five_failures_are_an_error_that_states_their_number(
    served: tuple[str, Faults, Path],
) -> None:
    url, faults, _ = served
    file = RemoteFile(url, waits=FAST)
    faults.broken["/x.bin"] = 5
    with pytest.raises(CurateError, match=r"x\.bin: could not be read in 5 attempts \(500"):
        file.read(0, 100)


def test_a_body_that_ends_early_is_never_taken_for_whole(served: tuple[str, Faults, Path]) -> None:
    url, faults, _ = served
    file = RemoteFile(url, waits=FAST)
    faults.cut["/x.bin"], faults.times = 7, 2
    assert file.read(10, 5000) == DATA[10:5000]
    faults.times = 10
    with pytest.raises(CurateError, match=r"x\.bin: could not be read in 5 attempts"):
        file.read(10, 5000)


def test_a_server_without_ranges_is_refused_before_it_sends_the_file(
    served: tuple[str, Faults, Path],
) -> None:
    url, faults, _ = served
    faults.ranges = False
    with pytest.raises(CurateError, match=r"x\.bin: the server ignores the range"):
        RemoteFile(url)


def test_an_object_that_is_replaced_midway_is_an_error(served: tuple[str, Faults, Path]) -> None:
    url, _, path = served
    file = RemoteFile(url)
    assert file.read(0, 10) == DATA[:10]
    path.write_bytes(DATA[::-1])
    with pytest.raises(CurateError, match=r"x\.bin: replaced since it was opened"):
        file.read(0, 10)


def test_without_etags_a_change_of_size_still_shows(served: tuple[str, Faults, Path]) -> None:
    url, faults, path = served
    faults.tags = False
    file = RemoteFile(url)
    assert file.stamp == Stamp(len(DATA), "")
    path.write_bytes(DATA[:5000])
    for start in (0, 6000):
        with pytest.raises(CurateError, match=r"x\.bin: replaced"):
            file.read(start, start + 10)


def test_absent_and_empty_objects_are_told_apart(served: tuple[str, Faults, Path]) -> None:
    url, _, path = served
    with pytest.raises(AbsentError, match=r"x\.bin\.no: nothing is there"):
        RemoteFile(f"{url}.no")
    assert exists(url)
    assert not exists(f"{url}.no")
    path.write_bytes(b"")
    with pytest.raises(CurateError, match="the file is empty"):
        RemoteFile(url)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CurateError, match="could not be read in 5 attempts"):
        RemoteFile("http://127.0.0.1:9/x.npy", waits=FAST)


def test_a_stream_reads_and_seeks_like_a_file(served: tuple[str, Faults, Path]) -> None:
    stream = RangeStream(RemoteFile(served[0]))
    assert stream.seek(-6, os.SEEK_END) == len(DATA) - 6
    assert stream.read(100) == DATA[-6:]
    assert stream.read(1) == b""
    stream.seek(300)
    stream.seek(2, os.SEEK_CUR)
    assert (stream.read(3), stream.tell()) == (DATA[302:305], 305)
    assert stream.readable()
    assert stream.seekable()


def test_s3_gives_the_same_ranges_and_notices_a_change(bucket: str) -> None:
    url = f"{bucket}/y.bin"
    files = fsspec.filesystem("s3")
    files.pipe_file(url, DATA)
    file = RemoteFile(url, waits=FAST)
    assert file.head == DATA[: 1 << 14]
    assert file.read(100, 60_000) == DATA[100:60_000]
    files.pipe_file(url, DATA[::-1])
    with pytest.raises(CurateError, match=r"y\.bin: replaced since it was opened"):
        file.read(0, 10)
    files.pipe_file(url, DATA[:50])
    with pytest.raises(CurateError, match=r"y\.bin: replaced since it was opened"):
        file.read(100, 110)
    assert not exists(f"{bucket}/z.bin")


def test_any_file_system_of_fsspec_is_read(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/remote/x.bin", DATA)
    file = RemoteFile("memory://remote/x.bin")
    assert file.read(7, 700) == DATA[7:700]
    files.rm("/remote/x.bin")
    with pytest.raises(AbsentError, match=r"x\.bin: nothing is there"):
        file.read(7, 700)


def test_a_missing_package_is_named_with_the_extra() -> None:
    code = (
        "import sys; sys.modules['s3fs'] = None; from curate.remote import open_filesystem as o; "
    )
    code += "o(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, "s3://bucket/x.npy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert "s3://bucket/x.npy: s3:// needs another package: pip install 'curate[s3]'" in last
