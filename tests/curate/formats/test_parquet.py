"""Parquet tables: bytes, Hugging Face's structs and paths; damage and hostile paths."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import keys, statuses

from curate.errors import CurateError
from curate.formats import parquet
from curate.samples import Limits, Sample


def put(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path, limits: Limits | None = None) -> list[Sample]:
    return list(parquet.read(path, limits or Limits()))


def data(samples: list[Sample]) -> list[bytes | None]:
    return [sample.members[0].data for sample in samples]


@pytest.mark.parametrize("column", ["image", "jpg", "png", "webp", "bytes", "content"])
def test_rows_with_bytes_are_samples_in_order(tmp_path: Path, column: str) -> None:
    rows = {column: [b"1", None, b"3"], "label": [7, 8, None], "caption": ["a", None, "c"]}
    found = read(put(tmp_path / "x.parquet", rows))
    assert keys(found) == ["00000000", "00000001", "00000002"]
    assert [(s.label, s.caption) for s in found] == [("7", "a"), ("8", None), (None, "c")]
    assert data(found) == [b"1", None, b"3"]
    assert statuses(found)["00000001"] == "no_image"


def test_hugging_faces_struct_is_read(tmp_path: Path) -> None:
    images = [{"bytes": b"1", "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]
    found = read(put(tmp_path / "x.parquet", {"image": images, "label": [0, 1, 2]}))
    assert list(statuses(found).values()) == [None, "no_image", "no_image"]


def test_keys_come_from_the_key_column(tmp_path: Path) -> None:
    rows = {"image": [b"1", b"2", b"3"], "id": ["a", None, "\ud7ff\n"]}
    assert keys(read(put(tmp_path / "x.parquet", rows))) == ["a", "00000001", "\ud7ff\n"]


@pytest.mark.parametrize("column", ["path", "file_name", "image"])
def test_paths_are_read_below_the_folder_of_the_table_only(tmp_path: Path, column: str) -> None:
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.jpg").write_bytes(b"inside")
    (tmp_path / "secret.jpg").write_bytes(b"outside")
    (root / "link.jpg").symlink_to("../secret.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(root / "pipe.jpg")
    paths = ["sub/a.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg", "gone.jpg",
             "sub", "a\0b.jpg", "", None, "x" * 300, "pipe.jpg", "loop.jpg"]  # fmt: skip
    table = put(root / "x.parquet", {column: paths})
    found = read(table)
    outside, lost = "unsafe_name", "failed_to_read"
    expected = [None, outside, outside, outside, lost, lost, outside, lost, "no_image", lost, lost]
    assert list(statuses(found).values())[:-1] == expected
    assert data(found) == [b"inside"] + [None] * 11
    assert parquet.referenced_files(table) == [root / "link.jpg", root / "sub" / "a.jpg"]


def test_bytes_go_before_paths(tmp_path: Path) -> None:
    table = put(tmp_path / "x.parquet", {"path": ["gone.jpg"], "image": [b"1"]})
    assert data(read(table)) == [b"1"]
    assert parquet.referenced_files(table) == []


def test_text_columns_of_every_encoding_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"1")
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        column = pa.array(["a.jpg"]).cast(kind)
        assert data(read(put(tmp_path / "x.parquet", {"image": column}))) == [b"1"]


def test_what_is_over_the_limit_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "big.jpg").write_bytes(bytes(99))
    limits = Limits(max_member_bytes=98)
    for column, value in (("image", bytes(99)), ("path", "big.jpg")):
        table = put(tmp_path / "x.parquet", {column: [value]})
        assert list(statuses(read(table, limits)).values()) == ["too_large"]


def test_a_table_without_images_is_a_clear_error(tmp_path: Path) -> None:
    table = put(tmp_path / "x.parquet", {"url": ["http"], "text": ["a"]})
    assert not parquet.has_images(table)
    with pytest.raises(CurateError, match=r"x\.parquet: no image column.*'url'.*image_path"):
        read(table)


def test_damage_anywhere_in_a_table_is_a_clear_error(tmp_path: Path) -> None:
    rows = {"image": [os.urandom(100) for _ in range(500)]}
    whole = put(tmp_path / "x.parquet", rows, compression="zstd", write_page_checksum=True)
    raw = whole.read_bytes()
    for broken in (b"", b"PAR1", raw[:-1], raw[:1000], raw[:60] + os.urandom(500) + raw[560:]):
        whole.write_bytes(broken)
        with pytest.raises(CurateError, match=r"x\.parquet: not readable as Parquet"):
            read(whole)
    with pytest.raises(CurateError, match="not readable"):
        read(tmp_path / "gone.parquet")


def test_text_that_is_no_utf8_is_a_clear_error(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    table = put(tmp_path / "x.parquet", {"image": [b"1"], "caption": text})
    with pytest.raises(CurateError, match="not readable as Parquet"):
        read(table)


def _has_key(sample: Sample, keys: set[str]) -> bool:
    return sample.key in keys


def test_kept_rows_are_copied_with_all_columns_and_metadata(tmp_path: Path) -> None:
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
         ("odd", pa.list_(pa.float32()))], metadata={"huggingface": "{}"},
    )  # fmt: skip
    images = [{"bytes": os.urandom(50), "path": f"{n}.png"} for n in range(200)]
    whole = pa.table({"image": images, "odd": [[n / 3] for n in range(200)]}, schema=schema)
    source = tmp_path / "x.parquet"
    pq.write_table(whole, source)
    for rows in (range(0, 200, 3), range(1), range(200)):
        numbers = {f"{number:08d}" for number in rows}
        target = tmp_path / "copy.parquet"
        parquet.write(
            target, source, parquet.read(source, Limits()), partial(_has_key, keys=numbers)
        )
        copy = pq.read_table(target)
        assert copy.equals(whole.take(list(rows)))
        assert copy.schema.equals(pq.read_schema(source), check_metadata=True)
        assert copy.schema.metadata[b"huggingface"] == b"{}"
    parquet.write(tmp_path / "no.parquet", source, parquet.read(source, Limits()), lambda _: False)
    assert pq.read_table(tmp_path / "no.parquet").equals(whole.slice(0, 0))


def test_many_small_batches_become_few_row_groups(tmp_path: Path) -> None:
    source = put(tmp_path / "x.parquet", {"image": [b"1"] * 5000})
    parquet.write(tmp_path / "y.parquet", source, parquet.read(source, Limits()), lambda _: True)
    assert pq.ParquetFile(tmp_path / "y.parquet").num_row_groups == 1


def test_named_files_of_kept_rows_are_copied_even_one_called_image(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("image", "b.jpg", "c.jpg"):
        (tmp_path / "set" / name).write_bytes(name.encode())
    source = put(tmp_path / "set" / "x.parquet", {"path": ["image", "b.jpg", "c.jpg"]})
    target = tmp_path / "out" / "x.parquet"
    parquet.write(target, source, parquet.read(source, Limits()), lambda s: s.key[-1] != "1")
    assert sorted(path.name for path in target.parent.iterdir()) == ["c.jpg", "image", "x.parquet"]
    assert data(read(target)) == [b"image", b"c.jpg"]


def test_one_row_is_read_out_of_its_group(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {"image": [b"%d" % n for n in range(9)], "key": ["a", "b", None, *"abcdef"]}
    pq.write_table(pa.table(columns), path, row_group_size=4)
    places = dict(parquet.index(path))
    assert list(places) == ["a", "b", "00000002", "a#2", "b#2", "c", "d", "e", "f"]
    for number in range(9):
        found = parquet.read_row(path, number, Limits())
        assert found.members[0].data == b"%d" % number
    with pytest.raises(CurateError, match="has 9 rows, none is number 9"):
        parquet.read_row(path, 9, Limits())
