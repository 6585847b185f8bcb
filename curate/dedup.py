"""Matches -> decisions: clean, overlap or unknown for every sample; control split; conservation.

A sample with a match at or above the threshold is *overlap*, one without is *clean*, one without a
vector is *unknown* and never clean. Scores and threshold are compared as float32, inclusively.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from curate import tables
from curate.errors import CurateError, GateError


def decide(
    status: pl.DataFrame, nearest: pl.DataFrame, threshold: float, *, seed: int = 0
) -> pl.DataFrame:
    """Decide on every test sample by its nearest train item.

    Args:
        status: one row per sample (`tables.STATUS`), in order.
        nearest: one row per vector (`tables.NEAREST`).
        threshold: lowest score that makes an overlap.
        seed: of the control split.

    Returns:
        `tables.DECISIONS`, in the order of `status`.

    Raises:
        GateError: a sample with a vector has no row in `nearest`, so nothing says that it is clean.
    """
    embedded = status.filter(pl.col("status") == "success")
    lost = embedded.join(
        nearest, left_on="id", right_on="test_id", how="anti", maintain_order="left"
    )
    if lost.height:
        raise GateError(
            f"{lost['id'][0]} and {lost.height - 1} more samples have a vector but were not "
            "searched; run `curate dedup` again."
        )
    best = nearest.select("train_id", "score", "view", id="test_id")
    frame = status.join(best, on="id", how="left", maintain_order="left")
    return _with_control(_with_decision(frame, threshold), seed)


def decide_within(
    status: pl.DataFrame,
    pairs: pl.DataFrame,
    overflown: set[str],
    threshold: float,
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """Decide which samples of one set to keep so that no two kept ones match: the first one stays.

    Args:
        status: one row per sample, in order.
        pairs: pairs of an item (`test_id`) with earlier items (`train_id`), by item order.
        overflown: items with more pairs than were stored. Where all stored ones reach the threshold
            but none is with a kept item, the item is overlap all the same, because a kept one may
            be among those not stored.
        threshold: lowest score that makes an overlap.
        seed: of the control split.
    """
    above = pairs.filter(_reaches(threshold))
    cut = _cut_above(pairs, overflown, threshold)
    dropped: dict[str, tuple[str, float, str]] = {}
    columns = above.select("test_id", "train_id", "score", "view")
    for item, earlier, score, view in columns.iter_rows():
        if item not in dropped and (earlier not in dropped or item in cut):
            dropped[item] = (earlier, score, view)
    best = pl.DataFrame(
        [(item, *match) for item, match in dropped.items()],
        schema={"id": pl.String, "train_id": pl.String, "score": pl.Float32, "view": pl.String},
        orient="row",
    )
    frame = status.join(best, on="id", how="left", maintain_order="left")
    return _with_control(_with_decision(frame, threshold), seed)


def decide_strip(
    status: pl.DataFrame, pairs: pl.DataFrame, overflown: Iterable[str], threshold: float
) -> pl.DataFrame:
    """Decide which train samples to drop: those that match any test item.

    Args:
        status: train samples, in order (a part of the set, or all).
        pairs: all stored pairs.
        overflown: test items with more pairs than were stored.
        threshold: lowest score that makes an overlap.

    Raises:
        GateError: a test item had more matches at the threshold than were stored.
    """
    above = pairs.filter(_reaches(threshold))
    cut = _cut_above(pairs, overflown, threshold)
    if cut:
        raise GateError(
            f"{min(cut)} and {len(cut) - 1} more test items have more matches at {threshold} than "
            "were stored, so the list would be incomplete; raise --cap."
        )
    best = (
        above.sort("train_id", "score", "test_id", descending=[False, True, False])
        .unique("train_id", keep="first", maintain_order=True)
        .select("score", "view", id="train_id", train_id="test_id")
    )
    frame = status.join(best, on="id", how="left", maintain_order="left")
    return _with_decision(frame, threshold).with_columns(control=pl.lit(value=False))


def _reaches(threshold: float) -> pl.Expr:
    return pl.col("score") >= pl.lit(np.float32(threshold), dtype=pl.Float32)


def _cut_above(pairs: pl.DataFrame, overflown: Iterable[str], threshold: float) -> set[str]:
    """Of the overflown items those that may have matches at the threshold which were not stored.

    The stored ones are the best, so this is so where all of them reach the threshold.
    """
    stored = pairs.filter(pl.col("test_id").is_in(list(overflown)))
    lowest = stored.group_by("test_id").agg(pl.col("score").min())
    return set(lowest.filter(_reaches(threshold))["test_id"])


def _with_decision(frame: pl.DataFrame, threshold: float) -> pl.DataFrame:
    unknown = pl.col("status") != "success"
    overlap = _reaches(threshold).fill_null(value=False)
    return frame.with_columns(
        decision=pl.when(unknown).then(pl.lit("unknown")).when(overlap).then(pl.lit("overlap"))
        .otherwise(pl.lit("clean")),
        reason=pl.when(unknown).then(pl.col("status"))
        .when(overlap).then(pl.lit("match at or above the threshold"))
        .otherwise(pl.lit("no match at the threshold")),
    )  # fmt: skip


def _with_control(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Mark what stays when, instead of the overlap, as many random items of each class go.

    Chance is a digest of seed and id, so the choice depends on no order and no generator.
    """
    chance = [hashlib.sha256(f"{seed}:{id_}".encode()).hexdigest() for id_ in frame["id"]]
    usable = pl.col("decision") != "unknown"
    turn = pl.col("chance").rank("ordinal").over("label", "usable")
    removed = (pl.col("decision") == "overlap").sum().over("label", "usable")
    marked = frame.with_columns(chance=pl.Series(chance, dtype=pl.String), usable=usable)
    marked = marked.with_columns(control=pl.col("usable") & (turn > removed))
    return marked.select(tables.DECISIONS.names())


def summarise(decisions: pl.DataFrame, status: pl.DataFrame) -> dict[str, Any]:
    """The numbers of `split.json`: counts, per shard, per class, failures.

    Raises:
        GateError: the conservation law `in = clean + overlap + unknown` is broken somewhere.
    """
    words = ("clean", "overlap", "unknown")
    count = [(pl.col("decision") == word).sum().alias(word) for word in words]
    total = decisions.select(pl.len().alias("in"), *count, pl.col("control").sum()).row(
        0, named=True
    )
    shards = decisions.group_by("shard", maintain_order=True).agg(pl.len().alias("in"), *count)
    seen = dict(status.group_by("shard").len().rows())
    for row in shards.iter_rows(named=True):
        if not row["in"] == seen.get(row["shard"]) == sum(row[word] for word in words):
            raise GateError(
                f"shard {row['shard']}: {row} does not add up to {seen.get(row['shard'])}."
            )
    if total["in"] != status.height or decisions["id"].n_unique() != status.height:
        raise GateError(f"{total['in']} decisions for {status.height} samples.")
    classes = (
        decisions.filter(pl.col("label").is_not_null())
        .group_by("label", maintain_order=True)
        .agg(pl.len().alias("in"), *count[1:])
        .sort("label")
    )
    failures = status.filter(pl.col("status") != "success")["status"].value_counts().sort("status")
    return {
        "counts": total,
        "per_shard": {row.pop("shard"): row for row in shards.iter_rows(named=True)},
        "per_class": {row.pop("label"): row for row in classes.iter_rows(named=True)},
        "failures": dict(failures.rows()),
        "conservation": True,
    }


def check_threshold(threshold: float, floor: float) -> None:
    """Check that stored pairs suffice to decide at a threshold.

    Raises:
        CurateError: they do not, or it is no cosine.
    """
    if not -1 <= threshold <= 1:
        raise CurateError(f"--threshold {threshold}: a cosine between -1 and 1 was expected.")
    if np.float32(threshold) < np.float32(floor):
        raise CurateError(
            f"--threshold {threshold} is below the floor {floor} down to which pairs are stored; "
            f"run `curate dedup` again with --floor {threshold}."
        )
