"""Where things lie on this machine, and which address they belong to."""

from pathlib import Path

import pytest

from curate.errors import CurateError
from curate.storage.cache import (
    INPUTS,
    RUNS,
    address,
    cache_folder,
    need_room,
    place_of,
    work_folder,
)


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "a"))
    assert cache_folder() == work_folder() == tmp_path / "a"
    monkeypatch.setenv("CURATE_WORK", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "a"
    assert work_folder() == tmp_path / "b"
    monkeypatch.delenv("CURATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / "curate"


def test_each_address_has_a_place_of_its_own(cache: Path) -> None:
    one, other = place_of(RUNS, "s3://b/one"), place_of(RUNS, "s3://b/other")
    assert one != other
    assert one == place_of(RUNS, "s3://b/one")
    assert one.is_relative_to(cache)


def test_a_place_knows_its_address() -> None:
    run, entry = place_of(RUNS, "s3://b/run"), place_of(INPUTS, "s3://b/x/set")
    assert address(run / "run") == "s3://b/run"
    assert address(run / "run" / "splits" / "a") == "s3://b/run/splits/a"
    assert address(entry / "version" / "set") == "s3://b/x/set"
    assert address(entry / "version" / "set" / "a.npy") == "s3://b/x/set/a.npy"
    assert address(Path("elsewhere")) is None
    assert address(run) is None


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CurateError, match="set CURATE_CACHE"):
        place_of(INPUTS, "s3://b/x")


def test_what_does_not_fit_is_found_out_before_it_is_fetched(tmp_path: Path) -> None:
    need_room(tmp_path, "s3://b/x", 1)
    with pytest.raises(CurateError, match="do not fit"):
        need_room(tmp_path, "s3://b/x", 1 << 60)
