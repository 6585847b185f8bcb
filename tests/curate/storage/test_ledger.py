"""What a working folder and its address had in common last."""

import os
from pathlib import Path

import pytest

from curate.storage.ledger import Ledger


def test_a_ledger_tells_changes_on_either_side(tmp_path: Path) -> None:
    path, ledger = tmp_path / "a.txt", Ledger()
    path.write_text("one")
    ledger.note("a.txt", "tag", path)
    ledger.artifacts["splits/a"] = "id"
    ledger.write(tmp_path / "ledger.json")
    read = Ledger.read(tmp_path / "ledger.json")
    assert read == ledger
    assert read.same_object("a.txt", "tag")
    assert read.same_file("a.txt", path)
    assert not read.same_object("a.txt", "other")
    assert not read.same_object("b.txt", "tag")
    path.write_text("two, longer")
    assert not read.same_file("a.txt", path)
    path.write_text("one")
    os.utime(path, ns=(0, 0))
    assert not read.same_file("a.txt", path)


def test_where_a_store_tells_no_versions_nothing_is_taken_for_equal(tmp_path: Path) -> None:
    path, ledger = tmp_path / "a.txt", Ledger()
    path.write_text("one")
    ledger.note("a.txt", "", path)
    assert not ledger.same_object("a.txt", "")


@pytest.mark.parametrize("text", ["", "{", "[]", "1"])
def test_a_ledger_that_cannot_be_read_is_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    assert Ledger.read(tmp_path / "ledger.json") == Ledger()
    assert Ledger.read(tmp_path / "none.json") == Ledger()
