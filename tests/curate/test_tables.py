"""Tables on disk: exact schemas, equal bytes, and hostile files."""

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hollow_tables import write_hollow

from curate import tables
from curate.errors import CurateError
from curate.tables import read_table, rows, write_table

SCHEMA = pl.Schema({"id": pl.String, "n": pl.Int32, "score": pl.Float32})
GOOD = pl.DataFrame(
    {"id": ["a\u2028:b", None], "n": [1, None], "score": [0.5, -1.0]}, schema=SCHEMA
)


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    write_table(tmp_path / "deep" / "t.parquet", GOOD, SCHEMA)
    assert read_table(tmp_path / "deep" / "t.parquet", SCHEMA).equals(GOOD)
    assert read_table(tmp_path / "deep" / "t.parquet", SCHEMA).schema == SCHEMA


def test_equal_tables_have_equal_bytes_and_only_the_columns_of_the_schema(tmp_path: Path) -> None:
    wide = GOOD.select("score", "n", "id", more=pl.lit(1)).with_columns(
        n=pl.col("n").cast(pl.Int64)
    )
    write_table(tmp_path / "a", GOOD, SCHEMA)
    write_table(tmp_path / "b", wide, SCHEMA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("schema", [
    tables.METADATA, tables.STATUS, tables.PAIRS, tables.NEAREST, tables.DECISIONS, tables.IDS,
])  # fmt: skip
def test_an_empty_table_keeps_its_schema(tmp_path: Path, schema: pl.Schema) -> None:
    write_table(tmp_path / "t.parquet", rows([], schema), schema)
    assert read_table(tmp_path / "t.parquet", schema).schema == schema


def test_a_value_that_does_not_fit_its_column_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(pl.exceptions.PolarsError):
        write_table(tmp_path / "t", GOOD.with_columns(n=pl.lit(2**40)), SCHEMA)
    assert list(tmp_path.iterdir()) == []


def test_foreign_integer_widths_are_read_and_further_columns_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    GOOD.with_columns(n=pl.col("n").cast(pl.Int64), more=pl.lit("x")).write_parquet(path)
    assert read_table(path, SCHEMA).equals(GOOD)


@pytest.mark.parametrize("wrong", [
    GOOD.with_columns(n=pl.lit("many")),
    GOOD.with_columns(n=pl.lit(2**40)),
    GOOD.with_columns(score=pl.struct("id", "n")),
    GOOD.with_columns(id=pl.struct("n")),
])  # fmt: skip
def test_columns_of_another_type_are_a_clear_error(tmp_path: Path, wrong: Any) -> None:
    wrong.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(CurateError, match=r"t\.parquet: not readable as a table"):
        read_table(tmp_path / "t.parquet", SCHEMA)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    GOOD.drop("n", "score").write_parquet(tmp_path / "t.parquet")
    with pytest.raises(CurateError, match=r"columns \['n', 'score'\] are missing; it has \['id'\]"):
        read_table(tmp_path / "t.parquet", SCHEMA)


def test_files_that_are_no_table_are_a_clear_error(tmp_path: Path) -> None:
    write_table(tmp_path / "good", GOOD, SCHEMA)
    whole = (tmp_path / "good").read_bytes()
    damaged = [b"", b"PAR1", b"no table", whole[:-9], whole[:40], b"PAR1" + bytes(500) + b"PAR1"]
    for data in damaged:
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(CurateError, match="bad: not readable as a table"):
            read_table(tmp_path / "bad", SCHEMA)
    with pytest.raises(CurateError, match="hollow: not readable as a table"):
        read_table(write_hollow(tmp_path / "hollow", SCHEMA), SCHEMA)
    (tmp_path / "folder").mkdir()
    for name in ("gone", "folder"):
        with pytest.raises(CurateError, match=f"{name}: no such table"):
            read_table(tmp_path / name, SCHEMA)


def test_a_name_with_pattern_characters_is_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "t[0]*{a}.parquet"
    write_table(path, GOOD, SCHEMA)
    write_table(tmp_path / "t0.parquet", GOOD[:0], SCHEMA)
    assert read_table(path, SCHEMA).equals(GOOD)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_a_clear_error(tmp_path: Path) -> None:
    write_table(tmp_path / "t", GOOD, SCHEMA)
    (tmp_path / "t").chmod(0)
    with pytest.raises(CurateError, match="not readable"):
        read_table(tmp_path / "t", SCHEMA)


def test_records_become_rows_and_missing_keys_null() -> None:
    frame = rows([{"id": "a"}, {"n": 3, "id": "b"}], SCHEMA)
    assert frame.rows() == [("a", None, None), ("b", 3, None)]


def test_columns_that_an_older_table_lacks_are_null(tmp_path: Path) -> None:
    older = pl.Schema({k: v for k, v in tables.PAIRS.items() if k not in tables.LATER})
    records: list[dict[str, object]] = [{"test_id": "a", "score": 0.5}, {"test_id": "b"}]
    write_table(tmp_path / "t.parquet", rows(records, older), older)
    found = read_table(tmp_path / "t.parquet", tables.PAIRS)
    assert found.schema == tables.PAIRS
    assert found.select("test_id", "same").rows() == [("a", None), ("b", None)]
