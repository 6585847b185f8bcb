"""Shards as img2dataset writes them, put into an order that does not depend on who came first.

A published shard is NNNNN.tar (members by name, without times), NNNNN.parquet (status rows by
position in the list) and, last, NNNNN_stats.json (counts). So equal answers of the servers give
equal bytes, however many threads asked, and whatever was killed meanwhile.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.errors import CurateError
from curate.files import atomic_write, read_json, write_json
from curate.formats.parquet import arrow_errors
from curate.url_list import ROW

if TYPE_CHECKING:
    from pathlib import Path

SUCCESS = "success"
FAILURES = ("failed_to_download", "failed_to_resize")
OUTCOME = pl.Schema(
    {
        ROW: pl.Int64,
        "url": pl.String,
        "key": pl.String,
        "status": pl.String,
        "error_message": pl.String,
    }
)
_SHARD = "shard"  # name of the shard in which a status row stands


def finished(shards: Path) -> list[str]:
    """Names of the shards that are done, in order: those with a statistics file."""
    names = (path.name.removesuffix("_stats.json") for path in shards.glob("[0-9]*_stats.json"))
    return sorted(names, key=int)


def publish(work: Path, shards: Path, name: str) -> int:
    """Move a finished shard from img2dataset's folder to its place; returns its number of rows.

    Interrupted at any point it can be done again: what comes last makes the shard count.

    Raises:
        CurateError: the shard cannot be read, or its place not be written.
    """
    table = _read_table(work / f"{name}.parquet").sort_by(ROW)
    _write_sorted(work / f"{name}.tar", shards / f"{name}.tar")
    _write_table(shards, name, table)
    (work / f"{name}.tar").unlink()
    (work / f"{name}.parquet").unlink()
    return int(table.num_rows)


def outcomes(shards: Path) -> pl.DataFrame:
    """The status rows of all finished shards, and the `shard` that each stands in.

    Raises:
        CurateError: a table cannot be read.
    """
    parts = [pl.DataFrame(schema=OUTCOME).with_columns(pl.lit("").alias(_SHARD))]
    for name in finished(shards):
        table = _read_table(shards / f"{name}.parquet")
        rows = pl.DataFrame(table.select(list(OUTCOME)).to_pydict(), schema=OUTCOME)
        parts.append(rows.with_columns(pl.lit(name).alias(_SHARD)))
    return pl.concat(parts)


def settle(shards: Path) -> None:
    """Let the last try of a row be its only one: earlier tables lose the row, and no other file.

    Raises:
        CurateError: a table cannot be read or written.
    """
    found = outcomes(shards)
    number = pl.col(_SHARD).cast(pl.Int64, strict=False)
    last = found.with_columns(last=number == number.max().over(ROW))
    for (name,), rows in last.group_by(_SHARD, maintain_order=True):
        kept = rows.filter("last")
        path = shards / f"{name}_stats.json"
        if kept.height < rows.height or read_json(path) != _statistics(kept.to_dicts()):
            table = _read_table(shards / f"{name}.parquet")
            staying = set(kept[ROW])
            flags = [row in staying for row in table[ROW].to_pylist()]
            _write_table(shards, str(name), table.filter(flags))


def _read_table(path: Path) -> Any:
    """A status table, by pyarrow: polars ends the process over some damaged files."""
    import pyarrow.parquet

    try:
        with arrow_errors(path):
            return pyarrow.parquet.ParquetFile(path).read()
    except CurateError as error:
        raise CurateError(
            f"{error} Remove {path.stem}_stats.json beside it, and run again."
        ) from error


def _write_table(shards: Path, name: str, table: Any) -> None:
    """Write a shard's status rows, then its statistics."""
    import pyarrow.parquet

    with atomic_write(shards / f"{name}.parquet") as stream:
        pyarrow.parquet.write_table(table, stream, compression="zstd")
    rows = table.select(["status", "error_message"]).to_pylist()
    write_json(shards / f"{name}_stats.json", _statistics(rows))


def _statistics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """img2dataset's counts, without its times."""
    counts = Counter(row["status"] for row in rows)
    reasons = Counter(row["error_message"] or row["status"] for row in rows)
    failed = {status: counts[status] for status in FAILURES}
    return {
        "count": len(rows), "successes": counts[SUCCESS], **failed, "status_dict": dict(reasons)
    }  # fmt: skip


def _write_sorted(source: Path, target: Path) -> None:
    """Copy a tar with its members by name, and without times."""
    try:
        with (
            tarfile.open(source, "r:") as old,
            atomic_write(target) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as new,
        ):
            for member in sorted(old.getmembers(), key=lambda member: member.name):
                member.mtime = 0
                new.addfile(member, old.extractfile(member))
    except (OSError, tarfile.TarError) as error:
        raise CurateError(f"{source}: cannot be read ({error}); run again.") from error
