"""Looking at a run in a store."""

import fsspec
import pytest
from failing_store import FailingStore
from stored_runs import make

from curate.artifacts import artifacts
from curate.errors import CurateError
from curate.files import write_json
from curate.storage import outline, stored, verify_stored
from curate.storage.snapshot import UNFINISHED

URL = "failing://b/run"


@pytest.fixture(autouse=True)
def run(store: type[FailingStore]) -> None:
    with stored(URL) as folder:
        make(folder, "splits/a", "one")
        make(folder, "matches/b", "two")
        write_json(folder / "run.json", {"split": "splits/a"})


def test_every_difference_is_named() -> None:
    files = fsspec.filesystem("failing")
    assert verify_stored(URL) == ([f"{URL}/matches/b", f"{URL}/splits/a"], [])
    data = files.cat_file("/b/run/splits/a/part_0.bin")
    files.pipe_file("/b/run/splits/a/part_0.bin", b"y" + data[1:])
    files.pipe_file("/b/run/splits/a/part_1.bin", b"short")
    files.rm_file("/b/run/splits/a/same.bin")
    files.pipe_file("/b/run/splits/a/new.bin", b"x")
    files.pipe_file(f"/b/run/splits/c/{UNFINISHED}", b"")
    _, problems = verify_stored(URL)
    assert problems == [
        f"{URL}/splits/a/part_0.bin: altered (its SHA-256 is not the one that was written)",
        f"{URL}/splits/a/part_1.bin: 5 bytes, {len(data)} were written",
        f"{URL}/splits/a/same.bin: missing",
        f"{URL}/splits/a/new.bin: not written by curate",
        f"{URL}/splits/c: half sent",
    ]


def test_one_artifact_is_verified_alone() -> None:
    assert verify_stored(f"{URL}/splits/a") == ([f"{URL}/splits/a"], [])


def test_an_outline_has_manifests_and_notes_only(store: type[FailingStore]) -> None:
    fsspec.filesystem("failing").pipe_file("/b/run/images/00000.tar", b"large")
    store.calls.clear()
    with outline(URL) as folder:
        found = [path.relative_to(folder).as_posix() for path in artifacts(folder)]
        assert found == ["matches/b", "splits/a"]
        assert (folder / "run.json").is_file()
        assert not (folder / "images").exists()
        assert not (folder / "splits" / "a" / "part_0.bin").exists()
    assert "open" not in store.calls
    assert not folder.exists()


def test_where_no_artifact_is_nothing_can_be_said() -> None:
    for look in (verify_stored, lambda url: outline(url).__enter__()):
        with pytest.raises(CurateError, match="no artifact of curate is there"):
            look("failing://b/none")
