"""Tables that others wrote beside vectors -> metadata rows with ids that are unique.

Columns vary from set to set, so each is looked for by name and may be absent. An item is called
`part:key`, where `key` is the table's own name for it; where that is missing or not unique in the
part, the number of the row stands for it or is appended. Foreign Parquet is read with pyarrow,
because polars may end the process on damaged files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.errors import CurateError
from curate.formats.parquet import arrow_errors
from curate.remote import RangeStream, RemoteFile
from curate.samples import printable

_NAMES = ("key", "image_path", "url", "URL")
_SHARDS = ("shard", "shard_id")
_CAPTIONS = ("caption", "TEXT", "text")
_SIZES = {"width": "width", "height": "height"}
_SHA256 = "^[0-9a-f]{64}$"
_ODD = r"[\x00-\x1f\x7f-\x9f\x{2028}\x{2029}\x{202a}-\x{202e}\x{2066}-\x{2069}]"
_TEXTS = ("string", "large_string", "string_view")


@dataclass(frozen=True)
class Naming:
    """Where the names of items come from, the same for all parts of a set.

    Attributes:
        columns: of which the key is made, joined by a slash; none: the number of the row.
    """

    columns: tuple[str, ...]

    @classmethod
    def of(cls, schema: Any) -> "Naming":
        """The best columns of an Arrow schema."""
        name = next((name for name in _NAMES if _is_name(schema, name)), None)
        shard = next((name for name in _SHARDS if _is_name(schema, name)), None)
        if name is None:
            return cls(())
        return cls((shard, name) if name == "key" and shard else (name,))

    def check(self, place: str, schema: Any) -> None:
        """Check that the Arrow schema of a part's table has the columns.

        Raises:
            CurateError: names the column that it lacks.
        """
        lacking = [name for name in self.columns if name not in schema.names]
        if lacking:
            raise CurateError(
                f"{place}: no column {lacking[0]!r}, which names the items of the other parts; "
                "fetch it again."
            )

    @property
    def words(self) -> str:
        """How items are named, for people."""
        return "part:" + ("/".join(self.columns) or "row")


def _is_name(schema: Any, name: str) -> bool:
    """True for a column of text or whole numbers."""
    at = schema.get_field_index(name)
    if at < 0:
        return False
    kind = str(getattr(schema.field(at).type, "value_type", schema.field(at).type))
    return kind in _TEXTS or kind.startswith(("int", "uint"))


def open_table(source: str | RemoteFile) -> Any:
    """A local path or an object on the network as `pyarrow.parquet.ParquetFile`.

    Raises:
        CurateError: it is not Parquet.
    """
    import pyarrow.parquet

    if isinstance(source, str):
        with arrow_errors(source):
            return pyarrow.parquet.ParquetFile(source)
    with arrow_errors(source.url):
        return pyarrow.parquet.ParquetFile(RangeStream(source), pre_buffer=True)


def read_rows(
    source: str | RemoteFile, part: str, count: int, naming: Naming, schema: pl.Schema
) -> pl.DataFrame:
    """Metadata of one part: one row per vector, with the columns of `schema`.

    Args:
        source: the part's table.
        part: its name, the first half of its ids.
        count: how many vectors it has.
        naming: of its items.
        schema: columns of `curate.tables.METADATA`; what only others need is not read.

    Raises:
        CurateError: it is damaged, lacks a column that names items, or has not `count` rows.
    """
    place = source if isinstance(source, str) else source.url
    file = open_table(source)
    if count:
        naming.check(place, file.schema_arrow)
    present = set(file.schema_arrow.names)
    wanted = [name for name in _sources(naming, schema) if name in present]
    with arrow_errors(place):
        frame = pl.DataFrame(
            {name: _text(file.read(columns=[name], use_threads=False), name) for name in wanted}
        )
        height = file.metadata.num_rows
    if height != count:
        raise CurateError(f"{place}: {height} rows for {count} vectors; fetch both again.")
    return _metadata(frame, part, count, naming, schema)


def rows_without_table(part: str, count: int, schema: pl.Schema) -> pl.DataFrame:
    """Metadata of a part without a table: ids are `part:row`, the rest is null."""
    return _metadata(pl.DataFrame(), part, count, Naming(()), schema)


def _sources(naming: Naming, schema: pl.Schema) -> list[str]:
    """The columns of a table that are needed for those of `schema`."""
    found: list[str] = []
    if "id" in schema or "key" in schema:
        found += naming.columns
    if "caption" in schema:
        found += _CAPTIONS
    return found + [name for name in ("sha256", *_SIZES) if name in schema]


def _text(table: Any, name: str) -> pl.Series:
    """A column as text; what cannot be text (lists, structs) is null."""
    import pyarrow as pa

    column = table.column(name)
    if pa.types.is_nested(column.type):
        return pl.Series([None] * len(column), dtype=pl.String)
    series = pl.from_arrow(column.cast(pa.large_string()))
    assert isinstance(series, pl.Series)
    return series


def _metadata(
    frame: pl.DataFrame, part: str, count: int, naming: Naming, schema: pl.Schema
) -> pl.DataFrame:
    columns = {
        name: pl.repeat(None, count, dtype=kind, eager=True) for name, kind in schema.items()
    }
    if "id" in schema or "key" in schema:
        key = unique_keys([frame[name] for name in naming.columns if count], count)
        columns |= {"key": key, "id": (part + ":" + key.to_frame("key")["key"])}
    columns["shard"] = pl.repeat(part, count, eager=True)
    if "sha256" in frame:
        digests = frame["sha256"].str.to_lowercase()
        columns["sha256"] = digests.set(~digests.str.contains(_SHA256), None)
    for name in _SIZES:
        if name in frame:
            columns[name] = frame[name].cast(pl.Float64, strict=False).cast(pl.Int32, strict=False)
    caption = next((name for name in _CAPTIONS if name in frame), None)
    if caption:
        columns["caption"] = frame[caption]
    return pl.DataFrame({name: columns[name].cast(kind) for name, kind in schema.items()})


def unique_keys(texts: Sequence[pl.Series], count: int) -> pl.Series:
    """Printable keys, no two of them equal: (count,) String.

    A text that is null or empty becomes the number of its row; one that occurs more than once gets
    `#` and the number of its row.
    """
    rows = pl.int_range(count, eager=True).cast(pl.String)
    if not texts:
        return rows
    frame = pl.DataFrame({str(n): text for n, text in enumerate(texts)})
    text = frame.select(pl.concat_str(pl.all(), separator="/")).to_series()
    keys = _printable(text.set(text == "", None).fill_null(rows))
    if keys.n_unique() == count:
        return keys
    marked = keys + "#" + rows
    some = marked.zip_with(keys.is_duplicated(), keys)
    return some if some.n_unique() == count else marked


def _printable(texts: pl.Series) -> pl.Series:
    """Texts with control characters escaped; only those that have one are touched."""
    odd = texts.str.contains(_ODD)
    if not odd.any():
        return texts
    clean = pl.Series([printable(text) for text in texts.filter(odd)], dtype=pl.String)
    return texts.scatter(odd.arg_true(), clean)
