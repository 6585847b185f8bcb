"""What a report is made from, checked for agreement before anything is drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from curate.errors import CurateError

Side = Literal["test", "train"]

_COLUMNS: dict[str, tuple[str, ...]] = {
    "decisions": (
        *("id", "shard", "key", "label", "decision", "reason"),
        *("score", "train_id", "view", "control"),
    ),
    "pairs": (
        *("test_id", "train_id", "score", "view", "test_sha256", "train_sha256"),
        *("same", "cosine", "rejected"),
    ),
    "nearest": ("test_id", "train_id", "score", "view", "overflow"),
    "status": ("id", "status", "error"),
    "recall": ("transformation", "strength", "threshold", "copies", "found", "low", "high"),
    "components": ("id", "component", "size", "kept"),
}
_SPLIT_KEYS = ("test", "train", "detector", "threshold", "comparator", "floor", "seed", "counts")


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report shows.

    Attributes:
        split: the content of `split.json`.
        decisions: `decisions.parquet`, one row per test sample.
        pairs: `pairs.parquet`, all pairs at or above the floor.
        nearest: `nearest.parquet`, one row per test vector.
        status: the status rows of the test side, all shards in order.
        manifests: a name for people ("matches", "test embeddings") to the content of that
            artifact's `manifest.json`.
        load_images: returns the stored bytes of the images asked for, by item id. It is called at
            most once per side with all ids at once; ids it leaves out get a placeholder tile.
        test_metadata: metadata rows of the test side (id, label, caption, width, height), if any.
        train_metadata: the same for the train side; rows of the `train_id`s in `pairs` suffice.
        components: `components.parquet` of a set that was compared with itself, else None.
        calibration: the content of `calibration.json`, made of these matches, if there is one.
        recall: `recall.parquet` beside it; None where no copies were planted.
        command: the command line that reproduces the run.
    """

    split: Mapping[str, Any]
    decisions: pl.DataFrame
    pairs: pl.DataFrame
    nearest: pl.DataFrame
    status: pl.DataFrame
    manifests: Mapping[str, Mapping[str, Any]]
    load_images: Callable[[Side, list[str]], Mapping[str, bytes]]
    test_metadata: pl.DataFrame | None = None
    train_metadata: pl.DataFrame | None = None
    components: pl.DataFrame | None = None
    calibration: Mapping[str, Any] | None = None
    recall: pl.DataFrame | None = None
    command: str = ""


@dataclass(frozen=True)
class ReportOptions:
    """How much a report shows.

    Attributes:
        pairs_per_gallery: most pairs in each gallery.
        max_bytes: upper bound of the page's size in bytes; thumbnails shrink to keep to it.
    """

    pairs_per_gallery: int = 120
    max_bytes: int = 8_000_000


def check(inputs: ReportInputs) -> None:
    """Raises CurateError where keys or columns are missing or split.json contradicts the rows."""
    _check_columns(inputs)
    missing = [key for key in _SPLIT_KEYS if key not in inputs.split]
    if missing:
        raise CurateError(f"split.json lacks {', '.join(missing)}: run `curate dedup` again")
    counts = inputs.split["counts"]
    total = counts["clean"] + counts["overlap"] + counts["unknown"]
    if counts["in"] != total:
        raise CurateError(
            f"split.json: counts do not add up, in = {counts['in']} but "
            f"clean + overlap + unknown = {total}: run `curate dedup` again"
        )
    found = dict(inputs.decisions["decision"].value_counts().iter_rows())
    for name in ("clean", "overlap", "unknown"):
        if counts[name] != found.get(name, 0):
            raise CurateError(
                f"split.json counts {counts[name]} {name} but decisions.parquet holds "
                f"{found.get(name, 0)}: the two are not of the same run; run `curate dedup` again"
            )


def _check_columns(inputs: ReportInputs) -> None:
    for table, columns in _COLUMNS.items():
        frame: pl.DataFrame | None = getattr(inputs, table)
        if frame is None:
            continue
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            command = "calibrate" if table == "recall" else "dedup"
            raise CurateError(
                f"{table}: column {', '.join(missing)} is missing: run `curate {command}` again"
            )
