"""What is stored of an evaluation: one row for each test image of a setting.

Every figure that is stated later is a pure function of such rows, so a new figure, another split or
another threshold needs no new pass over the images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import polars as pl

from curate.errors import CurateError
from curate.tables import read_table, write_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Part = Literal["full", "clean", "overlap", "control"]
PARTS: tuple[Part, ...] = get_args(Part)

SAMPLES = pl.Schema(
    {
        "id": pl.String,
        "label": pl.Int32,
        "pred": pl.Int32,
        "margin": pl.Float32,
        "correct": pl.Boolean,
        "clean_pred": pl.Int32,
        "split": pl.String,
        "control": pl.Boolean,
        "group": pl.String,
        "zero_gradient": pl.Boolean,
        "linf": pl.Float32,
        "l2": pl.Float32,
        "queries": pl.Int32,
        "seed": pl.Int64,
        "comparisons": pl.Int32,
        "flips": pl.Int32,
        "word": pl.Int32,
    }
)
"""One row for each test image of a setting.

`id` is `shard:key`. `pred` is the class predicted at the setting, of an attack at the worst point
that it found, and `margin` the logit of the label less the best other one there. `clean_pred` is
the prediction on the image that was not attacked. `split` (clean, overlap, unknown) and `control`
(stays in the control split) are those of `decisions.parquet`. Rows of one `group` (a video, a
sequence) are not independent. `linf` is in 255ths, `l2` in units of the pixel range. `queries` are
the forward passes spent on the image. `flips` of `comparisons` frames of a sequence were predicted
otherwise than the frame they are compared with. `word` is the class that is written on the image.
What does not apply is null.
"""

_ALWAYS = ("id", "label", "pred", "margin", "correct")


def samples(columns: Mapping[str, Sequence[object] | pl.Series]) -> pl.DataFrame:
    """Rows of `SAMPLES` from columns of equal length; columns that are left out become null.

    Raises:
        CurateError: a column is not of `SAMPLES`, or the rows break its promises (see `check`).
    """
    strange = [name for name in columns if name not in SAMPLES]
    if strange:
        raise CurateError(f"columns {strange} are none of a sample's: {', '.join(SAMPLES)}")
    given = pl.DataFrame(dict(columns))
    frame = given.select(
        (pl.col(name) if name in columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in SAMPLES.items()
    )
    check(frame, "samples")
    return frame


def check(frame: pl.DataFrame, where: str) -> None:
    """Refuse rows that no figure can be computed from.

    Args:
        frame: rows of `SAMPLES`.
        where: what to call them in an error, a file for example.

    Raises:
        CurateError: an image has two rows, a column that always holds is null, a margin is not
            finite, `correct` contradicts `pred` or `margin`, or a split has no such name.
    """
    for name in _ALWAYS:
        if frame[name].null_count():
            raise CurateError(f"{where}: column {name} is null for {_first(frame, name)}")
    twice = frame.filter(pl.col("id").is_duplicated())
    if twice.height:
        raise CurateError(f"{where}: {twice['id'][0]} has more than one row")
    bad = frame.filter(~pl.col("margin").is_finite())
    if bad.height:
        raise CurateError(f"{where}: the margin of {bad['id'][0]} is not finite")
    right = pl.col("pred") == pl.col("label")
    # at a margin of exactly 0 two classes tie, and either may be predicted
    against = (pl.col("correct") & (pl.col("margin") < 0)) | (
        ~pl.col("correct") & (pl.col("margin") > 0)
    )
    bad = frame.filter((pl.col("correct") != right) | against)
    if bad.height:
        raise CurateError(f"{where}: correct, pred and margin of {bad['id'][0]} do not agree")
    bad = frame.filter(~pl.col("split").is_in(["clean", "overlap", "unknown"]))
    if bad.height:
        raise CurateError(f"{where}: {bad['id'][0]} is in a split named {bad['split'][0]!r}")


def write_samples(path: Path, frame: pl.DataFrame) -> None:
    """Write rows of `SAMPLES` atomically.

    Raises:
        CurateError: as `check`, or the file cannot be written.
    """
    check(frame, str(path))
    write_table(path, frame, SAMPLES)


def read_samples(path: Path) -> pl.DataFrame:
    """Read what `write_samples` wrote.

    Raises:
        CurateError: the file is missing or damaged, or its rows are not right (see `check`).
    """
    frame = read_table(path, SAMPLES)
    check(frame, str(path))
    return frame


def with_splits(frame: pl.DataFrame, decisions: pl.DataFrame) -> pl.DataFrame:
    """The rows with `split` and `control` of a dedup run's decisions, in their order.

    Args:
        frame: rows of `SAMPLES`.
        decisions: columns id, decision and control; more rows than the samples are fine.

    Raises:
        CurateError: a sample has no decision: the images are not those that were deduplicated.
    """
    said = decisions.select("id", split="decision", control="control")
    joined = frame.drop("split", "control").join(said, on="id", how="left", maintain_order="left")
    lost = joined.filter(pl.col("split").is_null())
    if lost.height:
        raise CurateError(
            f"{lost.height} of {frame.height} images have no decision, {lost['id'][0]} first; "
            "give the split of the very set that is evaluated"
        )
    return joined.select(SAMPLES.names())


def part(frame: pl.DataFrame, name: Part) -> pl.DataFrame:
    """The rows of one split, in their order; full are all rows, also those of unknown split.

    Raises:
        CurateError: the rows were not joined with a split.
    """
    if name == "full":
        return frame
    column = "control" if name == "control" else "split"
    if frame[column].null_count():
        raise CurateError(f"{_first(frame, column)} has no split; join decisions.parquet first")
    return frame.filter(pl.col("control") if name == "control" else pl.col("split") == name)


def _first(frame: pl.DataFrame, column: str) -> str:
    """An image, or the number of a row, for which a column is null."""
    row = int(frame[column].is_null().arg_max() or 0)
    return str(frame["id"][row] or f"row {row}")
