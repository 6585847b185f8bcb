"""The schema of every table the product writes, and the one way to write and read them."""

from pathlib import Path

import polars as pl

from curate.errors import CurateError
from curate.files import atomic_write

METADATA = pl.Schema(
    {
        "id": pl.String,
        "shard": pl.String,
        "key": pl.String,
        "member": pl.String,
        "sha256": pl.String,
        "pixels_sha256": pl.String,
        "width": pl.Int32,
        "height": pl.Int32,
        "label": pl.String,
        "caption": pl.String,
    }
)
"""One row per vector, in the order of the `.npy` beside it.

`sha256` is of the image's bytes as stored, `pixels_sha256` of its decoded pixels.
"""

STATUS = pl.Schema(
    {
        "id": pl.String,
        "shard": pl.String,
        "key": pl.String,
        "position": pl.Int64,
        "row": pl.Int64,
        "label": pl.String,
        "status": pl.String,
        "error": pl.String,
    }
)
"""One row per sample of a shard, in its order; `row` is its vector's, null after a failure."""

PAIRS = pl.Schema(
    {
        "test_id": pl.String,
        "train_id": pl.String,
        "score": pl.Float32,
        "view": pl.String,
        "rank": pl.Int32,
        "test_sha256": pl.String,
        "train_sha256": pl.String,
        "same": pl.String,
        "cosine": pl.Float32,
        "rejected": pl.String,
    }
)
"""Every (test, train) pair scored at least the floor, by test order and rank (1 = best).

`same` is "bytes" where the two stored images are equal, "pixels" where they decode to equal ones,
null where they differ or it is not known.
After a second look (`curate.verification`), `cosine` is the score of the first search, and
`rejected` says why a pair is no match after all; both are null without one.
"""

NEAREST = pl.Schema(
    {
        "test_id": pl.String,
        "train_id": pl.String,
        "score": pl.Float32,
        "view": pl.String,
        "pairs": pl.Int64,
        "overflow": pl.Boolean,
    }
)
"""One row per test vector: its best train item, and how many pairs it has at or above the floor.

With `overflow` they are more than were stored; with several views, `pairs` is then a lower bound.
"""

FOUND = pl.Schema(
    {
        "view": pl.String,
        "query": pl.Int64,
        "row": pl.Int64,
        "score": pl.Float32,
        "pairs": pl.Int64,
    }
)
"""Pairs of one part with all test vectors, best first, at most as many per query as are stored.

`query` is the test vector's number, `row` the train vector's in its part; `pairs` says how many
pairs the query has in this part, stored or not.
"""

UNUSABLE = pl.Schema({"train_id": pl.String, "error": pl.String})
"""Train items whose vectors are zero or not finite, so that nothing can be said of them."""

DECISIONS = pl.Schema(
    {
        "id": pl.String,
        "shard": pl.String,
        "key": pl.String,
        "position": pl.Int64,
        "label": pl.String,
        "decision": pl.String,
        "reason": pl.String,
        "score": pl.Float32,
        "train_id": pl.String,
        "view": pl.String,
        "control": pl.Boolean,
    }
)
"""One row per sample of the set that is cleaned, in its order."""

COMPONENTS = pl.Schema(
    {"id": pl.String, "component": pl.Int64, "size": pl.Int64, "kept": pl.Boolean}
)
"""One row per item of a set that matches another of it, component by component, in order.

`component` is its connected component at the threshold, from 0; `size` the items in that.
"""

IDS = pl.Schema({"item": pl.Int64, "id": pl.String, "part": pl.Int32, "row": pl.Int64})
"""What number `item` of an index stands for: an item id, and where its vector is stored."""


LATER = frozenset({"pixels_sha256", "same", "cosine", "rejected"})
"""Columns that older artifacts lack; there they are read as null."""

DAMAGE = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises on files that are no tables, or damaged ones."""


def write_table(path: Path, frame: pl.DataFrame, schema: pl.Schema) -> None:
    """Write `frame` as Parquet with exactly the columns and types of `schema`, atomically.

    Raises:
        CurateError: the disk is full or the folder is not writable.
    """
    table = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    with atomic_write(path) as stream:
        try:
            table.write_parquet(stream, compression="zstd", statistics=False)
        except pl.exceptions.PolarsError as error:  # what polars makes of a full disk
            raise OSError(str(error)) from error


def read_table(path: Path, schema: pl.Schema) -> pl.DataFrame:
    """Read the columns of `schema` from a table that `write_table` wrote, now or earlier.

    Raises:
        CurateError: the file is missing, damaged, or lacks columns.
    """
    if not path.is_file():
        raise CurateError(f"{path}: no such table.")
    try:
        frame = pl.scan_parquet(path, glob=False)
        found = frame.collect_schema()
        missing = [name for name in schema if name not in found and name not in LATER]
        if missing:
            raise CurateError(f"{path}: columns {missing} are missing; it has {list(found)}.")
        columns = (
            (pl.col(name) if name in found else pl.lit(None).alias(name)).cast(kind)
            for name, kind in schema.items()
        )
        return frame.select(columns).collect()
    except DAMAGE as error:
        raise CurateError(f"{path}: not readable as a table ({error}).") from error


def rows(records: list[dict[str, object]], schema: pl.Schema) -> pl.DataFrame:
    """A frame of `schema` from dictionaries; keys they lack become null."""
    return pl.DataFrame(records, schema=schema, orient="row")
