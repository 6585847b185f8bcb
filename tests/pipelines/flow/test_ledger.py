"""The ledger of a step: what it keeps, which units it leaves out, and what damage does to it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import artifacts
from curate.errors import CurateError
from curate.units import Outcome, run_in_process
from pipelines.flow.ledger import Failed, Record, StepBook, is_being_run


@dataclass(frozen=True)
class Unit:
    label: str


def double(unit: Unit) -> str:
    if unit.label.startswith("bad"):
        raise CurateError(f"{unit.label}: no")
    return unit.label * 2


def killing(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
    """A runner on which the units named deadly take their workers with them."""
    for unit in units:
        if unit.label.startswith("deadly"):
            yield Outcome(unit, error=f"{unit.label}: killed its worker", quarantined=True)
        else:
            yield from run_in_process(function, [unit])


def units(*labels: str) -> list[Unit]:
    return [Unit(label) for label in labels]


def test_a_record_reads_back_with_the_units_of_the_last_run(tmp_path: Path) -> None:
    book = StepBook(tmp_path, "embed/a/b")
    list(book.booked(run_in_process)(double, units("x", "y", "bad")))
    book.write(Record("partial", {"config": {"t": (1, 2)}}, outputs=("a", "b"), error="some"))
    found = StepBook(tmp_path, "embed/a/b").record()
    assert found is not None
    assert found.units == {"done": 2, "failed": 1, "quarantined": 0}
    assert (found.state, found.outputs, found.error) == ("partial", ("a", "b"), "some")
    assert found.identity == {"config": {"t": [1, 2]}}


def test_a_step_that_never_ran_has_no_record_and_no_failures(tmp_path: Path) -> None:
    book = StepBook(tmp_path, "x")
    assert (book.record(), book.failures()) == (None, [])
    assert not (tmp_path / "flow").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"outputs": 3}', '{"outputs": [], "x": 1}'])
def test_a_damaged_ledger_is_as_none(tmp_path: Path, text: str) -> None:
    book = StepBook(tmp_path, "x")
    book.write(Record("done", {}))
    for name in ("step.json", "failed.json"):
        (tmp_path / "flow" / "steps" / "x" / name).write_text(text)
    assert (book.record(), book.failures()) == (None, [])


def test_failures_are_noted_with_their_reasons_and_outcomes_pass_through(tmp_path: Path) -> None:
    book = StepBook(tmp_path, "x")
    found = list(book.booked(killing)(double, units("a", "bad", "deadly")))
    assert [one.result for one in found] == ["aa", None, None]
    book.keep_failures()
    assert book.failures() == [
        Failed("bad", "bad: no"),
        Failed("deadly", "deadly: killed its worker", quarantined=True),
    ]
    lines = book.log_path.read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "failed: bad: bad: no", "put aside: deadly: deadly: killed its worker",
    ]  # fmt: skip


def test_units_that_are_put_aside_are_left_out_until_they_are_forgotten(tmp_path: Path) -> None:
    list(StepBook(tmp_path, "x").booked(killing)(double, units("deadly", "a")))
    again = StepBook(tmp_path, "x")
    found = list(again.booked(run_in_process)(double, units("a", "deadly")))
    assert [(one.unit.label, one.result, one.quarantined) for one in found] == [
        ("deadly", None, True), ("a", "aa", False),
    ]  # fmt: skip
    assert again.units == {"done": 1, "failed": 0, "quarantined": 1}
    again.keep_failures()
    again.forget_failures()
    last = StepBook(tmp_path, "x")
    assert [one.result for one in last.booked(run_in_process)(double, units("deadly"))] == [
        "deadlydeadly"
    ]


def test_units_stay_aside_when_a_step_ends_before_it_comes_to_them(tmp_path: Path) -> None:
    """As one does that is stopped, or fails in an earlier stage."""
    list(StepBook(tmp_path, "x").booked(killing)(double, units("deadly")))
    stopped = StepBook(tmp_path, "x")
    list(stopped.booked(killing)(double, units("deadly too", "bad")))
    stopped.keep_failures()
    assert [one.unit for one in StepBook(tmp_path, "x").failures()] == [
        "bad", "deadly", "deadly too",
    ]  # fmt: skip
    unmet = StepBook(tmp_path, "x")
    unmet.booked(run_in_process)
    unmet.keep_failures()
    assert [one.unit for one in StepBook(tmp_path, "x").failures()] == ["deadly", "deadly too"]


def test_units_that_only_failed_are_run_again(tmp_path: Path) -> None:
    book = StepBook(tmp_path, "x")
    list(book.booked(run_in_process)(double, units("bad")))
    book.keep_failures()
    assert [one.error for one in StepBook(tmp_path, "x").booked(run_in_process)(
        lambda unit: unit.label, units("bad")
    )] == [None]  # fmt: skip


def test_a_unit_that_is_put_aside_is_noted_at_once(tmp_path: Path) -> None:
    outcomes = StepBook(tmp_path, "x").booked(killing)(double, units("deadly", "a"))
    next(outcomes)
    assert [one.unit for one in StepBook(tmp_path, "x").failures()] == ["deadly"]


def test_failures_that_are_no_more_are_forgotten(tmp_path: Path) -> None:
    first, second = StepBook(tmp_path, "x"), StepBook(tmp_path, "x")
    list(first.booked(run_in_process)(double, units("bad")))
    first.keep_failures()
    list(second.booked(run_in_process)(double, units("a")))
    second.keep_failures()
    assert second.failures() == []


def test_units_of_several_threads_are_all_noted(tmp_path: Path) -> None:
    book = StepBook(tmp_path, "x")
    run = book.booked(run_in_process)
    groups = [units(*(f"bad{n}-{k}" for k in range(20))) for n in range(4)]
    threads = [
        threading.Thread(target=lambda some=some: list(run(double, some))) for some in groups
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book.keep_failures()
    assert len(book.failures()) == 80
    assert len(book.log_path.read_text().splitlines()) == 80


def test_every_line_of_the_log_has_a_time_and_any_text_can_be_logged(tmp_path: Path) -> None:
    book = StepBook(tmp_path, "x")
    book.log("one\ntwo")
    book.log("three \udcff")
    lines = book.log_path.read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["one", "two", "three \\udcff"]
    assert all(line.startswith("20") and "+00:00 " in line for line in lines)


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    book = StepBook(tmp_path, "x")
    book.log_path.parent.mkdir(parents=True)
    book.log_path.symlink_to("/dev/full")
    with pytest.raises(CurateError, match=r"log\.txt: could not be written \(.*No space left"):
        book.log("one")


def test_a_run_is_being_run_while_its_lock_is_held_and_no_longer(tmp_path: Path) -> None:
    assert not is_being_run(tmp_path)
    with artifacts.run_lock(tmp_path):
        assert is_being_run(tmp_path)
    assert (tmp_path / ".lock").is_file()
    assert not is_being_run(tmp_path)
