"""Units of a batch, as a worker runs them."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError, GateError
from pipelines.execute.batches import BatchSize, Policy, UnitEnd, run_batch, try_unit


def failing(times: int, error: type[CurateError] = CurateError) -> Callable[[int], int]:
    left = [times]

    def function(unit: int) -> int:
        if left[0]:
            left[0] -= 1
            raise error(f"unit {unit} failed")
        return unit

    return function


def test_a_unit_is_tried_again_as_often_as_allowed() -> None:
    assert try_unit(failing(2), 7, retries=2).result == 7
    assert try_unit(failing(3), 7, retries=2).error == "unit 7 failed"
    assert try_unit(failing(1), 7, retries=0).error == "unit 7 failed"


def test_a_promise_that_does_not_hold_is_not_tried_again() -> None:
    function = failing(1, GateError)
    assert try_unit(function, 7, retries=5).error == "unit 7 failed"
    assert try_unit(function, 7, retries=0).result == 7


def test_the_pause_between_tries_is_short_and_grows() -> None:
    seconds = try_unit(failing(2), 7, retries=2).seconds
    assert 0.5 <= seconds < 1.5


def test_ends_come_in_the_order_of_units() -> None:
    ends = run_batch(failing(1), [1, 2, 3], Policy(retries=0)).ends
    assert [(end.result, end.error) for end in ends] == [
        (None, "unit 1 failed"), (2, None), (3, None),
    ]  # fmt: skip


def test_a_limit_of_time_changes_nothing_for_units_within_it() -> None:
    policy = Policy(retries=1, unit_timeout=5)
    assert run_batch(failing(1), [1, 2], policy).ends[1].result == 2
    with pytest.raises(ZeroDivisionError):
        run_batch(lambda unit: unit // 0, [1], policy)


def test_a_batch_is_one_unit_before_anything_is_known() -> None:
    assert BatchSize().choose(1000) == 1


@pytest.mark.parametrize(("seconds", "size"), [(0.001, 100), (0.09, 2), (10.0, 1), (0.0, 100)])
def test_a_batch_takes_about_a_fifth_of_a_second_within_its_share(
    seconds: float, size: int
) -> None:
    sizes = BatchSize()
    sizes.learn([UnitEnd(seconds=seconds)] * 3)
    assert sizes.choose(100) == size


@given(st.lists(st.floats(0, 1e4), max_size=20), st.integers(0, 10**7))
def test_a_batch_is_never_empty_nor_large(seconds: list[float], share: int) -> None:
    sizes = BatchSize()
    for value in seconds:
        sizes.learn([UnitEnd(seconds=value)])
    assert 1 <= sizes.choose(share) <= 128


def test_the_size_follows_units_that_become_slow() -> None:
    sizes = BatchSize()
    sizes.learn([UnitEnd(seconds=0.001)])
    for _ in range(20):
        sizes.learn([UnitEnd(seconds=1.0)])
    assert sizes.choose(1000) == 1
    sizes.learn([])
    assert sizes.choose(1000) == 1


def test_the_seconds_of_a_unit_are_measured() -> None:
    assert try_unit(time.sleep, 0.05, retries=0).seconds >= 0.05
