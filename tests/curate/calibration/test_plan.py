from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_truths import FLOOR, LIKELY, population

from curate.calibration import plan
from curate.calibration.plan import PLAN, Zone


def units_of(scores: np.ndarray) -> pl.DataFrame:
    ids = [f"t:{number:04d}" for number in range(len(scores))]
    return pl.DataFrame({"unit": ids, "test_id": ids, "train_id": ids, "score": scores})


def drawn(scores: np.ndarray, labels: int, seed: int = 0) -> pl.DataFrame:
    return plan.draw(units_of(scores), plan.zones(scores, FLOOR, LIKELY), labels, seed)


def test_thresholds_are_the_same_numbers_in_every_run() -> None:
    assert plan.grid(0.98, 0.985, 0.9999, 0.5) == [0.98, 0.985, 0.99, 0.995, 0.9999, 1.0]
    assert plan.grid(0.9812)[:2] == [0.9812, 0.985]
    assert set(plan.grid(0.9)) <= set(plan.grid(0.7))


@settings(max_examples=60)
@given(st.lists(st.floats(0.75, 1, width=32), min_size=1, max_size=300), st.floats(0.7, 1))
def test_zones_hold_every_unit_once_and_none_is_empty(found: list[float], likely: float) -> None:
    scores = np.maximum(np.array(found, np.float32), np.float32(0.7))
    zones = plan.zones(scores, 0.7, round(likely, 3))
    assert sum(zone.units for zone in zones) == len(scores)
    assert all(zone.units for zone in zones)
    assert [zone.number for zone in zones] == list(range(1, len(zones) + 1))
    assert zones[0].high is None
    edges = [(zone.low, zone.high) for zone in zones]
    assert all(low == high for (low, _), (_, high) in pairwise(edges))


def test_the_likely_threshold_is_an_edge_and_labels_seen_replace_the_guess() -> None:
    scores = population(3000, 0)
    zones = plan.zones(scores, FLOOR, LIKELY, {LIKELY: 0.42})
    assert len(zones) == 8
    (at,) = [zone for zone in zones if zone.low == LIKELY]
    assert at.expected == 0.42
    assert [zone.above for zone in zones] == [zone.low >= LIKELY for zone in zones]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1), st.booleans()), min_size=1,
                max_size=8), st.integers(1, 3000))  # fmt: skip
def test_all_labels_are_given_and_no_zone_gets_more_than_it_has(
    given: list[tuple[int, float, bool]], labels: int
) -> None:
    zones = [Zone(n, 0, None, units, share, above) for n, (units, share, above) in enumerate(given)]
    counts = plan.allocate(zones, labels)
    whole = sum(zone.units for zone in zones)
    assert sum(counts) == min(labels, whole)
    assert all(0 <= n <= zone.units for n, zone in zip(counts, zones, strict=True))


def test_two_thirds_of_the_labels_are_for_what_is_above_the_likely_threshold() -> None:
    zones = plan.zones(population(20_000, 0), FLOOR, LIKELY)
    counts = plan.allocate(zones, 600)
    above = sum(n for n, zone in zip(counts, zones, strict=True) if zone.above)
    assert above == pytest.approx(400, abs=15)


def test_doubtful_zones_get_more_labels_than_sure_ones() -> None:
    sure, doubtful = Zone(1, 0.9, None, 400, 0.99), Zone(2, 0.8, 0.9, 400, 0.5)
    counts = plan.allocate([sure, doubtful], 100)
    assert counts[1] > 2 * counts[0] > 0


def test_a_plan_says_all_that_an_estimate_needs() -> None:
    scores = population(800, 3)
    found = drawn(scores, 100)
    assert found.schema == PLAN
    assert found["order"].to_list() == list(range(1, 101))
    assert found["test_id"].n_unique() == 100
    inside = (pl.col("score") >= pl.col("low").cast(pl.Float32)) & (
        (pl.col("score") < pl.col("high").cast(pl.Float32)) | pl.col("high").is_null()
    )
    assert found.filter(inside).height == 100
    for (zone,), rows in found.group_by("zone"):
        assert rows["planned"].unique().to_list() == [rows.height], zone
        assert rows["inclusion"][0] == rows.height / rows["units"][0]


def test_a_larger_plan_holds_the_smaller_one_in_each_zone() -> None:
    scores = population(800, 3)
    small, large = drawn(scores, 60), drawn(scores, 300)
    assert set(small["test_id"]) < set(large["test_id"])
    assert drawn(scores, 60, seed=1)["test_id"].to_list() != small["test_id"].to_list()


def test_the_choice_depends_on_no_order_of_the_units() -> None:
    scores = population(500, 1)
    units, zones = units_of(scores), plan.zones(scores, FLOOR, LIKELY)
    shuffled = units.sample(fraction=1.0, shuffle=True, seed=3)
    assert plan.draw(shuffled, zones, 80, 0).equals(plan.draw(units, zones, 80, 0))


def test_whoever_stops_early_has_been_in_all_zones() -> None:
    found = drawn(population(3000, 0), 240)
    shares = found.group_by("zone").agg((pl.col("order") <= 120).mean().alias("half"), pl.len())
    assert shares["half"].is_between(0.35, 0.65).all()


def test_every_unit_of_a_zone_is_drawn_equally_often() -> None:
    scores = np.linspace(0.83, 0.99, 40).astype(np.float32)
    hits = np.zeros(40)
    zone = Zone(1, 0.7, None, 40, 0.5)
    for seed in range(400):
        found = plan.draw(units_of(scores), [zone], 10, seed)
        hits[[int(id_[2:]) for id_ in found["test_id"]]] += 1
    assert hits.sum() == 4000
    assert np.abs(hits - 100).max() < 5 * (400 * 0.25 * 0.75) ** 0.5


def test_without_units_the_plan_is_empty() -> None:
    found = drawn(np.empty(0, np.float32), 50)
    assert found.schema == PLAN
    assert found.is_empty()
