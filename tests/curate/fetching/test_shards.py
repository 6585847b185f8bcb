"""Shards in an order of their own, and rows that stand once."""

import io
import json
import tarfile
from pathlib import Path

import polars as pl
import pytest

from curate.errors import CurateError
from curate.fetching import shards

Row = tuple[int, str, str | None]


def write(folder: Path, name: str, rows: list[Row], mtime: int = 5) -> None:
    """A shard as img2dataset leaves it: rows (list_row, status, error) in order of arrival."""
    folder.mkdir(exist_ok=True)
    table = pl.DataFrame(
        [
            (row, f"u{row}", f"{int(name)}{row:02d}", status, error, row / 2)
            for row, status, error in rows
        ],
        schema={**shards.OUTCOME, "score": pl.Float64},
        orient="row",
    )
    table.write_parquet(folder / f"{name}.parquet")
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for row, status, _ in rows:
            for ending in ("jpg", "json") if status == "success" else ():
                member = tarfile.TarInfo(f"{int(name)}{row:02d}.{ending}")
                member.size, member.mtime = 3, mtime
                tar.addfile(member, io.BytesIO(b"%03d" % row))
    (folder / f"{name}_stats.json").write_text("{}")


ROWS: list[Row] = [
    (3, "success", None), (0, "failed_to_download", "gone"), (2, "failed_to_resize", "bad"),
    (1, "success", None),
]  # fmt: skip


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_answers_give_equal_bytes_in_whatever_order_they_came(tmp_path: Path) -> None:
    for number, rows in enumerate((ROWS, ROWS[::-1])):
        work, out = tmp_path / f"work{number}", tmp_path / f"out{number}"
        write(work, "00000", rows, mtime=number)
        assert shards.publish(work, out, "00000") == 4
        assert [path.name for path in work.iterdir()] == ["00000_stats.json"]
    assert tree(tmp_path / "out0") == tree(tmp_path / "out1")
    table = pl.read_parquet(tmp_path / "out0" / "00000.parquet")
    assert table["list_row"].to_list() == [0, 1, 2, 3]
    assert table["score"].to_list() == [0, 0.5, 1, 1.5]
    with tarfile.open(tmp_path / "out0" / "00000.tar") as tar:
        assert tar.getnames() == ["001.jpg", "001.json", "003.jpg", "003.json"]
        stream = tar.extractfile("003.jpg")
        assert stream is not None
        assert stream.read() == b"003"
    assert json.loads((tmp_path / "out0" / "00000_stats.json").read_text()) == {
        "count": 4, "successes": 2, "failed_to_download": 1, "failed_to_resize": 1,
        "status_dict": {"success": 2, "gone": 1, "bad": 1},
    }  # fmt: skip


def test_a_shard_counts_only_with_its_statistics(tmp_path: Path) -> None:
    for name in ("00002", "00000", "100000"):
        write(tmp_path, name, ROWS)
    (tmp_path / "00000_stats.json").unlink()
    (tmp_path / "notes.json").touch()
    assert shards.finished(tmp_path) == ["00002", "100000"]


def test_a_damaged_shard_is_not_published(tmp_path: Path) -> None:
    write(tmp_path / "work", "00000", ROWS)
    (tmp_path / "work" / "00000.tar").write_bytes(b"half")
    with pytest.raises(CurateError, match=r"00000\.tar: cannot be read"):
        shards.publish(tmp_path / "work", tmp_path / "out", "00000")
    assert shards.finished(tmp_path / "out") == []
    (tmp_path / "work" / "00000.parquet").write_bytes(b"half")
    with pytest.raises(CurateError, match=r"not readable as Parquet.*00000_stats\.json"):
        shards.outcomes(tmp_path / "work")


def two_tries(folder: Path) -> Path:
    write(folder / "work", "00000", ROWS)
    write(folder / "work", "00001", [(5, "success", None), (4, "failed_to_download", "gone")])
    write(folder / "work", "00002", [(4, "success", None), (0, "failed_to_download", "again")])
    for name in ("00000", "00001", "00002"):
        shards.publish(folder / "work", folder / "out", name)
    return folder / "out"


def test_the_last_try_of_a_row_is_the_one_that_stands(tmp_path: Path) -> None:
    out = two_tries(tmp_path)
    before = tree(out)
    assert shards.outcomes(out).height == 8
    shards.settle(out)
    rows = shards.outcomes(out).sort("list_row").select("list_row", "shard", "error_message").rows()
    assert rows == [
        (0, "00002", "again"), (1, "00000", None), (2, "00000", "bad"), (3, "00000", None),
        (4, "00002", None), (5, "00001", None),
    ]  # fmt: skip
    after = tree(out)
    assert {name for name in after if after[name] != before[name]} == {
        *("00000.parquet", "00000_stats.json", "00001.parquet", "00001_stats.json")
    }
    assert json.loads(after["00000_stats.json"])["count"] == 3
    shards.settle(out)
    assert tree(out) == after


def test_settling_that_was_cut_between_two_files_goes_on(tmp_path: Path) -> None:
    out = two_tries(tmp_path)
    before = tree(out)
    shards.settle(out)
    after = tree(out)
    (out / "00000_stats.json").write_bytes(before["00000_stats.json"])
    (out / "00001.parquet").write_bytes(before["00001.parquet"])
    shards.settle(out)
    assert tree(out) == after


def test_a_shard_may_lose_all_its_rows(tmp_path: Path) -> None:
    write(tmp_path, "00000", [(0, "failed_to_download", "gone")])
    write(tmp_path, "00001", [(0, "success", None)])
    shards.settle(tmp_path)
    assert pl.read_parquet(tmp_path / "00000.parquet").height == 0
    assert json.loads((tmp_path / "00000_stats.json").read_text())["count"] == 0
    whole = tree(tmp_path)
    shards.settle(tmp_path)
    assert tree(tmp_path) == whole
