from collections.abc import Callable

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate.report import ReportInputs, gallery


@given(st.integers(0, 400), st.integers(1, 130))
def test_sample_is_distinct_ordered_and_of_the_size_asked_for(count: int, most: int) -> None:
    chosen = gallery.stratify(count, most)
    positions = [i for i, _ in chosen]
    assert len(set(positions)) == len(positions) == min(count, most)
    assert positions == sorted(positions)
    assert all(0 <= i < count for i in positions)


def test_sample_takes_the_best_a_spread_and_the_lowest() -> None:
    chosen = gallery.stratify(1000, 9)
    assert [i for i, kind in chosen if kind == "best"] == [0, 1, 2]
    assert [i for i, kind in chosen if kind == "lowest"] == [997, 998, 999]
    assert [i for i, kind in chosen if kind == "spread"] == [168, 500, 831]


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
    assert all(pair.same_bytes == (position[pair.test.id] % 5 == 0) for pair in shown.pairs)


def test_without_metadata_the_items_are_bare(a_run: Callable[..., ReportInputs]) -> None:
    inputs = a_run(labels=False)
    bare = ReportInputs(**{**vars(inputs), "test_metadata": None, "train_metadata": None})
    pair = gallery.removed(bare, 5).pairs[0]
    assert pair.train == gallery.Item(pair.train.id)
    assert pair.test == gallery.Item(pair.test.id)


def test_no_match_at_all_gives_two_empty_galleries(a_run: Callable[..., ReportInputs]) -> None:
    inputs = a_run(matched=0.0)
    assert gallery.removed(inputs, 5) == gallery.just_below(inputs, 5) == gallery.Gallery((), 0)
