"""What an address holds, told apart: whole artifacts, half-sent ones, facts and other files."""

import fsspec
import pytest
from failing_store import FailingStore
from stored_runs import make

from curate.errors import CurateError
from curate.storage import stored
from curate.storage.objects import Objects
from curate.storage.snapshot import UNFINISHED, Snapshot, snapshot

URL = "failing://b/run"


def put(name: str, data: bytes = b"x") -> None:
    fsspec.filesystem("failing").pipe_file(f"/b/run/{name}", data)


def seen() -> Snapshot:
    return snapshot(Objects(URL, ()))


def test_objects_of_artifacts_are_told_from_others(store: type[FailingStore]) -> None:
    with stored(URL) as run:
        make(run, "splits/a", "one")
    for name in ("run.json", "flow/x/log.txt", "flow/.lock", "a.tmp"):
        put(name)
    found = seen()
    assert list(found.manifests) == ["splits/a"]
    assert found.loose() == ["flow/x/log.txt", "run.json"]
    assert found.facts_of("splits/a") == ["splits/a/facts/times.json"]
    assert sorted(found.outputs_of("splits/a")) == [
        f"splits/a/{name}" for name in ("part_0.bin", "part_1.bin", "same.bin")
    ]
    assert found.folder_of("splits/a/facts/times.json") == "splits/a"
    assert found.folder_of("run.json") is None


def test_nothing_in_a_half_sent_artifact_counts(store: type[FailingStore]) -> None:
    put(f"splits/a/{UNFINISHED}")
    put("splits/a/part_0.bin")
    put("splits/a/facts/x.json")
    put("run.json")
    found = seen()
    assert found.unfinished == {"splits/a"}
    assert found.loose() == ["run.json"]
    assert set(found.files_of("splits/a")) == {
        f"splits/a/{UNFINISHED}", "splits/a/part_0.bin", "splits/a/facts/x.json",
    }  # fmt: skip


def test_with_its_manifest_an_artifact_counts_though_its_mark_is_left(
    store: type[FailingStore],
) -> None:
    with stored(URL) as run:
        make(run, "splits/a", "one")
    put(f"splits/a/{UNFINISHED}", b"")
    found = seen()
    assert found.unfinished == frozenset()
    assert list(found.manifests) == ["splits/a"]


def test_the_address_itself_may_be_an_artifact(store: type[FailingStore]) -> None:
    with stored(URL) as run:
        make(run.parent, run.name, "one")
    found = seen()
    assert list(found.manifests) == ["."]
    assert found.loose() == []
    assert found.facts_of(".") == ["facts/times.json"]


def test_a_damaged_manifest_is_named(store: type[FailingStore]) -> None:
    put("splits/a/manifest.json", b"{")
    with pytest.raises(CurateError, match=r"splits/a/manifest\.json: not readable"):
        seen()
