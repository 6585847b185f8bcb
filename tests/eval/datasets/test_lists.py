"""Lists of labels: what is wrong with one is told with its file and entry."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from curate.errors import CurateError
from eval.datasets.lists import entries, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_lines_come_without_the_space_around_them(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\n one \r\n\ntwo words\n\n")
    assert read_lines(path) == ["one", "two words"]


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CurateError, match=r"list\.txt: not readable as UTF-8 text"):
        read_lines(path)


def test_entries_are_read_in_their_order(tmp_path: Path) -> None:
    assert entries(tmp_path, ["1", "2"], int, "a number") == [1, 2]


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ("x", int),
        ("c", {"a": 0, "b": 1}.__getitem__),
        ("b", lambda text: text.split()[1]),
        ("{", json.loads),
        (None, lambda text: text.split()[0]),
        (None, int),
    ],
)
def test_a_malformed_entry_is_told_with_file_place_and_form(
    tmp_path: Path, row: object, read: object
) -> None:
    words = r"list\.txt: entry 2: a thing was expected \(.*\); fetch the file again"
    with pytest.raises(CurateError, match=words):
        entries(tmp_path / "list.txt", ["1", row], lambda one: one == "1" or read(one), "a thing")  # type: ignore[operator]


def test_rows_that_cannot_be_handed_out_are_malformed_too(tmp_path: Path) -> None:
    def rows() -> Iterator[str]:
        yield "1"
        raise csv.Error("field larger than field limit")

    with pytest.raises(CurateError, match=r"entry 2: a number was expected \(Error: field larger"):
        entries(tmp_path, rows(), int, "a number")


def test_an_error_that_is_for_the_user_already_is_left_as_it_is(tmp_path: Path) -> None:
    def read(_row: str) -> str:
        raise CurateError("said already")

    with pytest.raises(CurateError, match=r"^said already$"):
        entries(tmp_path, ["1"], read, "a number")
