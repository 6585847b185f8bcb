import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report import ReportInputs, figures
from curate.stats import wilson

SCORES = st.lists(st.floats(0.8125, 1.0, width=32), max_size=60)
THRESHOLDS = st.sampled_from([0.8, 0.9, 0.93, 0.95, 0.97531, 1.0])


def ascending(values: list[float]) -> figures.Scores:
    return np.sort(np.array(values, np.float32))


@given(SCORES, THRESHOLDS)
def test_flagged_bins_hold_exactly_the_scores_at_or_above_the_threshold(
    values: list[float], threshold: float
) -> None:
    found = figures.histogram(ascending(values), len(values) + 5, 0.8, threshold)
    naive = sum(np.float32(value) >= np.float32(threshold) for value in values)
    assert sum(item.count for item in found.bins if item.flagged) == naive
    assert sum(item.count for item in found.bins) == len(values)
    assert found.below_floor == 5


@given(SCORES, THRESHOLDS)
def test_every_bin_counts_what_a_loop_counts(values: list[float], threshold: float) -> None:
    found = figures.histogram(ascending(values), len(values), 0.8, threshold).bins
    for item in found[:-1]:
        assert item.count == sum(item.low <= value < item.high for value in values)


@given(st.floats(-1, 0.99), st.floats(0, 1))
def test_bin_edges_rise_hold_the_threshold_and_are_few(low: float, part: float) -> None:
    threshold = low + part * (1 - low)
    edges = figures.bin_edges(low, threshold)
    assert np.all(np.diff(edges) > 0)
    assert float(np.float32(threshold)) in edges
    assert edges[0] == min(np.float32(low), np.float32(threshold))
    assert edges[-1] >= 1
    assert len(edges) <= 68


def test_a_cosine_a_little_above_one_lands_in_the_last_bin() -> None:
    found = figures.histogram(ascending([1.0000001]), 1, 0.8, 0.93)
    assert found.bins[-1].count == 1


def test_axis_is_logarithmic_only_where_one_bar_dwarfs_the_others() -> None:
    flat = [0.81 + 0.005 * i for i in range(30)]
    assert not figures.histogram(ascending(flat), 30, 0.8, 0.93).log
    assert figures.histogram(ascending(flat + [0.801] * 500), 530, 0.8, 0.93).log
    assert not figures.histogram(ascending([]), 3, 0.8, 0.93).log


@given(SCORES, st.lists(st.floats(0.8, 1.0), min_size=1, max_size=9))
def test_sweep_agrees_with_a_loop(values: list[float], thresholds: list[float]) -> None:
    total = len(values) + 3
    points = figures.sweep(ascending(values), total, np.array(thresholds))
    for threshold, point in zip(thresholds, points, strict=True):
        hits = sum(bool(np.float32(value) >= np.float32(threshold)) for value in values)
        assert point.share.hits == hits
        assert (point.share.low, point.share.high) == wilson(hits, total)


def test_a_score_equal_to_the_threshold_in_float32_is_flagged() -> None:
    score = np.float32(0.93)
    assert float(score) != 0.93
    assert figures.flagged(np.array([score]), np.array([0.93])).tolist() == [1]


@pytest.mark.parametrize(("floor", "threshold"), [(0.8, 0.93), (0.7, 0.7), (0.5, 0.604169), (1, 1)])
def test_sweeps_run_from_floor_to_one_and_hold_the_threshold(
    floor: float, threshold: float
) -> None:
    for grid in (figures.sweep_curve(floor, threshold), figures.sweep_rows(floor, threshold)):
        assert grid[0] == floor
        assert grid[-1] == 1
        assert threshold in grid
        assert np.all(np.diff(grid) > 0)
    assert len(figures.sweep_rows(floor, threshold)) <= 28


def test_nearest_scores_leave_out_unknown_images_and_missing_matches() -> None:
    decisions = pl.DataFrame({"id": ["a", "b", "c"], "decision": ["clean", "unknown", "overlap"]})
    nearest = pl.DataFrame(
        {"test_id": ["c", "b", "a"], "score": [0.9, 0.99, None]},
        schema_overrides={"score": pl.Float32},
    )
    assert figures.nearest_scores(nearest, decisions).tolist() == [pytest.approx(0.9)]


def test_groups_share_is_of_the_readable_images() -> None:
    (row,) = figures.groups({"cat": {"in": 10, "overlap": 2, "unknown": 4}})
    assert (row.clean, row.share.total, row.share.hits) == (4, 6, 2)
    assert row.share.value == pytest.approx(1 / 3)


def test_classes_are_ordered_by_share_then_overlap_then_name() -> None:
    table = {
        name: {"in": total, "overlap": hits, "unknown": 0}
        for name, total, hits in [("b", 10, 1), ("a", 10, 1), ("c", 20, 2), ("d", 2, 1)]
    }
    assert [row.name for row in figures.by_share(figures.groups(table))] == ["d", "c", "a", "b"]


def test_conservation_is_seen_to_fail_in_total_in_a_shard_and_between_them() -> None:
    good = {"in": 3, "clean": 1, "overlap": 1, "unknown": 1}
    assert figures.conserved(good, figures.groups({"s": good}))
    assert not figures.conserved({**good, "in": 4}, figures.groups({"s": good}))
    assert not figures.conserved(good, figures.groups({"s": {**good, "in": 4}}))
    assert not figures.conserved(good, figures.groups({"s": good, "t": good}))


def test_sameness_counts_images_by_the_most_alike_of_their_matches(run: ReportInputs) -> None:
    levels: dict[str, set[str | None]] = {
        row["id"]: set() for row in run.decisions.iter_rows(named=True)
        if row["decision"] == "overlap"
    }  # fmt: skip
    for row in run.pairs.iter_rows(named=True):
        if row["test_id"] in levels:
            levels[row["test_id"]].add(row["same"])
    naive = figures.Sameness(
        sum("bytes" in found for found in levels.values()),
        sum("pixels" in found and "bytes" not in found for found in levels.values()),
        sum(found == {None} for found in levels.values()),
    )
    assert min(naive.bytes, naive.pixels, naive.score) > 0
    twice = pl.concat([run.pairs, run.pairs])
    assert figures.count_same(twice, run.decisions) == naive


def test_equal_files_are_seen_in_tables_that_do_not_know_of_pixels(run: ReportInputs) -> None:
    older = run.pairs.with_columns(same=pl.lit(None, pl.String))
    found, before = (figures.count_same(pairs, run.decisions) for pairs in (older, run.pairs))
    assert found.bytes == before.bytes > 0
    assert (found.pixels, found.score) == (0, before.pixels + before.score)


def test_reasons_are_counted_most_frequent_first(run: ReportInputs) -> None:
    found = figures.reasons(run.decisions)
    assert sum(number for _, _, number in found) == run.decisions.height
    assert [number for *_, number in found] == sorted((n for *_, n in found), reverse=True)
