import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.calibration.counts import Estimate, Judged, total
from curate.stats import wilson

ENDLESS = 10**9


@st.composite
def groups(draw: st.DrawFn) -> Judged:
    counts = [draw(st.integers(0, 12)) for _ in range(3)]
    return Judged(sum(counts) + draw(st.integers(0, 40)), *counts)


@pytest.mark.parametrize(("copies", "drawn"), [(0, 100), (3, 100), (50, 100), (100, 100), (1, 2)])
def test_one_endless_group_has_wilsons_interval(copies: int, drawn: int) -> None:
    found = total([Judged(ENDLESS, copies, drawn - copies)]).of(ENDLESS)
    assert (found.low, found.high) == pytest.approx(wilson(copies, drawn), abs=1e-6)
    assert found.value == pytest.approx(copies / drawn)


def test_groups_drawn_from_at_the_same_rate_are_no_less_certain_than_one() -> None:
    one = total([Judged(ENDLESS, 100)]).of(ENDLESS)
    four = total([Judged(ENDLESS // 4, 25)] * 4).of(ENDLESS)
    assert four.high == one.high == 1
    assert one.low - 0.005 < four.low <= one.low


def test_labels_that_are_all_alike_leave_room_for_others() -> None:
    found = total([Judged(500, 30), Judged(100, 10)])
    assert found.value == found.high == 600
    assert found.low < 580
    found = total([Judged(500, 0, 30), Judged(100, 0, 10)])
    assert found.value == found.low == 0
    assert found.high > 20


def test_judging_everything_leaves_no_doubt() -> None:
    assert total([Judged(10, 7, 3), Judged(4, 0, 4)]) == Estimate(7.0, 7.0, 7.0)


def test_unsure_ones_count_as_none_at_the_low_end_and_as_copies_at_the_high_end() -> None:
    sure = total([Judged(1000, 50, 50)])
    unsure = total([Judged(1000, 50, 50, 20)])
    assert unsure.value == sure.value
    assert unsure.low == pytest.approx(total([Judged(1000, 50, 70)]).low)
    assert unsure.high == pytest.approx(total([Judged(1000, 70, 50)]).high)
    assert unsure.low < sure.low < sure.high < unsure.high


def test_a_group_that_nobody_looked_into_may_hold_anything() -> None:
    found = total([Judged(100, 10), Judged(30)])
    assert found.value is None
    assert found.high == 130
    assert found.low == total([Judged(100, 10)]).low
    assert total([Judged(30)]) == Estimate(None, 0, 30)
    assert total([]) == Estimate(0, 0, 0)


@given(st.lists(groups(), max_size=6))
def test_an_interval_holds_the_estimate_and_what_is_possible(given: list[Judged]) -> None:
    found = total(given)
    seen = sum(group.copies for group in given)
    possible = sum(group.items - group.different for group in given)
    assert seen <= found.low <= found.high <= possible
    if found.value is not None:
        assert found.low - 1e-6 <= found.value <= found.high + 1e-6
    wider = total(given, confidence=0.99)
    assert wider.low <= found.low + 1e-6
    assert wider.high >= found.high - 1e-6


@given(st.lists(groups(), min_size=1, max_size=4))
def test_turning_every_answer_around_turns_the_interval_around(given: list[Judged]) -> None:
    turned = [Judged(g.items, g.different, g.copies, g.unsure) for g in given]
    one, other = total(given), total(turned)
    whole = sum(group.items for group in given)
    assert one.low + other.high == pytest.approx(whole, abs=1e-4)


def test_the_limits_are_the_totals_that_the_score_test_just_does_not_reject() -> None:
    """Against a slow twin: all pairs of shares on a fine grid, the likeliest per total."""
    given = [Judged(ENDLESS, 4, 16), Judged(3 * ENDLESS, 9, 3)]
    found = total(given).of(4 * ENDLESS)
    draws = [group.drawn - 0.5 for group in given]
    steps = [step / 800 for step in range(1, 800)]
    best: dict[int, tuple[float, float, float]] = {}
    for p, q in product(steps, steps):
        whole = (p + 3 * q) / 4
        likely = sum(
            n * (k * math.log(x) + (1 - k) * math.log(1 - x))
            for n, k, x in ((draws[0], 0.2, p), (draws[1], 0.75, q))
        )
        error = p * (1 - p) / draws[0] / 16 + 9 * q * (1 - q) / draws[1] / 16
        key = round(whole * 400)
        best[key] = max(best.get(key, (-math.inf, 0, 0)), (likely, whole, error))
    at = (0.2 + 3 * 0.75) / 4
    kept = [whole for _, whole, error in best.values() if abs(whole - at) <= 1.96 * error**0.5]
    assert (found.low, found.high) == pytest.approx((min(kept), max(kept)), abs=0.005)
