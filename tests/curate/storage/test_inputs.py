"""Inputs at URLs are fetched once for each version, whole, and never outside of the cache."""

import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from failing_store import FailingStore
from servers import Faults, web_server
from stored_runs import make, tree

from curate.errors import CurateError
from curate.remote import AbsentError, Stamp
from curate.storage import first_file, local_artifact, local_path
from curate.storage.objects import Objects
from curate.storage.runs import stored


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Faults, Path]]:
    root = tmp_path / "web"
    root.mkdir()
    with web_server(root) as (address, faults):
        yield address, faults, root


def test_a_path_is_given_back() -> None:
    assert local_path("a/b") == Path("a/b")
    assert local_path(Path("a/b")) == Path("a/b")


def test_a_file_of_a_web_server_is_fetched_once(
    web: tuple[str, Faults, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _, root = web
    (root / "words.csv").write_text("id,word\n")
    first = local_path(Path(f"{address}/words.csv"))
    assert first.name == "words.csv"
    assert first.read_text() == "id,word\n"
    assert first.is_relative_to(cache)
    changed = first.stat().st_mtime_ns
    assert local_path(f"{address}/words.csv?token=1").name == "words.csv"
    assert local_path(f"{address}/words.csv") == first
    assert first.stat().st_mtime_ns == changed


def test_a_new_version_is_fetched_beside_the_old_one(web: tuple[str, Faults, Path]) -> None:
    address, _, root = web
    (root / "a.txt").write_text("old")
    old = local_path(f"{address}/a.txt")
    (root / "a.txt").write_text("new")
    assert local_path(f"{address}/a.txt").read_text() == "new"
    assert old.read_text() == "old"


def test_a_server_without_versions_and_ranges_is_read_too(
    web: tuple[str, Faults, Path], cache: Path
) -> None:
    address, faults, root = web
    faults.tags = faults.ranges = False
    for text in ("one", "two", "two"):
        (root / "a.txt").write_text(text)
        assert local_path(f"{address}/a.txt").read_text() == text
    assert len(list(cache.rglob("a.txt"))) == 2


def test_a_server_that_fails_in_passing_is_asked_again(web: tuple[str, Faults, Path]) -> None:
    address, faults, root = web
    (root / "a.txt").write_text("whole")
    faults.broken["/a.txt"] = 2
    assert local_path(f"{address}/a.txt").read_text() == "whole"


def test_what_is_not_there_is_named(web: tuple[str, Faults, Path], bucket: str) -> None:
    for url in (f"{web[0]}/none.txt", f"{bucket}/none.txt", f"{bucket}/none"):
        with pytest.raises(AbsentError, match=f"{url}: nothing is there"):
            local_path(url)


def test_nobody_at_home_is_an_error_and_no_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.storage.objects.PATIENCE", 0.0)
    with pytest.raises(CurateError, match="failed again and again") as caught:
        local_path("http://127.0.0.1:1/a.txt")
    assert not isinstance(caught.value, AbsentError)


def test_a_file_and_a_folder_of_s3_are_fetched(bucket: str, cache: Path) -> None:
    files = fsspec.filesystem("s3")
    data = {"a.bin": bytes(range(256)) * 40_000, "b/c.txt": b"c", "b/d.txt": b""}
    for name, content in data.items():
        files.pipe_file(f"{bucket}/folder/{name}", content)
    assert local_path(Path(f"{bucket}/folder/a.bin")).read_bytes() == data["a.bin"]
    folder = local_path(f"{bucket}/folder")
    assert folder.name == "folder"
    assert tree(folder) == data
    assert local_path(f"{bucket}/folder/") == folder
    assert folder.is_relative_to(cache)


def test_five_thousand_objects_are_one_folder(store: type[FailingStore]) -> None:
    fsspec.filesystem("failing").pipe_file("/b/many/0.txt", b"x")
    store.store |= {f"/b/many/{n}.txt": store.store["/b/many/0.txt"] for n in range(5_200)}
    assert len(Objects("failing://b/many").list()) == 5_200
    with pytest.raises(CurateError, match="more than the"):
        local_path("failing://b/many", limit=5_199)


@pytest.mark.slow
def test_five_thousand_objects_of_s3_are_listed_page_by_page(bucket: str) -> None:
    fsspec.filesystem("s3").pipe({f"{bucket}/pages/{n}": b"" for n in range(5_200)})
    assert len(Objects(f"{bucket}/pages").list()) == 5_200


def test_of_an_artifact_only_what_its_manifest_names_is_taken_and_compared(
    store: type[FailingStore],
) -> None:
    with stored("failing://b/run") as run:
        make(run, "splits/a", "one")
        expected = tree(run / "splits" / "a")
    files = fsspec.filesystem("failing")
    files.pipe_file("/b/run/splits/a/foreign.bin", b"x")
    assert tree(local_path("failing://b/run/splits/a")) == expected
    files.pipe_file("/b/run/splits/a/part_0.bin", b"y" * len(expected["part_0.bin"]))
    with pytest.raises(CurateError, match=r"part_0\.bin: altered"):
        local_path("failing://b/run/splits/a")
    files.rm_file("/b/run/splits/a/part_0.bin")
    with pytest.raises(CurateError, match=r"part_0\.bin: is missing"):
        local_path("failing://b/run/splits/a")


def test_an_artifact_counts_only_with_its_manifest(store: type[FailingStore]) -> None:
    with stored("failing://b/run") as run:
        make(run, "embeddings", "one")
    assert local_artifact("failing://b/run/embeddings") == str(
        local_path("failing://b/run/embeddings")
    )
    for other in ("failing://b/run", "failing://b/run/{0..9}.tar", "run/embeddings", "http://h/x"):
        assert local_artifact(other) == other


def test_too_much_is_refused_before_it_is_fetched(store: type[FailingStore]) -> None:
    fsspec.filesystem("failing").pipe_file("/b/large.bin", b"x" * 100)
    store.calls.clear()
    with pytest.raises(CurateError, match="more than the"):
        local_path("failing://b/large.bin", limit=99)
    assert "open" not in store.calls


def test_a_body_that_grows_beyond_the_limit_is_not_kept(
    web: tuple[str, Faults, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _, root = web
    (root / "a.bin").write_bytes(b"x" * 1000)
    monkeypatch.setattr("curate.storage.objects.stamp_of", lambda _: Stamp(-1, ""))
    with pytest.raises(CurateError, match="more than 999 bytes came"):
        local_path(f"{address}/a.bin", limit=999)
    assert not list(cache.rglob("a.bin"))


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a\nb", "a/../../../x"])
def test_hostile_names_lead_nowhere(store: type[FailingStore], cache: Path, name: str) -> None:
    files = fsspec.filesystem("failing")
    files.pipe_file("/b/set/good.txt", b"1")
    store.store[f"/b/set/{name}"] = store.store["/b/set/good.txt"]
    with pytest.raises(CurateError, match="can be no file's"):
        local_path("failing://b/set")
    assert not list(cache.rglob("x"))


def test_two_at_once_fetch_once(store: type[FailingStore]) -> None:
    fsspec.filesystem("failing").pipe_file("/b/a.bin", b"x" * 1000)
    store.calls.clear()
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(local_path("failing://b/a.bin")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert store.calls.count("open") == 1


def test_the_first_of_some_places_counts(store: type[FailingStore], tmp_path: Path) -> None:
    fsspec.filesystem("failing").pipe_file("/b/run/calibration.json", b"{}")
    places = ["failing://b/run/none.json", "failing://b/run/calibration.json"]
    found = first_file([tmp_path / "none", *places])
    assert found is not None
    assert found.read_bytes() == b"{}"
    assert first_file(["none.json"]) is None
