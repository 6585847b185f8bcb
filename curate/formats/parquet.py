"""Parquet tables whose rows hold image bytes, or paths of image files below the table's folder.

Known column names: bytes in `image`, `jpg`, `png`, `webp`, `bytes`, `content` (binary, or a struct
with `bytes` as Hugging Face writes it); paths in `path`, `image_path`, `file_name`, `filename`, or
in one of the former if it holds text. Bytes go before paths.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from curate.errors import CurateError
from curate.files import atomic_write, write_bytes
from curate.samples import (
    Failure,
    Limits,
    Member,
    Sample,
    as_text,
    is_unsafe,
    printable,
    unique_keys,
)

_BYTES = ("image", "jpg", "png", "webp", "bytes", "content")
_PATHS = ("path", "image_path", "file_name", "filename")
_KEYS = ("key", "__key__", "id", "uid")
_LABELS = ("classname", "class_name", "label", "cls", "class")
_CAPTIONS = ("caption", "text", "txt")
_BATCH = 64  # rows; photos of some megabytes each stay within a worker's memory
_BUFFER_BYTES = 8 << 20  # read ahead per column, where Arrow would read whole row groups
_GROUP_BYTES = 64 << 20
_INLINE = "image"  # the member name of bytes that stand in the table itself
_Row = dict[str | None, Any]


@dataclass(frozen=True)
class Table:
    """An open table and the columns of it that matter.

    Attributes:
        file: `pyarrow.parquet.ParquetFile`.
        image: holds image bytes, or paths if `has_paths`.
    """

    file: Any
    image: str
    has_paths: bool
    key: str | None
    label: str | None
    caption: str | None

    @property
    def columns(self) -> list[str]:
        """The columns by name."""
        return [name for name in (self.image, self.key, self.label, self.caption) if name]


def open_table(path: Path) -> Table:
    """Open a Parquet file for reading in batches.

    Raises:
        CurateError: it is not Parquet, or no column holds images.
    """
    import pyarrow.parquet

    with arrow_errors(path):
        file = pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES)
    kinds = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
    data = [name for name in _BYTES if name in kinds and not _is_text(kinds[name])]
    paths = [name for name in (*_PATHS, *_BYTES) if name in kinds and _is_text(kinds[name])]
    if not data and not paths:
        raise CurateError(
            f"{path}: no image column. It has {list(kinds)}; name the column with image bytes one "
            f"of {_BYTES}, or the one with paths one of {_PATHS}."
        )
    groups = (_KEYS, _LABELS, _CAPTIONS)
    others = [next((name for name in group if name in kinds), None) for group in groups]
    return Table(file, (data or paths)[0], not data, *others)


def _is_text(kind: Any) -> bool:
    return str(getattr(kind, "value_type", kind)) in ("string", "large_string", "string_view")


@contextmanager
def arrow_errors(path: Path | str) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into an error that names it."""
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CurateError(f"{path}: not readable as Parquet ({error}).") from error


def has_images(path: Path) -> bool:
    """True when some column of the table holds images or paths."""
    try:
        open_table(path)
    except CurateError:
        return False
    return True


def read(path: Path, limits: Limits) -> Iterator[Sample]:
    """Yield one sample per row, in order; the key is the key column or the row number.

    Raises:
        CurateError: the table is damaged.
    """
    table = open_table(path)
    for number, row in enumerate(_rows(path, table, table.columns)):
        yield _sample(path, table, number, row, limits)


def index(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each row's key as in an item id, and its number; no image is read.

    Raises:
        CurateError: the table is damaged.
    """
    table = open_table(path)
    count = table.file.metadata.num_rows
    rows = _rows(path, table, [table.key]) if table.key else ({} for _ in range(count))
    samples = (Sample(_key(table, number, row)) for number, row in enumerate(rows))
    for number, sample in enumerate(unique_keys(samples)):
        yield sample.key, number


def read_row(path: Path, number: int, limits: Limits) -> Sample:
    """Read one row; of the table no more than its row group up to there.

    Raises:
        CurateError: the table is damaged or has no such row.
    """
    table = open_table(path)
    before = 0
    for group in range(table.file.metadata.num_row_groups):
        size = table.file.metadata.row_group(group).num_rows
        if number < before + size:
            rows = _rows(path, table, table.columns, [group])
            row = next(islice(rows, number - before, None))
            return _sample(path, table, number, row, limits)
        before += size
    raise CurateError(f"{path}: has {before} rows, none is number {number}.")


def _sample(path: Path, table: Table, number: int, row: _Row, limits: Limits) -> Sample:
    image = _image(path.parent, row[table.image], limits)
    return Sample(
        _key(table, number, row),
        (image,),
        image=image.name,
        label=as_text(row.get(table.label)),
        caption=as_text(row.get(table.caption)),
    )


def _key(table: Table, number: int, row: _Row) -> str:
    return as_text(row.get(table.key)) or f"{number:08d}"


def _rows(
    path: Path, table: Table, columns: list[str], groups: list[int] | None = None
) -> Iterator[_Row]:
    for batch in _batches(path, table, columns, groups):
        with arrow_errors(path):
            rows = batch.to_pylist()
        yield from rows


def _batches(
    path: Path,
    table: Table,
    columns: list[str] | None = None,
    groups: list[int] | None = None,
) -> Iterator[Any]:
    with arrow_errors(path):
        yield from table.file.iter_batches(batch_size=_BATCH, columns=columns, row_groups=groups)


def referenced_files(path: Path) -> list[Path]:
    """The image files that the rows name, where they exist; empty for tables that hold bytes."""
    table = open_table(path)
    if not table.has_paths:
        return []
    names = {row[table.image] for row in _rows(path, table, [table.image])}
    files = [path.parent / name for name in names if name and not is_unsafe(name)]
    return sorted(file for file in files if os.path.isfile(file))  # noqa: PTH113  # any name


def _image(folder: Path, value: Any, limits: Limits) -> Member:
    if isinstance(value, dict):  # Hugging Face's image type
        value = value.get("bytes")
    if isinstance(value, str):
        return _file(folder, value, limits)
    if not isinstance(value, bytes):
        return Member(_INLINE, None, Failure("no_image", "the row holds neither bytes nor a path"))
    if len(value) > limits.max_member_bytes:
        text = f"{len(value)} bytes are over the limit of {limits.max_member_bytes}"
        return Member(_INLINE, None, Failure("too_large", text))
    return Member(_INLINE, value)


def _file(folder: Path, name: str, limits: Limits) -> Member:
    path = folder / name
    try:
        if is_unsafe(name) or not path.resolve().is_relative_to(folder.resolve()):
            text = f"the path leaves the folder {folder.name}; move the table above the images"
            return Member(name, None, Failure("unsafe_name", text))
        if not path.is_file():
            return Member(name, None, Failure("failed_to_read", f"{printable(name)}: no such file"))
        if path.stat().st_size > limits.max_member_bytes:
            return Member(name, None, Failure("too_large", "the file is over the byte limit"))
        return Member(name, path.read_bytes())
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        return Member(name, None, Failure("failed_to_read", f"{printable(name)}: {error}"))


def write(
    path: Path, source: Path, samples: Iterable[Sample], keep: Callable[[Sample], bool]
) -> None:
    """Copy the rows of kept samples, in order, with the table's schema and metadata.

    Image files that rows name are copied too, to the same place below the new table's folder.

    Args:
        path: the table to write.
        source: the table that `samples` were read from.
        samples: all of its rows as samples, with unique keys.
        keep: tells whether a sample's row stays.
    """
    table = open_table(source)
    flags = []
    for sample in samples:
        flags.append(keep(sample))
        for member in sample.members:
            if flags[-1] and table.has_paths and member.data is not None:
                write_bytes(path.parent / member.name, member.data)
    _write_rows(path, table.file.schema_arrow, _kept(_batches(source, table), iter(flags)))


def _kept(batches: Iterable[Any], flags: Iterator[bool]) -> Iterator[Any]:
    import pyarrow as pa

    for batch in batches:
        mask = pa.array(islice(flags, batch.num_rows), pa.bool_())
        yield batch.filter(mask)


def _write_rows(path: Path, schema: Any, batches: Iterable[Any]) -> None:
    """Write batches as row groups of about `_GROUP_BYTES`; Arrow makes a group of each write."""
    import pyarrow.parquet

    waiting: list[Any] = []
    size = 0
    with (
        atomic_write(path) as stream,
        pyarrow.parquet.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for batch in batches:
            waiting.append(batch)
            size += batch.nbytes
            if size > _GROUP_BYTES:
                writer.write_table(pyarrow.Table.from_batches(waiting, schema))
                waiting, size = [], 0
        if any(batch.num_rows for batch in waiting):
            writer.write_table(pyarrow.Table.from_batches(waiting, schema))
