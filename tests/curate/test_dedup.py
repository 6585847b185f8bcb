"""Decisions: thresholds to the last bit, unknown never clean, control, self-dedup, conservation."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import part_tables

from curate import tables
from curate.dedup import (
    UNPROVEN,
    check_threshold,
    decide,
    decide_strip,
    decide_within,
    summarise,
)
from curate.errors import CurateError, GateError
from curate.groups import match_graph

T = np.float32(0.9)
BELOW, ABOVE = np.nextafter(T, np.float32(0)), np.nextafter(T, np.float32(2))


def nearest_of(status: pl.DataFrame, scores: Sequence[Any]) -> pl.DataFrame:
    """A `nearest` table: these scores for the samples with a vector, None for no train item."""
    ids = status.filter(pl.col("status") == "success")["id"]
    return tables.rows(
        [
            {"test_id": id_, "score": score, "view": score and "mirror", "pairs": 0,
             "train_id": None if score is None else "train:x", "overflow": False}
            for id_, score in zip(ids, scores, strict=True)
        ],
        tables.NEAREST,
    )  # fmt: skip


def pairs_of(*rows: tuple[str, str, Any]) -> pl.DataFrame:
    """A `pairs` table from (test, train, score)."""
    records = [
        {"test_id": a, "train_id": b, "score": s, "view": "identity", "rank": 1} for a, b, s in rows
    ]
    return tables.rows(records, tables.PAIRS)


def test_the_threshold_itself_is_overlap_to_the_last_bit_of_float32() -> None:
    _, status = part_tables("s", 4)
    decided = decide(status, nearest_of(status, [BELOW, T, ABOVE, None]), 0.9)
    assert decided["decision"].to_list() == ["clean", "overlap", "overlap", "clean"]
    assert decided["train_id"].to_list() == ["train:x"] * 3 + [None]
    assert decided.schema == tables.DECISIONS
    exact = decide(status, nearest_of(status, [BELOW, T, ABOVE, None]), float(ABOVE))
    assert exact["decision"].to_list() == ["clean", "clean", "overlap", "clean"]


def test_what_could_not_be_decoded_is_unknown_and_says_why() -> None:
    _, status = part_tables("s", 2, failed=[0, 2])
    decided = decide(status, nearest_of(status, [1.0, None]), 0.9)
    assert decided["decision"].to_list() == ["unknown", "overlap", "unknown", "clean"]
    assert decided["reason"].to_list() == [
        "zero_bytes", "match at or above the threshold", "zero_bytes", "no match at the threshold",
    ]  # fmt: skip
    assert decided["control"].to_list()[0] is decided["control"].to_list()[2] is False
    assert decided.select("id", "position").equals(status.select("id", "position"))


def test_a_sample_that_was_not_searched_is_never_called_clean() -> None:
    _, status = part_tables("s", 3)
    nearest = nearest_of(status, [None, None, None])
    with pytest.raises(GateError, match="s:k1 and 1 more samples have a vector but were not"):
        decide(status, nearest[:1], 0.9)


LABEL = st.sampled_from([None, "cat", "dog", "owl"])
SCORE = st.sampled_from([None, 0.1, float(BELOW), float(T), 1.0])
SAMPLES = st.lists(st.tuples(LABEL, st.booleans(), SCORE), min_size=1, max_size=25)


def decided_samples(
    samples: list[tuple[str | None, bool, float | None]], seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    failed = [n for n, (_, bad, _) in enumerate(samples) if bad]
    labels = [label for label, _, _ in samples]
    _, status = part_tables("s", len(samples) - len(failed), failed, labels)
    scores = [score for _, bad, score in samples if not bad]
    return status, nearest_of(status, scores), seed


@settings(deadline=None, max_examples=60)
@given(SAMPLES, st.integers(0, 99))
def test_the_control_split_drops_as_many_of_each_class_as_overlap_holds(
    samples: list[tuple[str | None, bool, float | None]], seed: int
) -> None:
    status, nearest, _ = decided_samples(samples)
    decided = decide(status, nearest, 0.9, seed=seed)
    for (_,), group in decided.group_by("label"):
        words = group["decision"].to_list()
        dropped = group.filter(~pl.col("control") & (pl.col("decision") != "unknown")).height
        assert dropped == words.count("overlap")
        assert not group.filter(pl.col("decision") == "unknown")["control"].any()
    counts = summarise(decided, status)["counts"]
    assert counts["control"] == counts["in"] - counts["unknown"] - counts["overlap"]
    assert counts["in"] == len(samples)


@settings(deadline=None, max_examples=30)
@given(SAMPLES, st.randoms(use_true_random=False))
def test_the_control_split_depends_on_no_order(
    samples: list[tuple[str | None, bool, float | None]], chance: random.Random
) -> None:
    status, nearest, _ = decided_samples(samples)
    order = list(range(status.height))
    chance.shuffle(order)
    one, two = decide(status, nearest, 0.9), decide(status[order], nearest, 0.9)
    assert two.sort("position").equals(one)


def test_the_control_split_is_another_with_another_seed() -> None:
    _, status = part_tables("s", 40)
    nearest = nearest_of(status, [1.0, None] * 20)
    chosen = [tuple(decide(status, nearest, 0.9, seed=seed)["control"]) for seed in (0, 1, 0)]
    assert chosen[0] == chosen[2] != chosen[1]
    overlap = decide(status, nearest, 0.9)["decision"] == "overlap"
    assert 0 < (overlap & pl.Series(chosen[0])).sum() < 20  # drawn from both kinds


# --- one set against itself ----------------------------------------------------------------------


def within(
    status: pl.DataFrame,
    pairs: pl.DataFrame,
    overflown: Sequence[str] = (),
    threshold: float = 0.9,
    preference: Sequence[float] | None = None,
) -> pl.DataFrame:
    graph = match_graph(status["id"], pairs, overflown, threshold)
    order = None if preference is None else np.array(preference, np.float64)
    return decide_within(status, graph, preference=order)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 10), st.data())
def test_within_a_set_no_two_kept_items_match_whatever_the_preference_and_the_cap(
    count: int, data: st.DataObject
) -> None:
    metadata, status = part_tables("s", count)
    ids = metadata["id"].to_list()
    every = [(i, j) for i in range(count) for j in range(i)]
    scores = {pair: data.draw(SCORE.filter(bool)) for pair in every if data.draw(st.booleans())}
    rows = sorted((i, -s, j) for (i, j), s in scores.items())
    cap = data.draw(st.integers(1, 9))
    stored = [r for n, r in enumerate(rows) if sum(q[0] == r[0] for q in rows[:n]) < cap]
    overflown = [ids[i] for i in range(count) if sum(r[0] == i for r in rows) > cap]
    pairs = pairs_of(*((ids[i], ids[j], -s) for i, s, j in stored))
    matched = {i for i, s, j in stored if -s >= T} | {j for i, s, j in stored if -s >= T}
    taste = data.draw(st.lists(st.integers(0, 2), min_size=len(matched), max_size=len(matched)))
    decided = within(status, pairs, overflown, 0.9, taste)
    kept = {n for n, word in enumerate(decided["decision"]) if word == "clean"}
    match = {pair for pair, score in scores.items() if score >= T}
    assert not [(i, j) for i, j in match if i in kept and j in kept]
    dropped = decided.filter(pl.col("decision") == "overlap")
    if not overflown:
        assert set(dropped["train_id"]) <= {ids[n] for n in kept}
    unproven = dropped.filter(pl.col("reason") == UNPROVEN)
    assert set(unproven["id"]) <= set(overflown)
    by_order = within(status, pairs, overflown)["decision"]
    naive: set[int] = set()
    for i in range(count):
        if not any((i, j) in match for j in naive):
            naive.add(i)
    if not overflown:
        assert {n for n, word in enumerate(by_order) if word == "clean"} == naive


def test_the_end_of_a_chain_is_kept_when_its_middle_goes() -> None:
    _, status = part_tables("s", 3)
    chain = pairs_of(("s:k1", "s:k0", 1), ("s:k2", "s:k1", 1))
    assert within(status, chain)["decision"].to_list() == ["clean", "overlap", "clean"]
    preferred = within(status, chain, preference=[1, 0, 1])
    assert preferred["decision"].to_list() == ["overlap", "clean", "overlap"]
    assert preferred["train_id"].to_list() == ["s:k1", None, "s:k1"]


def test_an_item_that_overflows_below_the_threshold_is_judged_by_its_pairs() -> None:
    _, status = part_tables("s", 4)
    pairs = pairs_of(("s:k1", "s:k0", 1), ("s:k3", "s:k1", 0.95), ("s:k3", "s:k2", 0.85))
    for overflown in ([], ["s:k3"]):
        words = within(status, pairs, overflown)["decision"].to_list()
        assert words == ["clean", "overlap", "clean", "clean"]
    words = within(status, pairs, ["s:k3"], 0.85)["decision"].to_list()
    assert words[3] == "overlap"


def test_an_item_that_overflows_is_dropped_however_it_is_preferred_and_says_why() -> None:
    _, status = part_tables("s", 3)
    pairs = pairs_of(("s:k1", "s:k0", 1), ("s:k2", "s:k1", 1))  # s:k2 matches s:k0 too, unstored
    decided = within(status, pairs, ["s:k2"], preference=[1, 2, 0])
    assert decided["decision"].to_list() == ["clean", "overlap", "overlap"]
    assert decided["reason"].to_list()[1:] == ["match at or above the threshold", UNPROVEN]
    assert decided["train_id"].to_list()[1:] == ["s:k0", "s:k1"]


def test_the_evidence_of_a_dropped_item_is_a_kept_one() -> None:
    _, status = part_tables("s", 3)
    pairs = pairs_of(("s:k1", "s:k0", 0.92), ("s:k2", "s:k1", 0.99), ("s:k2", "s:k0", 0.95))
    decided = within(status, pairs)
    assert decided["train_id"].to_list() == [None, "s:k0", "s:k0"]
    assert decided["score"].to_list()[2] == pytest.approx(0.95)


def test_samples_without_a_vector_stay_unknown_among_those_that_match() -> None:
    _, status = part_tables("s", 2, failed=[1])
    decided = within(status, pairs_of(("s:k2", "s:k0", 1)), preference=[1, 0])
    assert decided["decision"].to_list() == ["overlap", "unknown", "clean"]
    assert summarise(decided, status)["counts"]["in"] == 3


# --- the train side ------------------------------------------------------------------------------


def test_strip_lists_the_train_items_with_their_best_match() -> None:
    _, status = part_tables("s", 4, failed=[3])
    pairs = pairs_of(("t:b", "s:k0", T), ("t:a", "s:k0", 1), ("t:c", "s:k1", BELOW),
                     ("t:a", "s:k2", 0.95), ("t:b", "s:k2", 0.95))  # fmt: skip
    decided = decide_strip(status, pairs, [], 0.9)
    assert decided["decision"].to_list() == ["overlap", "clean", "overlap", "unknown", "clean"]
    assert decided["train_id"].to_list() == ["t:a", None, "t:a", None, None]


def test_as_many_train_items_of_each_class_leave_the_control_as_are_stripped() -> None:
    _, status = part_tables("s", 40)
    labels = pl.Series("label", ["cat", "dog"] * (status.height // 2), dtype=pl.String)
    status = status.with_columns(labels)
    pairs = pairs_of(*(("t:a", f"s:k{n}", 1) for n in (0, 2, 4, 5)))
    decided, other = (decide_strip(status, pairs, [], 0.9, seed=seed) for seed in (0, 1))
    left = decided.filter(~pl.col("control"))["label"].value_counts().sort("label")
    assert left.rows() == [("cat", 3), ("dog", 1)]
    assert not decided["control"].equals(other["control"])


def test_strip_refuses_an_incomplete_list() -> None:
    _, status = part_tables("s", 2)
    pairs = pairs_of(("t:a", "s:k0", 1), ("t:b", "s:k0", 1), ("t:b", "s:k1", BELOW))
    with pytest.raises(GateError, match=r"t:a and 0 more test items have .* raise --cap"):
        decide_strip(status, pairs, ["t:b", "t:a"], 0.9)
    assert decide_strip(status, pairs, ["t:b"], 0.9)["decision"].to_list() == ["overlap", "clean"]


# --- conservation --------------------------------------------------------------------------------


def test_the_summary_counts_by_shard_class_and_failure() -> None:
    one = part_tables("a", 2, [1], ["cat", None, "dog"])[1]
    two = part_tables("b", 1, [0], ["cat", "cat"])[1]
    status = pl.concat([one, two])
    decided = decide(status, nearest_of(status, [1.0, None, None]), 0.9)
    found = summarise(decided, status)
    assert found == {
        "counts": {"in": 5, "clean": 2, "overlap": 1, "unknown": 2, "control": 2},
        "per_shard": {
            "a": {"in": 3, "clean": 1, "overlap": 1, "unknown": 1},
            "b": {"in": 2, "clean": 1, "overlap": 0, "unknown": 1},
        },
        "per_class": {
            "cat": {"in": 3, "overlap": 1, "unknown": 1},
            "dog": {"in": 1, "overlap": 0, "unknown": 0},
        },
        "failures": {"zero_bytes": 2},
        "conservation": True,
    }


@pytest.mark.parametrize("breach", ["lost", "twice", "other word", "other shard", "lost shard"])
def test_a_broken_conservation_law_is_an_error(breach: str) -> None:
    status = pl.concat([part_tables("a", 3)[1], part_tables("b", 2)[1]])
    good = decide(status, nearest_of(status, [None] * 5), 0.9)
    broken = {
        "lost": good[1:],
        "twice": pl.concat([good[:1], good[:1], good[2:]]),
        "other word": good.with_columns(decision=pl.lit("perhaps")),
        "other shard": good.with_columns(shard=pl.lit("a")),
        "lost shard": good.filter(pl.col("shard") == "a"),
    }
    assert summarise(good, status)["conservation"] is True
    with pytest.raises(GateError):
        summarise(broken[breach], status)


def test_an_id_that_two_vectors_share_breaks_the_law_and_hides_nothing() -> None:
    _, status = part_tables("a", 2)
    nearest = nearest_of(status, [None, 1.0])
    doubled = pl.concat([nearest, nearest])
    with pytest.raises(GateError):
        summarise(decide(status, doubled, 0.9), status)


def test_a_threshold_below_what_is_stored_names_the_remedy() -> None:
    check_threshold(0.9, 0.9)
    check_threshold(0.9, float(np.float32(0.9)))
    with pytest.raises(CurateError, match=r"--threshold 0.8 is below .* --floor 0.8"):
        check_threshold(0.8, 0.9)
    for wrong in (1.01, -1.01, float("nan")):
        with pytest.raises(CurateError, match="a cosine between -1 and 1"):
            check_threshold(wrong, -1)
