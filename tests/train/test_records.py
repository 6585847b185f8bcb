import os
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from curate.errors import CurateError
from train.loop import Update
from train.measure import Accuracy
from train.records import METRICS, SPEED, Records, read_metrics, write_tables


def update(step: int) -> Update:
    return Update(step, 1 / step, 0.1, 2.0, 0.0, 8, data=0.1, attack=0.5, update=0.4)


def write(work: Path, steps: int, start: int = 0) -> None:
    records = Records(work, start)
    if start == 0:
        records.measured(0, Accuracy(10, 0.5, 0.0, 0.0))
    for step in range(start + 1, steps + 1):
        records.update(update(step))
        if step % 2 == 0:
            records.measured(step, Accuracy(10, 0.6, 0.1 * step, 0.0))
    records.close()


def test_metrics_have_one_row_an_update_and_accuracy_where_it_was_measured(tmp_path: Path) -> None:
    write(tmp_path, 4)
    metrics = read_metrics(tmp_path)
    assert metrics.schema == METRICS
    assert metrics["step"].to_list() == [0, 1, 2, 3, 4]
    assert metrics["images"].to_list() == [None, 8, 16, 24, 32]
    assert metrics["robust"].to_list() == [0.0, None, 0.2, None, 0.4]
    assert metrics["loss"].to_list() == [None, 1.0, 0.5, 1 / 3, 0.25]


def test_a_run_that_goes_on_writes_what_came_after_its_checkpoint_again(tmp_path: Path) -> None:
    write(tmp_path / "straight", 6)
    write(tmp_path / "killed", 5)
    write(tmp_path / "killed", 6, start=3)
    assert_frame_equal(read_metrics(tmp_path / "straight"), read_metrics(tmp_path / "killed"))


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 3)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert read_metrics(tmp_path)["step"].to_list() == [0, 1, 2]


def test_times_are_facts_and_no_part_of_the_metrics(tmp_path: Path) -> None:
    write(tmp_path, 3)
    write_tables(tmp_path)
    speed = pl.read_parquet(tmp_path / "facts" / "speed.parquet")
    assert speed.schema == SPEED
    assert speed["images_per_second"].to_list() == pytest.approx([8.0, 8.0, 8.0])
    shares = speed["data"] + speed["attack"] + speed["update"]
    assert shares.to_list() == pytest.approx([1.0, 1.0, 1.0])
    assert pl.read_parquet(tmp_path / "metrics.parquet").schema == METRICS
    assert not (tmp_path / "metrics.jsonl").exists()
    assert list((tmp_path / "facts" / "tensorboard").iterdir())


def test_a_full_disk_is_said_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path, 0)
    records.update(update(1))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CurateError, match=r"metrics\.jsonl: could not be written"):
        records.flush()
