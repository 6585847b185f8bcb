import os
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tensorboardX.record_writer
from polars.testing import assert_frame_equal
from tensorboardX.proto.event_pb2 import Event, SessionLog

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


@pytest.mark.parametrize(
    "left", [("metrics.jsonl", "facts/speed.jsonl"), ("facts/speed.jsonl",), ()]
)
def test_a_run_that_is_killed_while_it_is_completed_keeps_its_tables(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    write(tmp_path, 4)
    lines = {name: (tmp_path / name).read_bytes() for name in left}
    write_tables(tmp_path)
    names = ("metrics.parquet", "facts/speed.parquet")
    tables = [(tmp_path / name).read_bytes() for name in names]
    for name, content in lines.items():
        (tmp_path / name).write_bytes(content)
    Records(tmp_path, 4).close()
    assert read_metrics(tmp_path)["clean"].to_list() == [0.5, None, 0.6, None, 0.6]
    write_tables(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in names] == tables
    assert not list(tmp_path.rglob("*.jsonl"))


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


def events(work: Path) -> Iterator[Any]:
    (path,) = (work / "facts" / "tensorboard").glob("events.out.tfevents.*")
    rest = path.read_bytes()
    while rest:
        (size,) = struct.unpack("<Q", rest[:8])
        yield Event.FromString(rest[12 : 12 + size])
        rest = rest[16 + size :]


def test_tensorboard_is_told_where_a_run_goes_on_and_what_comes(tmp_path: Path) -> None:
    write(tmp_path, 4, start=3)
    version, start, *logged = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (4, SessionLog.START)
    assert all(event.step == 4 for event in logged)
    values = {value.tag: value.simple_value for event in logged for value in event.summary.value}
    assert values == pytest.approx(
        {
            "train/loss": 0.25, "train/rate": 0.1, "train/gradient_norm": 2.0,
            "speed/images_per_second": 8.0, "speed/data": 0.1, "speed/attack": 0.5,
            "held-out/clean": 0.6, "held-out/robust": 0.4,
        }
    )  # fmt: skip


def test_a_full_disk_is_said_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path, 0)
    records.update(update(1))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CurateError, match=r"metrics\.jsonl: could not be written"):
        records.flush()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is appended to a file finds no space."""
    real = Path.open

    def appended_to_nothing(path: Path, mode: str = "r") -> Any:
        return real(Path("/dev/full") if mode == "ab" else path, mode)

    monkeypatch.setattr(Path, "open", appended_to_nothing)


def many_updates(records: Records) -> None:
    for step in range(1, 1000):
        records.update(update(step))


def one_update(work: Path) -> None:
    with closing(Records(work, 0)) as records:
        records.update(update(1))
        records.flush()


def test_a_full_disk_is_said_when_lines_no_longer_fit_into_memory(
    tmp_path: Path, full_disk: None
) -> None:
    records = Records(tmp_path, 0)
    with pytest.raises(CurateError, match=r"jsonl: could not be written .* Free space"):
        many_updates(records)
    with pytest.raises(CurateError, match="jsonl: could not be written"):
        records.close()


def test_a_full_disk_is_said_though_the_files_are_closed_after_it(
    tmp_path: Path, full_disk: None
) -> None:
    with pytest.raises(CurateError, match=r"jsonl: could not be written .* Free space"):
        one_update(tmp_path)
    assert len(list(events(tmp_path))) == 8  # closed with the others, so it is whole


def test_a_full_disk_is_said_when_logs_for_tensorboard_find_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tensorboardX.record_writer.open_file
    monkeypatch.setattr(tensorboardX.record_writer, "open_file", lambda _: opened("/dev/full"))
    records = Records(tmp_path, 0)
    with pytest.raises(CurateError, match=r"tensorboard: could not be written .* Free space"):
        many_updates(records)
    with pytest.raises(CurateError, match="tensorboard: could not be written"):
        records.close()
