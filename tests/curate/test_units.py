"""A failed unit is told of when all others are done."""

from dataclasses import dataclass

import pytest

from curate.errors import CurateError, PartialRunError
from curate.units import Outcome, results, run_in_process, unit_name


def double(unit: int) -> int:
    if unit < 0:
        raise CurateError(f"{unit} is negative")
    return 2 * unit


def test_results_come_from_all_units() -> None:
    assert results(run_in_process(double, [1, 2, 3]), "double") == [2, 4, 6]


def test_failed_units_are_named_after_the_others_ran() -> None:
    ran = []

    def noting(unit: int) -> int:
        ran.append(unit)
        return double(unit)

    with pytest.raises(
        PartialRunError, match=r"2 of 4 units failed(.|\n)*-1 is negative"
    ) as caught:
        results(run_in_process(noting, [-1, 5, -2, 6]), "double")
    assert ran == [-1, 5, -2, 6]
    assert caught.value.exit_code == 3


def test_a_long_list_of_failures_is_shortened_and_counted() -> None:
    outcomes = (Outcome(n, error=f"broken {n}") for n in range(50))
    with pytest.raises(PartialRunError, match="and 30 more"):
        results(outcomes, "stage")


def test_a_programming_error_is_not_taken_for_bad_input() -> None:
    with pytest.raises(ZeroDivisionError):
        results(run_in_process(lambda unit: 1 // unit, [0]), "stage")


@dataclass(frozen=True)
class Named:
    label: str


def test_a_unit_is_named_by_its_label_or_what_it_is() -> None:
    assert unit_name(Named("embed 3")) == "embed 3"
    assert unit_name((1, "a")) == "(1, 'a')"
