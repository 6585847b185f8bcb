"""What people say of pairs: kept line by line, read from files, weighed against each other.

A label is one reviewer's word on one pair (test_id, train_id): `same` (the same photograph, edited
or not), `near` (the same shot or moment), `different` or `unsure`. The first two make it a copy,
`different` makes it none, `unsure` leaves it open.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import tables
from curate.errors import CurateError
from curate.files import canonical_json, sync_folder
from curate.storage import local_path

LABELS: Final = ("same", "near", "different", "unsure")
COPY: Final[dict[str, bool | None]] = {
    "same": True, "near": True, "different": False, "unsure": None,
}  # fmt: skip
"""Whether a label says that the pair is a copy."""

FOLDER = "labels"
"""Where the labels of a run are, one file per reviewer."""

LABEL_TABLE = pl.Schema(
    {"test_id": pl.String, "train_id": pl.String, "reviewer": pl.String, "label": pl.String}
)
"""The last word of every reviewer on every pair; sorted by pair, then reviewer."""

_SUFFIX = ".jsonl"
_PAIR = ["test_id", "train_id"]
_MAX_NAME_BYTES = 100


@dataclass(frozen=True)
class Between:
    """How far two reviewers agree on the `pairs` that both called a copy or none.

    `kappa` is Cohen's; None where chance alone would make them agree.
    """

    first: str
    second: str
    pairs: int
    share: float
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """How far all reviewers agree on whether pairs are copies; `unsure` is no word in it.

    Attributes:
        pairs: how many pairs at least two reviewers called a copy or none.
        comparisons: reviewers two by two on each of these pairs.
        share: the part of the comparisons that agree; None without any.
        kappa: Cohen's of two reviewers, Fleiss's of more; None where chance alone would make them
            agree, and without comparisons.
        between: every two reviewers who have pairs in common.
    """

    pairs: int
    comparisons: int
    share: float | None
    kappa: float | None
    between: tuple[Between, ...]


def check_reviewer(name: str) -> str:
    """The name of a reviewer, which becomes the name of a file.

    Raises:
        CurateError: no file can have it, or it would lie elsewhere or be hidden.
    """
    fits = 0 < len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
    if not fits or name.startswith(".") or not name.isprintable() or {"/", "\\"} & set(name):
        raise CurateError(
            f"--reviewer {name!r}: give a name of at most {_MAX_NAME_BYTES} bytes without slashes "
            "and control characters, and no dot in front."
        )
    return name


def labels_path(run: Path, reviewer: str) -> Path:
    """Where the labels of a reviewer are in a run."""
    return run / FOLDER / f"{check_reviewer(reviewer)}{_SUFFIX}"


class LabelFile:
    """One reviewer's file, open for appending by one process at a time.

    What `append` was given is on the disk when it returns.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, make it where it is missing, and cut a last line that a crash tore.

        Raises:
            CurateError: another process writes it, or it is damaged or cannot be written.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CurateError(f"{path}: cannot be written ({error.strerror}).") from error
        try:
            self._lock()
            self._end = _whole_length(path)
            os.ftruncate(self._handle, self._end)
            sync_folder(path.parent)
        except BaseException:
            os.close(self._handle)
            raise

    def _lock(self) -> None:
        """The kernel frees the lock when the process dies."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CurateError(
                f"{self.path}: another `curate review` writes as {self.path.stem}. Close it, or "
                "give another --reviewer."
            ) from error

    def append(self, record: dict[str, Any]) -> None:
        """Add one line; it is whole on the disk when this returns, or nothing of it is.

        Raises:
            CurateError: the disk is full or fails.
        """
        line = canonical_json(record) + b"\n"
        try:
            self._write(line)
        except OSError as error:
            os.ftruncate(self._handle, self._end)
            raise CurateError(
                f"{self.path}: the label was not kept ({error}). Free space and label again."
            ) from error
        self._end += len(line)

    def _write(self, line: bytes) -> None:
        os.lseek(self._handle, self._end, os.SEEK_SET)
        written = os.write(self._handle, line)
        if written < len(line):
            raise OSError(f"{len(line) - written} bytes did not fit")
        os.fsync(self._handle)

    def close(self) -> None:
        """Let another process write."""
        os.close(self._handle)


def _whole_length(path: Path) -> int:
    """Bytes up to the end of the last whole line, all of which were checked."""
    end = 0
    for _, end in _lines(path):  # noqa: B007  # the last one counts
        pass
    return end


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every line of a reviewer's file in the order they were said, words taken back among them.

    A last line without its end, which a crash tore, is passed over.

    Raises:
        CurateError: the file cannot be read, or a line is damaged; it names file and line.
    """
    for record, _ in _lines(path):
        yield record


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Records, and where their lines end."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CurateError(f"{path}: cannot be read ({error.strerror}).") from error
    end = 0
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        end += len(line) + 1
        if line.strip():
            yield _record(path, number, line), end


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    where = f"{path}, line {number}"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CurateError(f"{where}: not JSON ({error}); mend or remove the line.") from error
    if not isinstance(record, dict):
        raise CurateError(f"{where}: no object; mend or remove the line.")
    for name in _PAIR:
        if not isinstance(record.get(name), str):
            raise CurateError(f"{where}: {name} is missing or no text; mend or remove the line.")
    if not isinstance(record.get("reviewer", ""), str):
        raise CurateError(f"{where}: reviewer is no text; mend or remove the line.")
    if "label" not in record or record["label"] not in (*LABELS, None):
        raise CurateError(f"{where}: label {record.get('label')!r}: {_expected()}")
    return record


def _expected() -> str:
    return f"one of {', '.join(LABELS)} was expected; mend or remove the line."


def read_labels(path: Path) -> pl.DataFrame:
    """The last word of every reviewer on every pair; words taken back are left out.

    Args:
        path: a run's `labels` folder, one reviewer's `.jsonl`, or a `.csv` or `.parquet` table with
            the columns test_id, train_id and label, and perhaps reviewer. Where no reviewer is
            named, the file's name is one.

    Returns:
        `LABEL_TABLE`, sorted.

    Raises:
        CurateError: it is none of them, or a line or row is damaged; it names file and line.
    """
    path = local_path(path)
    if path.is_dir():
        frames = [_read_file(file) for file in sorted(path.glob(f"[!.]*{_SUFFIX}"))]
    else:
        frames = [_read_file(path)]
    words = pl.concat([pl.DataFrame(schema=LABEL_TABLE), *frames])
    last = words.unique([*_PAIR, "reviewer"], keep="last", maintain_order=True)
    return last.drop_nulls("label").sort(*_PAIR, "reviewer")


def _read_file(path: Path) -> pl.DataFrame:
    """All words of a file in their order, those taken back too."""
    if path.suffix == _SUFFIX:
        rows = [{"reviewer": path.stem, **record} for record in read_lines(path)]
        names = LABEL_TABLE.names()
        return pl.DataFrame(
            [{name: row[name] for name in names} for row in rows], schema=LABEL_TABLE
        )
    return _read_table(path)


def _read_table(path: Path) -> pl.DataFrame:
    if path.suffix not in (".csv", ".parquet"):
        raise CurateError(
            f"{path}: no labels. Give a run's labels folder, a {_SUFFIX}, a .csv or a .parquet."
        )
    try:
        is_text = path.suffix == ".csv"
        table = (
            pl.read_csv(path, infer_schema=False, glob=False)
            if is_text
            else pl.read_parquet(path, glob=False)
        )
        missing = sorted({*_PAIR, "label"} - set(table.columns))
        if missing:
            raise CurateError(f"{path}: columns {missing} are missing; it has {table.columns}.")
        if "reviewer" not in table.columns:
            table = table.with_columns(reviewer=pl.lit(path.stem))
        table = table.select(pl.col(name).cast(kind) for name, kind in LABEL_TABLE.items())
    except tables.DAMAGE as error:
        raise CurateError(f"{path}: not readable as a table ({error}).") from error
    _check_rows(path, table)
    return table.with_columns(pl.col("reviewer").fill_null(path.stem))


def _check_rows(path: Path, table: pl.DataFrame) -> None:
    offset = 2 if path.suffix == ".csv" else 1  # the first line of a CSV holds the names
    nameless = table.select(pl.any_horizontal(pl.col(_PAIR).is_null())).to_series().arg_true()
    if len(nameless):
        raise CurateError(
            f"{path}, line {nameless[0] + offset}: test_id or train_id is empty; fill it in."
        )
    known = pl.col("label").is_in(list(LABELS)) | pl.col("label").is_null()
    strange = table.select(~known).to_series().arg_true()
    if len(strange):
        label = table["label"][strange[0]]
        raise CurateError(f"{path}, line {strange[0] + offset}: label {label!r}: {_expected()}")


def verdicts(labels: pl.DataFrame) -> pl.DataFrame:
    """Labels with `copy` (Boolean, null for `unsure`) beside them."""
    said = pl.col("label").replace_strict(COPY, return_dtype=pl.Boolean)
    return labels.with_columns(copy=said)


def judged(labels: pl.DataFrame) -> pl.DataFrame:
    """What all reviewers together say of each pair.

    Args:
        labels: `LABEL_TABLE`.

    Returns:
        One row per pair, sorted: test_id, train_id, `copy` (Boolean: what most say who are not
        unsure; null where they are tied or all unsure), `reviewers` (Int32: how many have judged
        it), `agree` (Boolean: all say copy, all say none, or all are unsure).
    """
    copy = pl.col("copy")
    balance = copy.sum().cast(pl.Int32) - (~copy).sum().cast(pl.Int32)
    return (
        verdicts(labels)
        .group_by(_PAIR)
        .agg(
            copy=pl.when(balance != 0).then(balance > 0),
            reviewers=pl.len().cast(pl.Int32),
            agree=copy.n_unique() == 1,
        )
        .sort(_PAIR)
    )


def agreement(labels: pl.DataFrame) -> Agreement:
    """How far reviewers agree on whether pairs are copies.

    Cohen's kappa: J. Cohen, "A coefficient of agreement for nominal scales", 1960. Fleiss's: J. L.
    Fleiss, "Measuring nominal scale agreement among many raters", 1971, each pair with as many
    raters as it has.

    Args:
        labels: `LABEL_TABLE`.
    """
    said = verdicts(labels).drop_nulls("copy")
    names = sorted(said["reviewer"].unique())
    votes = said.pivot("reviewer", index=_PAIR, values="copy", maintain_order=True)
    found = (_between(votes, *two) for two in combinations(names, 2))
    between = tuple(entry for entry in found if entry)
    comparisons = sum(entry.pairs for entry in between)
    agreeing = sum(round(entry.share * entry.pairs) for entry in between)
    table = _counts(said)
    return Agreement(
        pairs=len(table),
        comparisons=comparisons,
        share=agreeing / comparisons if comparisons else None,
        kappa=between[0].kappa if len(between) == 1 else _fleiss(table),
        between=between,
    )


def _between(votes: pl.DataFrame, first: str, second: str) -> Between | None:
    both = votes.select(first, second).drop_nulls()
    if not both.height:
        return None
    a, b = both[first].to_numpy(), both[second].to_numpy()
    share, p, q = float((a == b).mean()), float(a.mean()), float(b.mean())
    return Between(first, second, len(a), share, _kappa(share, p * q + (1 - p) * (1 - q)))


def _kappa(observed: float, expected: float) -> float | None:
    return (observed - expected) / (1 - expected) if expected < 1 else None


def _counts(said: pl.DataFrame) -> NDArray[np.float64]:
    """(n, 2): who says copy and who says none, of pairs with two words or more."""
    copy = pl.col("copy")
    table = said.group_by(_PAIR).agg(yes=copy.sum(), no=(~copy).sum())
    counts = table.filter(pl.col("yes") + pl.col("no") > 1).select("yes", "no").to_numpy()
    return counts.astype(np.float64)


def _fleiss(counts: NDArray[np.float64]) -> float | None:
    if not len(counts):
        return None
    raters = counts.sum(axis=1)
    agreeing = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    shares = counts.sum(axis=0) / counts.sum()
    return _kappa(float(agreeing.mean()), float((shares**2).sum()))
