"""img2dataset's output: beside each tar a table with a status row per URL, failed ones included."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from curate.errors import CurateError
from curate.files import atomic_write
from curate.formats.parquet import arrow_errors
from curate.samples import Failure, Sample, as_text, printable

_COLUMNS = ["key", "status", "error_message"]


def status_table(tar: str | Path) -> Path | None:
    """The status table of a tar: the same stem, with img2dataset's statistics file beside it."""
    path = Path(tar)
    table = path.with_suffix(".parquet")
    statistics = path.with_name(f"{path.stem}_stats.json")
    return table if path.suffix == ".tar" and table.is_file() and statistics.is_file() else None


def lost_samples(tar: str | Path, keys: set[str]) -> Iterator[Sample]:
    """One failed sample per row of the status table whose key the tar does not hold."""
    for number, row in enumerate(_read(tar, _COLUMNS).to_pylist()):
        key, status, error = (as_text(row[name]) for name in _COLUMNS)
        if key in keys:
            continue
        failure = Failure(status or "missing", error or "")
        if status == "success":
            failure = Failure("missing", "its row says success, but the tar lacks it")
        yield Sample(key or f"row {number}", (), failure)


def write_status_table(tar: str | Path, out: Path, keep: Callable[[str], bool]) -> None:
    """Write the rows of the kept keys, in order, to `out`."""
    import pyarrow.parquet

    table = _read(tar, None)
    flags = [keep(printable(as_text(key) or "")) for key in table["key"].to_pylist()]
    with atomic_write(out) as stream:
        kept = table.filter(pyarrow.array(flags, pyarrow.bool_()))
        pyarrow.parquet.write_table(kept, stream, compression="zstd")


def _read(tar: str | Path, columns: list[str] | None) -> Any:
    """The table, read by pyarrow: polars ends the process over some damaged files."""
    import pyarrow.parquet

    path = status_table(tar)
    if path is None:
        raise CurateError(f"{tar}: its status table or statistics file has gone.")
    with arrow_errors(path):
        table = pyarrow.parquet.ParquetFile(path).read(columns)
    missing = set(_COLUMNS) - set(table.column_names)
    if missing:
        raise CurateError(f"{path}: no status table of img2dataset; it lacks {sorted(missing)}.")
    return table
