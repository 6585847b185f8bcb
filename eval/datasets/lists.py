"""Lists of labels that stand beside images, read so that an error names the file and the entry."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from curate.encoders.base import brief
from curate.errors import CurateError

Row = TypeVar("Row")
Entry = TypeVar("Entry")
_MALFORMED = (AttributeError, LookupError, RecursionError, TypeError, ValueError, csv.Error)


def read_lines(path: Path) -> list[str]:
    """The lines of a text without the space around them; empty ones are left out.

    Raises:
        CurateError: the file cannot be read, or is not UTF-8.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise CurateError(f"{path}: not readable as UTF-8 text ({brief(error)}).") from error
    return [line for line in lines if line]


def entries(
    path: Path, rows: Iterable[Row], read: Callable[[Row], Entry], form: str
) -> list[Entry]:
    """The rows of a list, each of them read.

    Args:
        path: the file that they are from.
        rows: of the list; what fails while they are handed out is an error of the list, too.
        read: a row -> what it says; fails where the row is malformed, or names what is not known.
        form: what a row should be, in words.

    Raises:
        CurateError: a row is not of that form.
    """
    found: list[Entry] = []
    try:
        for row in rows:
            found.append(read(row))  # noqa: PERF401 - how many there are says which one failed
    except _MALFORMED as error:
        raise CurateError(
            f"{path}: entry {len(found) + 1}: {form} was expected "
            f"({type(error).__name__}: {brief(error)}); fetch the file again."
        ) from error
    return found
