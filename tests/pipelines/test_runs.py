"""What belongs to a run is found in its folder, wherever that was moved to."""

from pathlib import Path

import pytest
from deduping import run, write_sets

from curate.errors import CurateError
from pipelines.runs import RUN_FILE, SETTINGS_FILE, open_run, read_settings


def test_a_run_that_was_moved_is_opened_with_its_settings(tmp_path: Path) -> None:
    result = run(write_sets(tmp_path / "sets"), tmp_path / "run")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    found = open_run(moved)
    assert found.matches.root.resolve().is_relative_to(moved)
    assert found.split.resolve() == moved / result.split.relative_to(tmp_path / "run")
    assert (found.test.name, found.train.name) == ("test", "train")
    assert read_settings(moved)["threshold"] == 0.8


def test_half_a_note_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    half, other = (tmp_path / "run" / f".{name}.0123456789abcdef.tmp" for name in (RUN_FILE, "x"))
    half.parent.mkdir()
    for path in (half, other):
        path.write_bytes(b"half")
    run(write_sets(tmp_path / "sets"), tmp_path / "run")
    assert (half.exists(), other.exists()) == (False, True)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=rf"no finished run of `curate dedup` \(no {RUN_FILE}"):
        open_run(tmp_path)
    with pytest.raises(CurateError, match=SETTINGS_FILE):
        read_settings(tmp_path)
