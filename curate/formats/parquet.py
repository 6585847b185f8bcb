"""Parquet tables whose rows hold image bytes, or paths of image files below the table's folder.

Known column names: bytes in `image`, `jpg`, `png`, `webp`, `bytes`, `content` (binary, or a struct
with `bytes` as Hugging Face writes it); paths in `path`, `image_path`, `file_name`, `filename`.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from curate.errors import CurateError
from curate.files import atomic_write, write_bytes
from curate.samples import Failure, Limits, Member, Sample, as_text, is_unsafe, printable

_BYTES = ("image", "jpg", "png", "webp", "bytes", "content")
_PATHS = ("path", "image_path", "file_name", "filename")
_KEYS = ("key", "__key__", "id", "uid")
_LABELS = ("classname", "class_name", "label", "cls", "class")
_CAPTIONS = ("caption", "text", "txt")
_BATCH = 256
_INLINE = "image"  # the member name of bytes that stand in the table itself


def open_table(path: Path) -> Any:
    """Open a Parquet file for reading in batches.

    Raises:
        CurateError: it is not Parquet, or no column holds images.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise CurateError(f"{path}: not readable as Parquet ({error}).") from error
    if not (set(_BYTES) | set(_PATHS)) & set(table.schema_arrow.names):
        raise CurateError(
            f"{path}: no image column. It has {table.schema_arrow.names}; name the column with image "
            f"bytes one of {_BYTES}, or the one with paths one of {_PATHS}."
        )
    return table


def has_images(path: Path) -> bool:
    """True when some column of the table holds images or paths."""
    try:
        open_table(path)
    except CurateError:
        return False
    return True


def read(path: Path, limits: Limits) -> Iterator[Sample]:
    """Yield one sample per row, in order; the key is the key column or the row number."""
    table = open_table(path)
    names = table.schema_arrow.names
    number = 0
    for batch in table.iter_batches(batch_size=_BATCH, columns=_wanted(names)):
        for row in batch.to_pylist():
            yield _sample(path.parent, row, number, limits)
            number += 1


def referenced_files(path: Path) -> list[Path]:
    """The image files that the rows name, where they exist; empty for tables that hold bytes."""
    table = open_table(path)
    column = _first(table.schema_arrow.names, _PATHS)
    if column is None or _first(table.schema_arrow.names, _BYTES):
        return []
    values = table.read(columns=[column])[column].to_pylist()
    names = {value for value in values if isinstance(value, str) and not is_unsafe(value)}
    return sorted(file for name in names if (file := path.parent / name).is_file())


def _wanted(names: list[str]) -> list[str]:
    groups = (_BYTES, _PATHS, _KEYS, _LABELS, _CAPTIONS)
    return [column for group in groups if (column := _first(names, group))]


def _first(names: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    present = set(names)
    return next((name for name in wanted if name in present), None)


def _value(row: dict[str, Any], wanted: tuple[str, ...]) -> Any:
    column = _first(row, wanted)
    return row[column] if column else None


def _sample(folder: Path, row: dict[str, Any], number: int, limits: Limits) -> Sample:
    image = _image(folder, row, limits)
    return Sample(
        as_text(_value(row, _KEYS)) or f"{number:08d}",
        (image,),
        image=image.name,
        label=as_text(_value(row, _LABELS)),
        caption=as_text(_value(row, _CAPTIONS)),
    )


def _image(folder: Path, row: dict[str, Any], limits: Limits) -> Member:
    data = _value(row, _BYTES)
    if isinstance(data, dict):
        data = data.get("bytes")
    if isinstance(data, bytes):
        if len(data) > limits.max_member_bytes:
            text = f"{len(data)} bytes are over the limit of {limits.max_member_bytes}"
            return Member(_INLINE, None, Failure("too_large", text))
        return Member(_INLINE, data)
    name = _value(row, _PATHS)
    if not isinstance(name, str):
        return Member(_INLINE, None, Failure("no_image", "the row holds neither bytes nor a path"))
    return _file(folder, name, limits)


def _file(folder: Path, name: str, limits: Limits) -> Member:
    path = folder / name
    if is_unsafe(name) or not path.resolve().is_relative_to(folder.resolve()):
        text = (
            f"the path leaves the table's folder; move the table above the images ({folder.name})"
        )
        return Member(name, None, Failure("unsafe_name", text))
    try:
        if path.stat().st_size > limits.max_member_bytes:
            return Member(name, None, Failure("too_large", "the file is over the byte limit"))
        return Member(name, path.read_bytes())
    except (OSError, ValueError) as error:
        return Member(name, None, Failure("failed_to_read", f"{printable(name)}: {error}"))


def write(path: Path, source: Path, samples: Iterable[Sample], keep: Callable[[str], bool]) -> None:
    """Copy the rows of kept samples, in order, with the table's schema and metadata.

    Image files that rows name are copied too, to the same place below the new table's folder.

    Args:
        path: the table to write.
        source: the table that `samples` were read from.
        samples: all of its rows as samples, with unique keys.
        keep: tells by key whether a row stays.
    """
    flags = []
    for sample in samples:
        flags.append(keep(sample.key))
        for member in sample.members:
            if flags[-1] and member.name != _INLINE and member.data is not None:
                write_bytes(path.parent / member.name, member.data)
    _write_rows(path, source, iter(flags))


def _write_rows(path: Path, source: Path, flags: Iterator[bool]) -> None:
    import pyarrow
    import pyarrow.parquet

    table = open_table(source)
    with (
        atomic_write(path) as stream,
        pyarrow.parquet.ParquetWriter(stream, table.schema_arrow, compression="zstd") as writer,
    ):
        for batch in table.iter_batches(batch_size=_BATCH):
            kept = [next(flags) for _ in range(batch.num_rows)]
            if any(kept):
                writer.write_batch(batch.filter(pyarrow.array(kept, pyarrow.bool_())))
