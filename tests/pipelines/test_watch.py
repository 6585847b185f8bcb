"""A watched runner gives what the runner gives, and tells of it."""

from pathlib import Path

from curate.units import run_in_process
from pipelines.watch import Watch, watched


def count(unit: int) -> dict[str, dict[str, int]]:
    return {"counts": {"success": unit, "zero_bytes": 1}}


def test_every_unit_and_its_images_are_told_of() -> None:
    told: list[tuple[int, int]] = []
    runner = watched(run_in_process, lambda steps, images: told.append((steps, images)))
    found = [outcome.result for outcome in runner(count, [2, 5])]
    assert found == [count(2), count(5)]
    assert told == [(1, 3), (1, 6)]


def test_units_that_count_nothing_are_steps_without_images() -> None:
    told: list[tuple[int, int]] = []
    runner = watched(run_in_process, lambda steps, images: told.append((steps, images)))
    assert [outcome.result for outcome in runner(Path, ["a"])] == [Path("a")]
    assert told == [(1, 0)]


def test_by_default_nobody_is_told() -> None:
    watch = Watch()
    watch.stage("embed", 3)
    watch.step(1, 0)
