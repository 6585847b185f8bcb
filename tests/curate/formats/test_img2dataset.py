"""img2dataset's status tables: every URL is a row, also those that never came."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from archives import keys

from curate.errors import CurateError
from curate.formats import img2dataset
from curate.samples import Failure

ROWS: dict[str, list[Any]] = {
    "url": ["u0", "u1", "u2", "u3"],
    "key": ["000", "001", "002", "003"],
    "status": ["success", "failed_to_download", "success", "failed_to_resize"],
    "error_message": [None, "HTTP 404", None, None],
}


def put(folder: Path, rows: dict[str, list[Any]] | None = None, stem: str = "00000") -> Path:
    pl.DataFrame(rows or ROWS).write_parquet(folder / f"{stem}.parquet")
    (folder / f"{stem}_stats.json").write_text("{}")
    (folder / f"{stem}.tar").touch()
    return folder / f"{stem}.tar"


def test_a_status_table_needs_its_statistics_file(tmp_path: Path) -> None:
    tar = put(tmp_path)
    assert img2dataset.status_table(tar) == tmp_path / "00000.parquet"
    assert img2dataset.status_table(str(tar)) == tmp_path / "00000.parquet"
    (tmp_path / "00000_stats.json").unlink()
    assert img2dataset.status_table(tar) is None


def test_rows_without_a_sample_are_failures(tmp_path: Path) -> None:
    lost = list(img2dataset.lost_samples(put(tmp_path), {"000"}))
    assert keys(lost) == ["001", "002", "003"]
    assert [sample.failure for sample in lost] == [
        Failure("failed_to_download", "HTTP 404"),
        Failure("missing", "its row says success, but the tar lacks it"),
        Failure("failed_to_resize", ""),
    ]


def test_keys_that_are_numbers_or_absent_are_told_apart(tmp_path: Path) -> None:
    rows = ROWS | {"key": [0, 1, None, 3], "status": ["success", "success", None, "x"]}
    lost = list(img2dataset.lost_samples(put(tmp_path, rows), {"0", "3"}))
    assert [(s.key, s.failure and s.failure.status) for s in lost] == [
        ("1", "missing"),
        ("row 2", "missing"),
    ]


def test_the_rows_of_kept_keys_are_written_in_order(tmp_path: Path) -> None:
    tar = put(tmp_path)
    img2dataset.write_status_table(tar, tmp_path / "out.parquet", lambda key: key in ("002", "000"))
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written.equals(pl.DataFrame(ROWS).filter(pl.col("url").is_in(["u0", "u2"])))


def test_a_table_that_is_broken_or_gone_is_a_clear_error(tmp_path: Path) -> None:
    tar = put(tmp_path)
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(CurateError, match=r"00000\.parquet: not readable as Parquet"):
        list(img2dataset.lost_samples(tar, set()))
    put(tmp_path, {"key": ["1"]})
    with pytest.raises(CurateError, match=r"lacks \['error_message', 'status'\]"):
        list(img2dataset.lost_samples(tar, set()))
    (tmp_path / "00000.parquet").unlink()
    with pytest.raises(CurateError, match="has gone"):
        list(img2dataset.lost_samples(tar, set()))
