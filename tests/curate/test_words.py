import polars as pl
import pytest

from curate import tables, words
from curate.dedup import decide, decide_strip, decide_within
from curate.groups import match_graph

T = 0.9
STATUS = tables.rows(
    [{"id": f"t:{k}", "shard": "t", "key": k, "position": n, "row": n, "status": "success"}
     for n, k in enumerate("abcd")], tables.STATUS,
)  # fmt: skip


def pairs(*rows: tuple[str, str, float]) -> pl.DataFrame:
    ends = {"test_id": [r[0] for r in rows], "train_id": [r[1] for r in rows]}
    frame = pl.DataFrame({**ends, "score": [r[2] for r in rows], "view": ["identity"] * len(rows)})
    return frame.with_columns(pl.col("score").cast(pl.Float32))


def said(*rows: tuple[str, str, bool]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"test_id": pl.String, "train_id": pl.String,
                                      "copy": pl.Boolean}, orient="row")  # fmt: skip


def nearest(found: pl.DataFrame, *overflown: str) -> pl.DataFrame:
    best = found.sort("score", descending=True).unique("test_id", keep="first")
    rows = pl.DataFrame({"test_id": [f"t:{k}" for k in "abcd"]}).join(best, "test_id", "left")
    extra = {"pairs": pl.lit(1), "overflow": pl.col("test_id").is_in(list(overflown))}
    return rows.with_columns(**extra).select(tables.NEAREST.names())


def decided(found: pl.DataFrame, labels: pl.DataFrame, *overflown: str) -> pl.DataFrame:
    judged = words.with_words(found, labels, overflown, T)
    table = words.after_words(nearest(found, *overflown), judged)
    return words.with_reasons(decide(STATUS, table, T), judged, labels, T)


FOUND = pairs(("t:a", "r:1", 0.95), ("t:a", "r:2", 0.93), ("t:b", "r:3", 0.97), ("t:c", "r:4", 0.8))


def test_without_words_scores_decide() -> None:
    found = decided(FOUND, said())
    assert found["decision"].to_list() == ["overlap", "overlap", "clean", "clean"]
    assert found.equals(decide(STATUS, nearest(FOUND), T))


def test_a_match_judged_different_is_none_and_the_next_one_takes_its_place() -> None:
    found = decided(FOUND, said(("t:a", "r:1", False), ("t:b", "r:3", False)))
    assert found["decision"].to_list() == ["overlap", "clean", "clean", "clean"]
    assert found["train_id"].to_list()[:2] == ["r:2", "r:3"]
    assert found["reason"].to_list()[1] == words.JUDGED_DIFFERENT


def test_a_pair_judged_a_copy_is_a_match_below_the_threshold() -> None:
    found = decided(FOUND, said(("t:c", "r:4", True), ("t:b", "r:3", True)))
    assert found["decision"].to_list() == ["overlap", "overlap", "overlap", "clean"]
    assert found["reason"].to_list()[1:3] == [words.JUDGED_COPY] * 2
    assert found["score"].to_list()[2] == pytest.approx(0.8)


def test_words_on_pairs_that_were_not_stored_change_nothing() -> None:
    assert decided(FOUND, said(("t:d", "r:9", True))).equals(decided(FOUND, said()))


def test_an_item_with_more_matches_than_were_stored_is_not_freed() -> None:
    labels = said(("t:b", "r:3", False))
    found = decided(FOUND, labels, "t:b")
    assert (found["decision"][1], found["reason"][1]) == ("overlap", words.NOT_STORED)


def test_a_pair_refused_by_a_second_look_counts_only_if_people_say_so() -> None:
    refused = FOUND.with_columns(rejected=pl.Series([None, None, "no inliers", None]))
    judged = words.with_words(refused, said(), [], T)
    assert judged["match"].to_list() == [True, True, False, False]
    judged = words.with_words(refused, said(("t:b", "r:3", True)), [], T)
    assert judged["match"].to_list() == [True, True, True, False]


def test_words_decide_which_train_items_are_dropped() -> None:
    train = STATUS.with_columns(id=pl.Series([f"r:{n}" for n in range(1, 5)]))
    labels = said(("t:a", "r:1", False), ("t:c", "r:4", True))
    judged = words.with_words(FOUND, labels, [], T)
    found = words.with_reasons(decide_strip(train, judged, [], T), judged, labels, T)
    assert found["decision"].to_list() == ["clean", "overlap", "overlap", "overlap"]
    assert found["reason"].to_list()[::3] == [words.JUDGED_DIFFERENT, words.JUDGED_COPY]


def test_words_decide_within_one_set() -> None:
    found = pairs(("t:b", "t:a", 0.95), ("t:c", "t:a", 0.8), ("t:d", "t:c", 0.95))
    labels = said(("t:b", "t:a", False), ("t:c", "t:a", True))
    judged = words.with_words(found, labels, [], T)
    graph = match_graph(STATUS["id"], judged, [], T)
    decisions = words.with_reasons(decide_within(STATUS, graph), judged, labels, T)
    assert decisions["decision"].to_list() == ["clean", "clean", "overlap", "clean"]
    assert decisions["reason"].to_list()[1:3] == [words.JUDGED_DIFFERENT, words.JUDGED_COPY]
