"""Telling how far a run is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curate.units import Outcome, RunUnits


@dataclass(frozen=True)
class Watch:
    """Whom to tell how far a run is; the defaults tell nobody.

    Attributes:
        stage: called with a stage's name and its number of steps (units or vectors).
        step: called with how many steps more are done, and how many images they were.
    """

    stage: Callable[[str, int], None] = lambda _name, _total: None
    step: Callable[[int, int], None] = lambda _steps, _images: None


def watched(run_units: RunUnits, step: Callable[[int, int], None]) -> RunUnits:
    """The same runner, telling of every unit that is done."""

    def run(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for outcome in run_units(function, units):
            counts = outcome.result.get("counts", {}) if isinstance(outcome.result, dict) else {}
            step(1, sum(counts.values()))
            yield outcome

    return run
