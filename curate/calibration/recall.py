"""The share of planted copies that each threshold finds, with intervals."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.copies import STRENGTHS
from curate.stats import wilson

ALL = "all"
"""The name under which all transformations stand together; the strength is 0 for all of these."""

RECALL = pl.Schema(
    {
        "transformation": pl.String,
        "strength": pl.Int8,
        "threshold": pl.Float64,
        "copies": pl.Int64,
        "found": pl.Int64,
        "recall": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
)
"""One row per transformation, strength and threshold: copies planted and found, and the interval.

Of one kind the interval is Wilson's. Where kinds stand together, one original has many copies,
which are found or missed together; then it is Wilson's at the effective number of copies (E. L.
Korn, B. I. Graubard, Survey Methodology 24 (1998) 193-201), which is at least that of originals.
"""


def recall_table(planted: pl.DataFrame, thresholds: Sequence[float]) -> pl.DataFrame:
    """The recall of every kind of copy at every threshold, and of kinds together.

    Args:
        planted: `PLANTED`. Copies without a score are left out: they would be unknown, not clean.
            Those that a second look refuses are found at no threshold.
        thresholds: rising.

    Returns:
        `RECALL`: kinds in the order of their names, then all together, each by threshold.
    """
    refused = pl.col("rejected").is_not_null()
    score = pl.when(refused).then(-np.inf).otherwise("score").cast(pl.Float32)
    scored = planted.filter(pl.col("score").is_not_null()).with_columns(score=score)
    frames = [pl.DataFrame(schema=RECALL)]
    for (name, strength), rows in scored.group_by(
        "transformation", "strength", maintain_order=True
    ):
        found = _found(rows["score"].to_numpy(), thresholds)
        frames.append(_rows((str(name), strength), thresholds, rows.height, found, rows.height))
    kinds = pl.concat(frames).sort("transformation", "strength", "threshold")
    pooled = [_pooled(scored, strength, thresholds) for strength in (0, *STRENGTHS)]
    return pl.concat([kinds, *(frame for frame in pooled if frame is not None)])


def _found(scores: NDArray[np.float32], thresholds: Sequence[float]) -> NDArray[np.int64]:
    ordered = np.sort(scores)
    below = np.searchsorted(ordered, np.array(thresholds, np.float32), side="left")
    return np.asarray(len(scores) - below, np.int64)


def _pooled(
    scored: pl.DataFrame, strength: int, thresholds: Sequence[float]
) -> pl.DataFrame | None:
    rows = scored.filter(pl.col("strength") == strength) if strength else scored
    if not rows.height:
        return None
    groups = [
        group["score"].to_numpy() for _, group in rows.group_by("train_id", maintain_order=True)
    ]
    found = np.stack([_found(scores, thresholds) for scores in groups])
    copies = np.array([len(scores) for scores in groups])
    whole = found.sum(axis=0)
    effective = _effective(found, copies)
    return _rows((ALL, strength), thresholds, rows.height, whole, effective)


def _effective(found: NDArray[np.int64], copies: NDArray[np.int64]) -> NDArray[np.int64]:
    """As how many copies of originals of their own they count: (t,).

    Args:
        found: (originals, t).
        copies: (originals,) of each.
    """
    count, total = len(copies), int(copies.sum())
    share = found.sum(axis=0) / total
    off = found - copies[:, None] * share  # linearised ratio of the two sums
    variance = (off**2).sum(axis=0) / total**2 * count / max(1, count - 1)
    spread = share * (1 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(variance > 0, spread / variance, count)
    return np.clip(np.floor(size), min(count, total), total).astype(np.int64)


def _rows(
    kind: tuple[str, int],
    thresholds: Sequence[float],
    copies: int,
    found: NDArray[np.int64],
    effective: int | NDArray[np.int64],
) -> pl.DataFrame:
    share = found / copies
    low, high = wilson(np.rint(share * effective).astype(np.int64), effective)
    return pl.DataFrame(
        {
            "transformation": kind[0], "strength": kind[1], "threshold": thresholds,
            "copies": copies, "found": found, "recall": share,
            "low": np.minimum(low, share), "high": np.maximum(high, share),
        },
        schema=RECALL,
    )  # fmt: skip
