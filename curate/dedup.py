"""Matches -> decisions: clean, overlap or unknown for every sample; control split; conservation.

A sample with a match at or above the threshold is *overlap*, one without is *clean*, one without a
vector is *unknown* and never clean. Scores and threshold are compared as float32, inclusively.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import groups, tables
from curate.errors import CurateError, GateError
from curate.groups import MatchGraph

MATCH = "match at or above the threshold"
NO_MATCH = "no match at the threshold"
UNPROVEN = "more matches at the threshold than were stored, none of these with a kept item"


def decide(
    status: pl.DataFrame, nearest: pl.DataFrame, threshold: float, *, seed: int = 0
) -> pl.DataFrame:
    """Decide on every test sample by its nearest train item.

    Args:
        status: one row per sample (`tables.STATUS`), in order.
        nearest: one row per vector (`tables.NEAREST`), or what `words.after_words`
            made of it.
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
    match = groups.is_match(nearest, threshold)
    best = nearest.select("train_id", "score", "view", id="test_id", match=match)
    frame = status.join(best, on="id", how="left", maintain_order="left")
    return _with_control(_with_decision(frame, pl.col("match")), seed)


def decide_within(
    status: pl.DataFrame,
    graph: MatchGraph,
    *,
    preference: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Decide which samples of one set to keep so that no two kept ones match.

    Samples are taken by preference and kept unless they match one that is kept already, so every
    dropped one has a match among the kept, which is preferred to it and is its evidence. Nothing is
    dropped for being in a chain: the ends of a - b - c are both kept when b is not preferred.

    Items with more matches at the threshold than were stored are dropped whatever the preference,
    so that no two kept ones match all the same. One of which no match with a kept item is stored
    says so in its reason; its evidence is then its best stored match.

    Args:
        status: one row per sample, in order.
        graph: the pairs that are matches, `groups.match_graph`.
        preference: of the graph's items, lower is preferred; None, and ties: the earlier one.
        seed: of the control split.
    """
    rank = groups.ranking(graph, preference)
    kept = groups.independent(graph, rank)
    found, proven = groups.evidence(graph, rank, kept)
    dropped = np.flatnonzero(~kept)
    pair = found[dropped]
    other = graph.one[pair] + graph.two[pair] - dropped
    best = pl.DataFrame(
        {
            "id": graph.ids.gather(dropped),
            "train_id": graph.ids.gather(other),
            "score": graph.scores[pair],
            "view": graph.views.gather(pair),
            "unproven": ~proven[dropped],
        }
    )
    frame = status.join(best, on="id", how="left", maintain_order="left")
    reason = pl.when("unproven").then(pl.lit(UNPROVEN)).otherwise("reason")
    decided = _with_decision(frame, pl.col("train_id").is_not_null())
    return _with_control(decided.with_columns(reason=reason), seed)


def decide_strip(
    status: pl.DataFrame,
    pairs: pl.DataFrame,
    overflown: Iterable[str],
    threshold: float,
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """Decide which train samples to drop: those that match any test item.

    Args:
        status: train samples, in order (a part of the set, or all).
        pairs: all stored pairs.
        overflown: test items with more pairs than were stored.
        threshold: lowest score that makes an overlap.
        seed: of the control split.

    Raises:
        GateError: a test item had more matches at the threshold than were stored.
    """
    above = pairs.filter(groups.is_match(pairs, threshold))
    cut = groups.cut_above(pairs, overflown, threshold)
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
    return _with_control(_with_decision(frame, pl.col("train_id").is_not_null()), seed)


def _with_decision(frame: pl.DataFrame, is_match: pl.Expr) -> pl.DataFrame:
    unknown = pl.col("status") != "success"
    overlap = is_match.fill_null(value=False)
    return frame.with_columns(
        decision=pl.when(unknown).then(pl.lit("unknown")).when(overlap).then(pl.lit("overlap"))
        .otherwise(pl.lit("clean")),
        reason=pl.when(unknown).then(pl.col("status"))
        .when(overlap).then(pl.lit(MATCH))
        .otherwise(pl.lit(NO_MATCH)),
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
