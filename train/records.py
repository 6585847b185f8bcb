"""What a run writes down as it goes: metrics that are the same in every run, and how fast it was.

Lines are appended while training. A run that goes on cuts off those that come after its checkpoint,
because they will be written again; at the end lines become tables. How long things took is no part
of a result, so it stands in `facts/`, as do the logs for TensorBoard.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import polars as pl
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from curate.artifacts import FACTS
from curate.errors import CurateError
from curate.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from train.loop import Update
    from train.measure import Accuracy

METRICS = pl.Schema(
    {
        "step": pl.Int64,
        "images": pl.Int64,
        "loss": pl.Float64,
        "rate": pl.Float64,
        "gradient_norm": pl.Float64,
        "zero_gradient": pl.Float64,
        "clean": pl.Float64,
        "robust": pl.Float64,
    }
)
"""Columns of `metrics.parquet`: one row an update, and step 0; accuracies where they were measured.
`images` counts from the beginning; `zero_gradient` is a share of the images of the update."""

SPEED = pl.Schema(
    {
        "step": pl.Int64,
        "images_per_second": pl.Float64,
        "data": pl.Float64,
        "attack": pl.Float64,
        "update": pl.Float64,
    }
)
"""Columns of `facts/speed.parquet`; the last three are shares of the time and add up to 1."""

METRICS_FILE, SPEED_FILE = "metrics.parquet", f"{FACTS}/speed.parquet"
_METRICS, _SPEED = "metrics.jsonl", f"{FACTS}/speed.jsonl"
_BOARD = f"{FACTS}/tensorboard"


class Records:
    """The lines of a run, to be closed at its end.

    Args:
        work: folder of the run.
        step: where it goes on; what was written of later steps is cut off.

    Raises:
        CurateError: something cannot be written.
    """

    def __init__(self, work: Path, step: int) -> None:
        self._metrics = _Lines(work / _METRICS, step)
        self._speed = _Lines(work / _SPEED, step)
        self._board = _Board(work / _BOARD, step)

    def update(self, update: Update) -> None:
        """Write down an update."""
        row = {
            "step": update.step,
            "images": update.step * update.images,
            "loss": update.loss,
            "rate": update.rate,
            "gradient_norm": update.gradient_norm,
            "zero_gradient": update.zero_gradient,
        }
        seconds = update.data + update.attack + update.update
        shares = {name: getattr(update, name) / seconds for name in ("data", "attack", "update")}
        speed = {"step": update.step, "images_per_second": update.images / seconds, **shares}
        self._metrics.add(row)
        self._speed.add(speed)
        for name in ("loss", "rate", "gradient_norm"):
            self._board.add(f"train/{name}", row[name], update.step)
        for name in ("images_per_second", "data", "attack"):
            self._board.add(f"speed/{name}", speed[name], update.step)

    def measured(self, step: int, found: Accuracy) -> None:
        """Write down what was measured after an update."""
        row = {"step": step, "clean": found.clean, "robust": found.robust}
        self._metrics.add(row)
        for name in ("clean", "robust"):
            self._board.add(f"held-out/{name}", row[name], step)

    def flush(self) -> None:
        """Bring all lines to the disk; done before a checkpoint says that they are there."""
        self._metrics.flush()
        self._speed.flush()
        self._board.flush()

    def close(self) -> None:
        """Close the files; each of them, even when another one cannot take its last lines."""
        with closing(self._board), closing(self._speed):
            self._metrics.close()


def write_tables(work: Path) -> None:
    """Turn the lines of a finished run into tables."""
    for lines, name, table in (
        (_METRICS, METRICS_FILE, read_metrics(work)),
        (_SPEED, SPEED_FILE, pl.DataFrame(_rows(work / _SPEED), schema=SPEED)),
    ):
        with atomic_write(work / name) as stream:
            table.write_parquet(stream)
        (work / lines).unlink()


def read_metrics(work: Path) -> pl.DataFrame:
    """The metrics of a run so far, `METRICS`."""
    lines = pl.DataFrame(_rows(work / _METRICS), schema=METRICS)
    firsts = [pl.col(name).drop_nulls().first() for name in METRICS if name != "step"]
    return lines.group_by("step").agg(firsts).sort("step")


class _Lines:
    """A file of JSON lines, each with a `step`; lines of later steps are cut off at first."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        kept = [row for row in _rows(path) if row["step"] <= step]
        with atomic_write(path) as stream:
            stream.writelines(_line(row) for row in kept)
        with _writing(path):
            self._stream = path.open("ab")

    def add(self, row: dict[str, Any]) -> None:
        with _writing(self._path):
            self._stream.write(_line(row))

    def flush(self) -> None:
        with _writing(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        with _writing(self._path):
            self._stream.close()


class _Board:
    """Logs for TensorBoard; it is told to forget what came after `step` before.

    tensorboardX's `SummaryWriter` writes in a thread, which dies when the disk is full; whoever
    logs next waits for it without end.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._events = EventsWriter(str(folder / "events"))
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, tag: str, value: float, step: int) -> None:
        self._write(step, summary=scalar(tag, value))

    def _write(self, step: int, **content: Any) -> None:
        with _writing(self._folder):
            self._events.write_event(Event(wall_time=time.time(), step=step, **content))

    def flush(self) -> None:
        with _writing(self._folder):
            self._events.flush()

    def close(self) -> None:
        with _writing(self._folder):
            self._events.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say of an error of the system inside, such as a full disk, where it was and what to do."""
    try:
        yield
    except OSError as error:
        raise CurateError(
            f"{path}: could not be written ({error}). Free space; the same command goes on from "
            "the last checkpoint."
        ) from error


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _rows(lines: Path) -> list[dict[str, Any]]:
    """What stands in a file of lines, or in the table that took its place.

    A torn last line, of a process that was killed, is left out. A run that was killed after it had
    written its tables has only those left.
    """
    if lines.exists():
        return [json.loads(line) for line in lines.read_bytes().split(b"\n")[:-1]]
    table = lines.with_suffix(".parquet")
    return pl.read_parquet(table).to_dicts() if table.exists() else []
