"""img2dataset's output: beside each tar a table with a status row per URL, failed ones included."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from curate.errors import CurateError
from curate.files import write_bytes
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
    for number, (key, status, error) in enumerate(_read(tar, _COLUMNS).iter_rows()):
        if as_text(key) in keys:
            continue
        failure = Failure(as_text(status) or "missing", as_text(error) or "")
        if status == "success":
            failure = Failure("missing", "its row says success, but the tar lacks it")
        yield Sample(as_text(key) or f"row {number}", (), failure)


def write_status_table(tar: str | Path, out: Path, keep: Callable[[str], bool]) -> None:
    """Write the rows of the kept keys, in order, to `out`."""
    frame = _read(tar, None)
    flags = [keep(printable(as_text(key) or "")) for key in frame["key"]]
    buffer = io.BytesIO()
    frame.filter(pl.Series(flags, dtype=pl.Boolean)).write_parquet(buffer, statistics=False)
    write_bytes(out, buffer.getvalue())


def _read(tar: str | Path, columns: list[str] | None) -> pl.DataFrame:
    table = status_table(tar)
    if table is None:
        raise CurateError(f"{tar}: its status table or statistics file has gone.")
    try:
        return pl.read_parquet(table, columns=columns, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CurateError(
            f"{table}: not readable as img2dataset's status table ({error})."
        ) from error
