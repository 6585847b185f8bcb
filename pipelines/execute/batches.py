"""Units in a worker: a few small ones in one task, each with retries and a limit of time."""

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from curate.errors import CurateError, GateError

_BACK_OFF_SECONDS = (0.1, 0.4, 1.6)
BATCH_SECONDS = 0.2
"""That small units are put together for."""
_LARGEST_BATCH = 128
_WEIGHT_OF_LATEST = 0.3


@dataclass(frozen=True)
class Policy:
    """How a unit is tried: how often again after a CurateError, and how many seconds at most."""

    retries: int = 0
    unit_timeout: float | None = None


@dataclass(frozen=True)
class UnitEnd:
    """How one unit ended in a worker: its result or an error, after how many seconds."""

    result: Any = None
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class BatchEnd:
    """How the units of a batch ended, in order.

    Attributes:
        ends: of the first units; shorter than the batch where a unit outlasted its time.
        stuck: address of the worker in which the unit after these still runs, else None.
    """

    ends: tuple[UnitEnd, ...]
    stuck: str | None = None


def try_unit(function: Callable[[Any], Any], unit: Any, retries: int) -> UnitEnd:
    """Run one unit, again after a CurateError; a promise that does not hold is not tried again."""
    start = time.perf_counter()
    for tried in range(retries + 1):
        try:
            result = function(unit)
        except CurateError as error:
            if tried == retries or isinstance(error, GateError):
                return UnitEnd(error=str(error), seconds=time.perf_counter() - start)
            time.sleep(_BACK_OFF_SECONDS[min(tried, len(_BACK_OFF_SECONDS) - 1)])
        else:
            return UnitEnd(result, seconds=time.perf_counter() - start)
    raise AssertionError("the last try returns")


def run_batch(function: Callable[[Any], Any], units: Sequence[Any], policy: Policy) -> BatchEnd:
    """Run units one after the other; stop at one that outlasts its time."""
    ends: list[UnitEnd] = []
    for unit in units:
        end = _try_in_time(function, unit, policy)
        if end is None:
            from distributed import get_worker

            return BatchEnd(tuple(ends), stuck=get_worker().address)
        ends.append(end)
    return BatchEnd(tuple(ends))


def _try_in_time(function: Callable[[Any], Any], unit: Any, policy: Policy) -> UnitEnd | None:
    """How the unit ended; None if it still runs after its time, in a thread that is left behind."""
    if policy.unit_timeout is None:
        return try_unit(function, unit, policy.retries)
    ended: list[UnitEnd | BaseException] = []
    context = copy_context()  # what `distributed.get_worker` is found by

    def run() -> None:
        try:
            ended.append(context.run(try_unit, function, unit, policy.retries))
        except BaseException as error:  # noqa: BLE001  # raised again in the worker's own thread
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True, name="curate-unit")
    thread.start()
    thread.join(policy.unit_timeout)
    if not ended:
        return None
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


class BatchSize:
    """How many units go into one task: as many as take a fifth of a second, by those before."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def learn(self, ends: Sequence[UnitEnd]) -> None:
        """Take note of the seconds of units; the latest batch counts for three tenths."""
        if not ends:
            return
        mean = sum(end.seconds for end in ends) / len(ends)
        weight = 1.0 if self._mean is None else _WEIGHT_OF_LATEST
        self._mean = weight * mean + (1 - weight) * (self._mean or 0.0)

    def choose(self, share: int) -> int:
        """How many units to send at once.

        Args:
            share: of the units not yet sent, that which leaves every worker some; a bound.
        """
        if self._mean is None:
            return 1
        wanted = int(BATCH_SECONDS / max(self._mean, 1e-6))
        return max(1, min(wanted, _LARGEST_BATCH, share))
