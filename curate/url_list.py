"""A list of image URLs: read, checked, and cut down to what may be fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from curate import tables
from curate.errors import CurateError
from curate.storage import local_path

if TYPE_CHECKING:
    from pathlib import Path

ROW = "list_row"  # position in the list; img2dataset carries it into every status row
_DATA = ("url", "caption", "width", "height", "original_width", "original_height", "exif")
_STATE = ("key", "status", "error_message", "md5", "sha256", "sha512")
RESERVED = frozenset((*_DATA, *_STATE, ROW))  # what img2dataset calls its own columns, and ours
_FETCHABLE = re.compile(r"https?://[^/\s]", re.IGNORECASE)


@dataclass(frozen=True)
class ListColumns:
    """Which columns of the list mean what; `keep` names columns that travel with the sample."""

    url: str = "url"
    caption: str | None = None
    sha256: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class UrlList:
    """`fetch`: list_row i64, url, then caption, sha256 and the kept columns where asked for.

    `refused`: list_row i64, url, status "refused", error_message. Together they hold every row of
    the list once.
    """

    fetch: pl.DataFrame
    refused: pl.DataFrame


def _read_lines(path: Path) -> pl.DataFrame:
    lines = path.read_text(encoding="utf-8").splitlines()
    urls = [line.strip() for line in lines if line.strip()]
    return pl.DataFrame({"url": urls}, schema={"url": pl.String})


def _read_table(path: Path) -> pl.DataFrame:
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return _read_lines(path)
    if suffix == ".parquet":
        return pl.read_parquet(path, glob=False)
    if suffix in (".csv", ".tsv"):
        separator = "\t" if suffix == ".tsv" else ","
        return pl.read_csv(path, separator=separator, infer_schema=False, glob=False)
    raise CurateError(f"{path}: unknown kind of list; give .parquet, .csv, .tsv or .txt")


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise CurateError(f"{path}: there is no such file; give one list of URLs")
    try:
        table = _read_table(path)
    except pl.exceptions.NoDataError:
        raise CurateError(f"{path}: the list is empty") from None
    except (*tables.DAMAGE, UnicodeDecodeError) as error:
        raise CurateError(f"{path}: cannot be read as a {path.suffix} list: {error}") from error
    if not table.height:
        raise CurateError(f"{path}: the list is empty")
    return table


def _check_columns(path: Path, table: pl.DataFrame, columns: ListColumns) -> None:
    wanted = [columns.url, columns.caption, columns.sha256, *columns.keep]
    missing = [name for name in wanted if name is not None and name not in table.columns]
    if missing:
        raise CurateError(f"{path}: has no column {missing}; it has {table.columns}")
    if table.schema[columns.url] != pl.String:
        kind = table.schema[columns.url]
        raise CurateError(f"{path}: column '{columns.url}' holds {kind}, not text")
    reserved = sorted(RESERVED.intersection(columns.keep))
    if reserved:
        raise CurateError(f"{path}: {reserved} cannot be kept, the names are used for the download")
    for name in columns.keep:
        kind = table.schema[name]
        if not (kind.is_numeric() or kind in (pl.String, pl.Boolean)) or kind.is_decimal():
            raise CurateError(f"{path}: column '{name}' holds {kind}; keep only text and numbers")


def _as_text(path: Path, table: pl.DataFrame, name: str) -> pl.Series:
    try:
        return table[name].cast(pl.String)
    except pl.exceptions.PolarsError as error:
        kind = table.schema[name]
        raise CurateError(f"{path}: column '{name}' holds {kind}, not text ({error}).") from error


def _digests(path: Path, table: pl.DataFrame, name: str) -> pl.Series:
    """The expected digests in lower case, as img2dataset compares them; all must be there."""
    digests = _as_text(path, table, name).str.strip_chars().str.to_lowercase()
    bad = ~digests.str.contains(r"^[0-9a-f]{64}$").fill_null(value=False)
    if bad.any():
        row = bad.arg_true()[0]
        raise CurateError(
            f"{path}: column '{name}', row {row}: {table[name][row]!r} is no sha256 (64 hex "
            "digits); drop the rows without one, they would count as mismatches"
        )
    return digests


def _reason(url: str | None) -> str | None:
    """Why a URL is not fetched, or None. A list is untrusted, and urllib would read local files.

    Only what starts with http:// or https:// passes: urllib strips wrappings such as "URL:", so a
    list of forbidden schemes would not do.
    """
    if url is None or not url.strip():
        return "there is no url"
    if not _FETCHABLE.match(url.strip()):
        return "only http:// and https:// urls are fetched"
    return None


def read_url_list(path: Path, columns: ListColumns) -> UrlList:
    """Read a .parquet, .csv, .tsv or .txt list (one URL a line) of images.

    Raises CurateError if it is missing, unreadable, empty, or lacks a named column.
    """
    path = local_path(path)
    table = _read(path)
    _check_columns(path, table, columns)
    chosen = {"url": table[columns.url]}
    if columns.caption is not None:
        chosen["caption"] = _as_text(path, table, columns.caption)
    if columns.sha256 is not None:
        chosen["sha256"] = _digests(path, table, columns.sha256)
    chosen |= {name: table[name] for name in columns.keep}
    whole = pl.DataFrame(chosen).with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
    reasons = pl.Series("error_message", [_reason(url) for url in whole["url"]], pl.String)
    refused = whole.select(ROW, "url", status=pl.lit("refused")).with_columns(reasons)
    return UrlList(whole.filter(reasons.is_null()), refused.filter(reasons.is_not_null()))
