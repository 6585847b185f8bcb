"""Artifacts are whole or absent, know what they were made from, and notice every altered byte."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from curate import artifacts
from curate.artifacts import MANIFEST, Manifest
from curate.errors import CurateError
from curate.files import read_json, write_bytes, write_json


def make(root: Path, name: str = "thing", *, seed: int = 0, data: bytes = b"payload") -> Path:
    manifest = Manifest("matches", {"seed": seed}, [{"name": "a", "sha256": "00"}])
    work = artifacts.work_folder(root / name, manifest.key)
    write_bytes(work / "data.bin", data)
    write_bytes(work / "sub" / "more.bin", b"more")
    artifacts.commit(work, root / name, manifest)
    return root / name


def test_a_committed_artifact_lists_its_files_with_digests(tmp_path: Path) -> None:
    folder = make(tmp_path)
    manifest = artifacts.read_manifest(folder)
    assert [output["path"] for output in manifest.outputs] == ["data.bin", "sub/more.bin"]
    assert manifest.outputs[0]["bytes"] == 7
    assert artifacts.verify(folder) == []
    assert not list(tmp_path.glob(".*partial"))


def test_equal_content_gives_equal_ids_and_bytes(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1"), make(tmp_path / "2")
    assert (first / MANIFEST).read_bytes() == (second / MANIFEST).read_bytes()


def test_the_key_depends_on_configuration_and_inputs_and_the_id_on_outputs(tmp_path: Path) -> None:
    manifests = [
        artifacts.read_manifest(make(tmp_path / str(i), seed=seed, data=data))
        for i, (seed, data) in enumerate([(0, b"x"), (1, b"x"), (0, b"y")])
    ]
    assert manifests[0].key == manifests[2].key != manifests[1].key
    assert len({manifest.id for manifest in manifests}) == 3


def test_a_finished_artifact_is_found_by_its_key_only(tmp_path: Path) -> None:
    folder = make(tmp_path)
    key = artifacts.read_manifest(folder).key
    assert artifacts.finished(folder, key)
    assert artifacts.finished(folder, "0" * 64) is None
    assert artifacts.finished(tmp_path / "absent", key) is None
    (folder / "data.bin").write_bytes(b"short")
    assert artifacts.finished(folder, key) is None


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda folder: (folder / "data.bin").write_bytes(b"pAyload"), "altered"),
        (lambda folder: (folder / "data.bin").write_bytes(b"longer payload"), "14 bytes, 7"),
        (lambda folder: (folder / "sub" / "more.bin").unlink(), "missing"),
        (lambda folder: (folder / "extra.txt").write_bytes(b"?"), "not written by curate"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "not readable as JSON"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": 9}'), "format"),
    ],
)
def test_verify_names_what_was_altered(tmp_path: Path, harm: object, word: str) -> None:
    folder = make(tmp_path)
    harm(folder)  # type: ignore[operator]
    problems = artifacts.verify(folder)
    assert len(problems) == 1
    assert word in problems[0]
    assert str(folder) in problems[0]


def test_a_manifest_edited_by_hand_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    stored = read_json(folder / MANIFEST)
    stored["config"]["seed"] = 7
    write_json(folder / MANIFEST, stored)
    with pytest.raises(CurateError, match="altered by hand"):
        artifacts.read_manifest(folder)


def test_facts_are_outside_of_digests_and_of_verification(tmp_path: Path) -> None:
    manifest = Manifest("matches", {}, [])
    work = artifacts.work_folder(tmp_path / "a", manifest.key)
    write_json(work / "facts" / "times.json", {"seconds": 1})
    write_bytes(work / "data.bin", b"x")
    artifacts.commit(work, tmp_path / "a", manifest)
    write_json(tmp_path / "a" / "facts" / "times.json", {"seconds": 2})
    assert artifacts.verify(tmp_path / "a") == []


def test_a_new_artifact_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    make(tmp_path, seed=0, data=b"old")
    folder = make(tmp_path, seed=1, data=b"new")
    assert (folder / "data.bin").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_an_interrupted_build_is_found_again_and_stale_ones_are_removed(tmp_path: Path) -> None:
    first = artifacts.work_folder(tmp_path / "a", "1" * 64)
    write_bytes(first / "part", b"done")
    assert (artifacts.work_folder(tmp_path / "a", "1" * 64) / "part").exists()
    artifacts.work_folder(tmp_path / "a", "2" * 64)
    assert not first.exists()


def test_remains_of_interrupted_writes_never_become_outputs(tmp_path: Path) -> None:
    manifest = Manifest("matches", {}, [])
    work = artifacts.work_folder(tmp_path / "a", manifest.key)
    write_bytes(work / "data.bin", b"x")
    (work / ".data.bin.123.tmp").write_bytes(b"half")
    whole = artifacts.commit(work, tmp_path / "a", manifest)
    assert [output["path"] for output in whole.outputs] == ["data.bin"]
    assert artifacts.verify(tmp_path / "a") == []


def test_an_artifact_whose_source_has_changed_is_called_stale(tmp_path: Path) -> None:
    source = make(tmp_path, "source")
    made_from = [{"name": "s", "sha256": artifacts.read_manifest(source).id}]
    other = make(tmp_path, "other", seed=5)
    made_from.append({"name": "o", "sha256": artifacts.read_manifest(other).id})
    manifest = Manifest("split", {}, made_from)
    work = artifacts.work_folder(tmp_path / "split", manifest.key)
    artifacts.commit(work, tmp_path / "split", manifest)
    assert artifacts.verify_all([source, other, tmp_path / "split"]) == []
    problems = artifacts.verify_all([tmp_path / "split", other, make(tmp_path, "source", seed=9)])
    assert any("stale" in problem for problem in problems)


def test_an_evaluation_is_made_from_images_too_and_not_called_stale_for_them(
    tmp_path: Path,
) -> None:
    split = make(tmp_path, "split")
    images = {"name": "mine", "sha256": "0" * 64}
    made_from = [images, {"name": "split", "sha256": artifacts.read_manifest(split).id}]
    work = artifacts.work_folder(tmp_path / "eval", "key")
    artifacts.commit(work, tmp_path / "eval", Manifest("eval", {}, made_from))
    assert artifacts.verify_all([split, tmp_path / "eval"]) == []


def _hold(run: Path, ready: object) -> None:
    with artifacts.run_lock(run):
        ready.set()  # type: ignore[attr-defined]
        signal.pause()


def test_what_a_kill_between_the_renames_left_is_removed(tmp_path: Path) -> None:
    make(tmp_path, data=b"first").rename(tmp_path / ".thing.old")
    folder = make(tmp_path, data=b"second")
    assert (folder / "data.bin").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_file_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(CurateError, match=r"cannot be locked .* a file system with locks"),
        artifacts.run_lock(tmp_path),
    ):
        pass


def test_a_second_process_is_kept_out_and_a_killed_one_frees_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    try:
        assert ready.wait(60)
        with (
            pytest.raises(CurateError, match="another curate process"),
            artifacts.run_lock(tmp_path),
        ):
            pass
    finally:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    with artifacts.run_lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(CurateError, match="file"), artifacts.run_lock(blocked / "run"):
        pass
