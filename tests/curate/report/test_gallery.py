from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate import words
from curate.report import ReportInputs, gallery


@given(st.integers(0, 400), st.integers(1, 130))
def test_sample_is_distinct_ordered_and_of_the_size_asked_for(count: int, most: int) -> None:
    chosen = gallery.stratify(count, most)
    positions = [i for i, _ in chosen]
    assert len(set(positions)) == len(positions) == min(count, most)
    assert positions == sorted(positions)
    assert all(0 <= i < count for i in positions)


def test_sample_takes_the_best_and_a_spread_over_the_others() -> None:
    chosen = gallery.stratify(1000, 6)
    assert [i for i, kind in chosen if kind == "best"] == [0, 1]
    assert [i for i, kind in chosen if kind == "spread"] == [126, 376, 625, 875]


def test_removed_gallery_shows_every_overlap_image_once_best_first(run: ReportInputs) -> None:
    shown = gallery.removed(run, 1000)
    overlap = run.decisions.filter(pl.col("decision") == "overlap")
    assert shown.total == len(shown.pairs) == overlap.height
    assert {pair.test.id for pair in shown.pairs} == set(overlap["id"])
    scores = [pair.score for pair in shown.pairs]
    assert scores == sorted(scores, reverse=True)


def test_band_holds_the_nearest_misses_only(run: ReportInputs) -> None:
    tau = np.float32(run.split["threshold"])
    clean = run.decisions.filter(pl.col("decision") == "clean")["score"].drop_nulls().to_list()
    shown = gallery.just_below(run, 10)
    assert [pair.score for pair in shown.pairs] == sorted(clean, reverse=True)[:10]
    assert shown.total == len(clean)
    assert all(np.float32(pair.score) < tau for pair in shown.pairs)


def test_the_band_above_holds_the_flagged_nearest_to_the_threshold_lowest_first(
    run: ReportInputs,
) -> None:
    overlap = run.decisions.filter(pl.col("decision") == "overlap")["score"].to_list()
    shown = gallery.just_above(run, 10)
    assert [pair.score for pair in shown.pairs] == sorted(overlap)[:10]
    assert shown.total == len(overlap)


def judged(run: ReportInputs) -> tuple[ReportInputs, str, str]:
    """The same with words of people on the pair just below the threshold and the one just above."""
    below = gallery.just_below(run, 1).pairs[0].test.id
    above = gallery.just_above(run, 1).pairs[0].test.id
    at = {below: ("overlap", words.JUDGED_COPY), above: ("clean", words.JUDGED_DIFFERENT)}
    rows = [
        {**row, **dict(zip(("decision", "reason"), at.get(row["id"], ()), strict=False))}
        for row in run.decisions.iter_rows(named=True)
    ]
    decisions = pl.DataFrame(rows, schema=run.decisions.schema)
    return replace(run, decisions=decisions), below, above


def test_bands_show_what_people_judged_and_what_became_of_it(run: ReportInputs) -> None:
    inputs, below, above = judged(run)
    (low,), (high,) = gallery.just_below(inputs, 1).pairs, gallery.just_above(inputs, 1).pairs
    assert (low.test.id, low.decision, low.said) == (below, "overlap", words.JUDGED_COPY)
    assert (high.test.id, high.decision, high.said) == (above, "clean", words.JUDGED_DIFFERENT)
    removed = {pair.test.id for pair in gallery.removed(inputs, 1000).pairs}
    assert below in removed
    assert above not in removed
    assert all(pair.said is None for pair in gallery.just_below(inputs, 9).pairs[1:])


def test_a_kept_image_that_matches_a_removed_one_is_in_no_band(run: ReportInputs) -> None:
    inputs, _, above = judged(run)
    by_score = inputs.decisions.with_columns(reason=pl.lit("no match at the threshold"))
    shown = gallery.just_above(replace(inputs, decisions=by_score), 1000)
    assert above not in {pair.test.id for pair in shown.pairs}


def test_pairs_say_whether_bytes_or_pixels_are_the_same(run: ReportInputs) -> None:
    position = {name: i for i, name in enumerate(run.decisions["id"])}
    shown = gallery.removed(run, 1000).pairs
    for pair in shown:
        i = position[pair.test.id]
        assert pair.same == ("bytes" if i % 5 == 0 else "pixels" if i % 7 == 0 else None)
    assert {pair.same for pair in shown} == {"bytes", "pixels", None}


def test_nobody_looked_twice_so_nothing_is_rejected(run: ReportInputs) -> None:
    assert gallery.rejected(run, 9) is None
    assert all(pair.cosine is None for pair in gallery.removed(run, 9).pairs)


def test_rejected_gallery_holds_each_images_most_alike_rejected_pair_with_the_reason(
    verified_run: ReportInputs,
) -> None:
    refused = verified_run.pairs.filter(pl.col("rejected").is_not_null())
    best = refused.group_by("test_id").agg(pl.col("cosine").max())
    shown = gallery.rejected(verified_run, 5)
    assert shown is not None
    assert shown.total == best.height > 5
    assert [pair.cosine for pair in shown.pairs] == sorted(best["cosine"], reverse=True)[:5]
    for pair in shown.pairs:
        assert pair.rejected == "pixels do not agree <b>"
        assert (pair.score, pair.decision) == (float(np.float32(0.01)), "clean")


def test_rejected_pairs_are_no_further_matches_and_in_no_other_gallery(
    verified_run: ReportInputs,
) -> None:
    second = pl.col("train_id").str.starts_with("second:")
    why = pl.when(second).then(pl.lit("no")).otherwise("rejected")
    pairs = verified_run.pairs.with_columns(rejected=why)
    inputs = replace(verified_run, pairs=pairs)
    for shown in (gallery.removed(inputs, 999), gallery.just_below(inputs, 999)):
        assert shown.pairs
        assert all(pair.others == 0 and pair.rejected is None for pair in shown.pairs)
        assert all(pair.cosine is not None for pair in shown.pairs)


def test_pairs_carry_labels_captions_and_sizes_of_both_sides(run: ReportInputs) -> None:
    assert run.train_metadata is not None
    trains = {row["id"]: row for row in run.train_metadata.iter_rows(named=True)}
    tests = {row["id"]: row for row in run.decisions.iter_rows(named=True)}
    for pair in gallery.removed(run, 20).pairs:
        assert pair.test.label == tests[pair.test.id]["label"]
        assert pair.view == tests[pair.test.id]["view"]
        row = trains[pair.train.id]
        item = pair.train
        assert (item.label, item.caption, item.width) == (
            row["label"],
            row["caption"],
            row["width"],
        )


def test_further_matches_are_counted_once_per_train_image(run: ReportInputs) -> None:
    twice = pl.concat([run.pairs, run.pairs.with_columns(view=pl.lit("mirror"))])
    shown = gallery.removed(ReportInputs(**{**vars(run), "pairs": twice}), 1000)
    position = {name: i for i, name in enumerate(run.decisions["id"])}
    assert {pair.others for pair in shown.pairs} == {0, 1}
    assert all(pair.others == (position[pair.test.id] % 3 == 0) for pair in shown.pairs)


def test_without_metadata_the_items_are_bare(a_run: Callable[..., ReportInputs]) -> None:
    inputs = a_run(labels=False)
    bare = ReportInputs(**{**vars(inputs), "test_metadata": None, "train_metadata": None})
    pair = gallery.removed(bare, 5).pairs[0]
    assert pair.train == gallery.Item(pair.train.id)
    assert pair.test == gallery.Item(pair.test.id)


def test_no_match_at_all_gives_two_empty_galleries(a_run: Callable[..., ReportInputs]) -> None:
    inputs = a_run(matched=0.0)
    assert gallery.removed(inputs, 5) == gallery.just_below(inputs, 5) == gallery.Gallery((), 0)
