import numpy as np
import polars as pl
import pytest
from made_up_truths import FLOOR, LIKELY, TRUTHS, covered, population, surveyed

from curate.calibration import plan, precision
from curate.calibration.counts import Estimate
from curate.calibration.precision import At, Sample

WANTED = 0.95


def plan_of(*scores: float, low: float = 0.7) -> pl.DataFrame:
    """A plan with one zone that holds just these units, all of them drawn, best first."""
    ids = [f"t:{number}" for number in range(len(scores))]
    units = pl.DataFrame({"unit": ids, "test_id": ids, "train_id": ids, "score": scores})
    units = units.with_columns(pl.col("score").cast(pl.Float32))
    zone = plan.Zone(1, low, None, len(scores), 0.5)
    found = plan.draw(units, [zone], len(scores), 0).sort("test_id")
    order = pl.int_range(1, len(scores) + 1, dtype=pl.Int32, eager=True)
    return found.with_columns(order=order)


def words_of(plan_: pl.DataFrame, answers: list[bool | None]) -> pl.DataFrame:
    known = plan_.head(len(answers))
    return known.select("test_id", "train_id", copy=pl.Series(answers, dtype=pl.Boolean))


def row(threshold: float, low: float, value: float = 0.97, *, testable: bool = True) -> At:
    share = Estimate(value, low, 1.0)
    return At(threshold, 100, 50, share, share, testable)


# --- answers -------------------------------------------------------------------------------------


def test_pairs_passed_over_are_unsure_and_those_not_reached_say_nothing() -> None:
    drawn = plan_of(0.9, 0.9, 0.9, 0.9, 0.9, 0.9)
    words = words_of(drawn, [True, None, False, False]).filter(pl.col("test_id") != "t:2")
    found = precision.answered(drawn, words)
    assert found["answer"].to_list() == ["copy", "unsure", "unsure", "different", None, None]
    assert found["passed_over"].to_list() == [False, False, True, False, False, False]


def test_labels_on_other_pairs_change_nothing() -> None:
    drawn = plan_of(0.9, 0.8)
    other = pl.DataFrame({"test_id": ["t:0"], "train_id": ["other"], "copy": [True]})
    assert precision.answered(drawn, other)["answer"].null_count() == 2


# --- precision -----------------------------------------------------------------------------------


def test_a_threshold_inside_a_zone_counts_what_lies_above_it() -> None:
    drawn = plan_of(0.95, 0.92, 0.88, 0.75)
    answers = precision.answered(drawn, words_of(drawn, [True, True, False, False]))
    sample = Sample(drawn["score"].to_numpy(), answers)
    found = [precision.at(sample, threshold, WANTED) for threshold in (0.7, 0.88, 0.9, 0.96)]
    assert [at and (at.flagged, at.precision.value) for at in found] == [
        (4, 0.5), (3, pytest.approx(2 / 3)), (2, 1.0), None,
    ]  # fmt: skip


def test_a_score_equal_to_the_threshold_is_flagged() -> None:
    drawn = plan_of(float(np.float32(0.82)), 0.81)
    answers = precision.answered(drawn, words_of(drawn, [True, False]))
    found = precision.at(Sample(drawn["score"].to_numpy(), answers), 0.82, WANTED)
    assert found is not None
    assert (found.flagged, found.precision.value) == (1, 1.0)


def test_a_census_gives_the_true_precision_at_every_threshold() -> None:
    sample, is_copy = surveyed("not monotone", 300, 300, 0)
    for at in precision.curve(sample, plan.grid(FLOOR), WANTED):
        true = is_copy[plan.at_least(sample.scores, at.threshold)].mean()
        assert at.precision == Estimate(*[pytest.approx(true)] * 3)


def test_the_estimate_is_right_on_average() -> None:
    errors = []
    for seed in range(60):
        sample, is_copy = surveyed("sharp", 600, 80, seed)
        found = precision.at(sample, 0.8, WANTED)
        assert found is not None
        assert found.copies.value is not None
        errors.append(found.copies.value - is_copy[sample.scores >= np.float32(0.8)].sum())
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 60**0.5


@pytest.mark.parametrize("truth", TRUTHS)
def test_intervals_hold_the_truth_in_a_few_surveys(truth: str) -> None:
    assert covered(truth, 800, 120, 40, [LIKELY])[LIKELY] >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("labels", [60, 200])
@pytest.mark.parametrize("truth", TRUTHS)
def test_intervals_hold_the_truth_in_at_least_93_of_100_surveys(truth: str, labels: int) -> None:
    shares = covered(truth, 1500, labels, 1500, [FLOOR, 0.75, LIKELY, 0.85, 0.9])
    assert min(shares.values()) >= 0.93, shares


# --- the proposal --------------------------------------------------------------------------------


def test_the_lowest_threshold_before_the_first_failure_is_proposed() -> None:
    rows = [row(0.7, 0.96), row(0.8, 0.90), row(0.85, 0.951), row(0.9, 0.97), row(0.95, 0.99)]
    chosen = precision.propose(rows, WANTED)
    assert chosen is not None
    assert chosen.threshold == 0.85  # 0.7 passes too, but only after a failure


def test_thresholds_with_too_few_labels_are_passed_over() -> None:
    rows = [row(0.85, 0.96), row(0.9, 0.2, testable=False), row(0.95, 0.5, testable=False)]
    chosen = precision.propose(rows, WANTED)
    assert chosen is not None
    assert chosen.threshold == 0.85
    assert precision.propose(rows[1:], WANTED) is None
    assert precision.propose([row(0.9, 0.94)], WANTED) is None


def test_a_few_labels_can_show_nothing_and_many_can() -> None:
    few, _ = surveyed("all true", 1500, 40, 0)
    many, _ = surveyed("all true", 1500, 400, 0)
    for sample, testable in ((few, False), (many, True)):
        found = precision.at(sample, LIKELY, WANTED)
        assert found is not None
        assert found.testable is testable


def test_a_proposed_threshold_is_rarely_too_low() -> None:
    proposed = wrong = 0
    for seed in range(60):
        sample, is_copy = surveyed("sharp", 1500, 300, seed)
        chosen = precision.propose(precision.curve(sample, plan.grid(FLOOR), 0.9), 0.9)
        if chosen is not None:
            proposed += 1
            wrong += is_copy[plan.at_least(sample.scores, chosen.threshold)].mean() < 0.9
    assert proposed > 40
    assert wrong <= 5  # 2.5 % are expected


def test_more_labels_are_asked_for_until_they_are_expected_to_show_it() -> None:
    sample, _ = surveyed("all true", 1500, 40, 0)
    more = precision.more_labels(sample, LIKELY, WANTED)
    assert more is not None
    assert set(more) <= set(sample.groups(LIKELY))
    enough, _ = surveyed("all true", 1500, 40 + 3 * sum(more.values()), 0)
    found = precision.at(enough, LIKELY, WANTED)
    assert found is not None
    assert found.precision.low >= WANTED


def test_no_number_of_labels_shows_what_is_not_so() -> None:
    sample, _ = surveyed("flat", 800, 100, 0)
    assert precision.more_labels(sample, LIKELY, WANTED) is None
    assert precision.hopeful(precision.curve(sample, [0.7, LIKELY], WANTED), WANTED) is None


def test_hope_ends_at_the_first_threshold_that_is_estimated_too_low() -> None:
    rows = [row(0.7, 0.1, 0.99), row(0.8, 0.1, 0.9), row(0.85, 0.5, 0.96), row(0.9, 0.6, 0.99)]
    chosen = precision.hopeful(rows, WANTED)
    assert chosen is not None
    assert chosen.threshold == 0.85


def test_zones_tell_the_share_that_was_seen() -> None:
    sample, _ = surveyed("all true", 1500, 200, 0)
    assert all(zone.expected > 0.8 for zone in sample.zones())
    assert sum(zone.units for zone in sample.zones()) == len(population(1500, 0))
