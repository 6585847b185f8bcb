"""Units of work: how a stage asks for many to be run, and how they are run in this process.

A stage takes a `RunUnits`; which one (in process, on Dask) is for the caller to choose. A unit is
idempotent: it may run twice, and only its renamed output counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from curate.errors import CurateError, PartialRunError


@dataclass(frozen=True)
class Outcome:
    """What became of one unit: its result, or the error that ended it.

    Attributes:
        unit: as it was given.
        result: what the function returned.
        error: why there is no result.
        quarantined: the unit kills its workers or never ends, so that it is not tried again.
    """

    unit: Any
    result: Any = None
    error: str | None = None
    quarantined: bool = False


def unit_name(unit: Any) -> str:
    """A unit in words, the same from run to run: its `label`, if it has one."""
    name = getattr(unit, "label", None)
    return str(name) if name is not None else repr(unit)


class RunUnits(Protocol):
    """Runs a function over units and yields outcomes as they come, in any order."""

    def __call__(self, function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        """Yield one outcome per unit."""
        ...


def run_in_process(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
    """Run units one after the other here."""
    for unit in units:
        try:
            result = function(unit)
        except CurateError as error:
            yield Outcome(unit, error=str(error))
        else:
            yield Outcome(unit, result)


def results(outcomes: Iterator[Outcome], stage: str) -> list[Any]:
    """The results of all units.

    Raises:
        PartialRunError: some unit failed; raised when all others are done.
    """
    done, failed = [], []
    for outcome in outcomes:
        if outcome.error is None:
            done.append(outcome.result)
        else:
            failed.append(outcome.error)
    if failed:
        shown = "\n".join(f"  {error}" for error in sorted(failed)[:20])
        more = f"\n  and {len(failed) - 20} more" if len(failed) > 20 else ""  # noqa: PLR2004
        raise PartialRunError(
            f"{stage}: {len(failed)} of {len(failed) + len(done)} units failed; the others are "
            f"kept, and the same command redoes these only:\n{shown}{more}"
        )
    return done
