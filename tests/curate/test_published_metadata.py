"""Foreign tables of any columns -> unique, printable ids; the rest as far as it is there."""

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_sets import Columns, laion_columns, write_table
from servers import web_server

from curate import tables
from curate.errors import CurateError
from curate.published_metadata import (
    Naming,
    open_table,
    read_rows,
    rows_without_table,
    unique_keys,
)
from curate.remote import RemoteFile

IDS = pl.Schema({"id": pl.String})


def rows(path: Path, columns: Columns, schema: pl.Schema = tables.METADATA) -> pl.DataFrame:
    write_table(path, columns)
    count = len(next(iter(columns.values())))
    naming = Naming.of(open_table(str(path)).schema_arrow)
    return read_rows(str(path), "img_emb_0", count, naming, schema)


def ids(path: Path, columns: Columns) -> list[str]:
    return rows(path, columns, IDS)["id"].to_list()


def test_a_table_of_laion_gives_all_that_it_says(tmp_path: Path) -> None:
    columns = laion_columns(5, 3)
    frame = rows(tmp_path / "m.parquet", columns)
    assert frame.schema == tables.METADATA
    assert frame.row(0, named=True) == {
        "id": "img_emb_0:000000005", "shard": "img_emb_0", "key": "000000005", "member": None,
        "sha256": columns["sha256"][0], "pixels_sha256": None, "width": 256, "height": 192,
        "label": None, "caption": "picture 5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "expected"),
    [({"key": ["a", "b"], "image_path": ["x", "y"], "url": ["u", "v"]}, ["a", "b"]),
     ({"key": ["1", "1"], "shard": ["s", "t"]}, ["s/1", "t/1"]),
     ({"key": [7, 8], "shard_id": [0, 1]}, ["0/7", "1/8"]),
     ({"image_path": ["a/b.jpg", "c:d.jpg"]}, ["a/b.jpg", "c:d.jpg"]),
     ({"url": ["http://u", "http://v"], "TEXT": ["", ""]}, ["http://u", "http://v"]),
     ({"caption": ["a", "b"]}, ["0", "1"]), ({"key": [["a"], ["b"]]}, ["0", "1"]),
     ({"key": [0.5, 1.5]}, ["0", "1"]), ({"key": ["same", "same"]}, ["same#0", "same#1"]),
     ({"key": [None, "b"]}, ["0", "b"]), ({"key": ["line\nbreak", "b"]}, ["line\\nbreak", "b"]),
     ({"key": pa.array(["a", "b"]).dictionary_encode()}, ["a", "b"])],
)  # fmt: skip
def test_items_are_named_by_the_best_column_there_is(
    tmp_path: Path, columns: Columns, expected: list[str]
) -> None:
    found = ids(tmp_path / "m.parquet", columns)
    assert found == [f"img_emb_0:{key}" for key in expected]


@given(st.lists(st.none() | st.sampled_from(["", "a", "b", "a#0", "a#2", "1", "2", "\n", "\\n"])))
def test_keys_are_unique_and_one_line_whatever_the_texts(texts: list[str | None]) -> None:
    keys = unique_keys([pl.Series(texts, dtype=pl.String)], len(texts)).to_list()
    assert len(set(keys)) == len(keys) == len(texts)
    assert all(len(key.splitlines()) == 1 for key in keys)
    if len(set(texts)) == len(texts) and set(texts) <= {"a", "b", "1"}:
        assert keys == texts


def test_without_a_table_the_row_is_the_key(tmp_path: Path) -> None:
    frame = rows_without_table("img_emb_3", 2, tables.METADATA)
    assert frame["id"].to_list() == ["img_emb_3:0", "img_emb_3:1"]
    assert frame["sha256"].is_null().all()
    assert frame.schema == tables.METADATA


def test_only_what_is_a_digest_is_taken_for_one(tmp_path: Path) -> None:
    good = "AB" * 32
    columns = {"key": ["a", "b", "c", "d"], "sha256": [good, "", None, "x" * 64]}
    frame = rows(tmp_path / "m.parquet", columns)
    assert frame["sha256"].to_list() == [good.lower(), None, None, None]


def test_sizes_that_pandas_made_floats_are_numbers(tmp_path: Path) -> None:
    columns = {"key": ["a", "b", "c"], "width": [256.0, float("nan"), 1e30],
               "height": ["5", "x", None]}  # fmt: skip
    frame = rows(tmp_path / "m.parquet", columns)
    assert frame["width"].to_list() == [256, None, None]
    assert frame["height"].to_list() == [5, None, None]


def test_a_part_that_lacks_the_naming_column_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "m.parquet", {"url": ["u"]})
    with pytest.raises(CurateError, match=r"m\.parquet: no column 'key', which names the items"):
        read_rows(str(tmp_path / "m.parquet"), "p", 1, Naming(("key",)), IDS)


def test_another_number_of_rows_is_refused_before_ids_shift(tmp_path: Path) -> None:
    write_table(tmp_path / "m.parquet", {"key": ["u", "v"]})
    with pytest.raises(CurateError, match=r"m\.parquet: 2 rows for 3 vectors"):
        read_rows(str(tmp_path / "m.parquet"), "p", 3, Naming(("key",)), IDS)


def random_texts(count: int, length: int) -> Sequence[str]:
    letters = np.random.default_rng(0).integers(97, 123, (count, length), dtype=np.uint8)
    return [bytes(row).decode() for row in letters]


def test_over_the_network_only_the_columns_needed_travel(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"key": random_texts(4000, 9), "caption": random_texts(4000, 900)}
    path = write_table(tmp_path / "m.parquet", columns)
    local = read_rows(str(path), "p", 4000, Naming(("key",)), IDS)
    with web_server(tmp_path) as (address, faults):
        file = RemoteFile(f"{address}/m.parquet")
        faults.asked.clear()
        assert read_rows(file, "p", 4000, Naming(("key",)), IDS).equals(local)
        assert faults.bytes_of("m.parquet") < 200_000 < path.stat().st_size / 10
        whole = read_rows(file, "p", 4000, Naming(("key",)), tables.METADATA)
    assert whole.equals(read_rows(str(path), "p", 4000, Naming(("key",)), tables.METADATA))


def test_no_damage_of_a_table_is_a_traceback(tmp_path: Path) -> None:
    path, chance = tmp_path / "m.parquet", random.Random(0)
    pq.write_table(pa.table(laion_columns(0, 40)), path)
    good = path.read_bytes()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        with suppress(CurateError):
            assert read_rows(str(path), "p", 40, Naming(("key",)), tables.METADATA).height == 40
