"""Feeding units to a cluster: a bounded number at a time, each of which has one outcome."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from curate.errors import CurateError
from curate.units import Outcome, unit_name
from pipelines.execute.batches import BatchEnd, BatchSize, Policy, run_batch
from pipelines.execute.link import Link
from pipelines.execute.stopping import Stopping

_BATCHES_PER_THREAD = 3
_POLL_SECONDS = 0.5
_RESULT_SECONDS = 10


@dataclass(frozen=True)
class _Sent:
    """Units that went out as one task; `alone`: nothing else of this run is with them."""

    units: tuple[Any, ...]
    alone: bool = False


class Dispatch:
    """One call of a stage: its units on their way to workers and back.

    Dask holds every task that a lost worker had been given for suspect, also those that only
    waited there. So units whose task died with its workers run again, one by one, when all others
    are done; the one that kills workers then is the one to blame.
    """

    def __init__(
        self,
        link: Link,
        stop: Stopping,
        call: tuple[Callable[[Any], Any], Sequence[Any]],
        needs: Mapping[str, float],
    ) -> None:
        self._link = link
        self._stop = stop
        self._function, units = call
        self._needs = dict(needs)
        self._policy = Policy(link.config.retries, link.config.unit_timeout)
        self._waiting = iter(units)
        self._unsent = len(units)
        self._again: deque[tuple[Any, ...]] = deque()
        self._suspects: deque[Any] = deque()
        self._running: dict[Any, _Sent] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._size = BatchSize()
        self._drained = False
        self._isolating = False
        self._patience = link.patience()

    def outcomes(self) -> Iterator[Outcome]:
        """Yield one outcome per unit, in the order in which they end.

        Raises:
            PartialRunError: the run is to stop, or the cluster is lost.
            CurateError: no worker offers what the stage needs.
        """
        try:
            while True:
                if self._stop.at_once:
                    self._stop.check()
                if self._stop.requested:
                    self._drain()
                else:
                    self._fill()
                if not self._running and not self._left():
                    break
                for future in self._ended_futures():
                    yield from self._take(future)
            self._stop.check()
        finally:
            self._leave()

    def _left(self) -> bool:
        if self._stop.requested:
            return False
        return bool(self._unsent or self._again or self._suspects)

    # --- sending ----------------------------------------------------------------------------------

    def _fill(self) -> None:
        workers = self._link.workers(self._needs, self._patience)
        # A cluster that adapts starts workers for tasks that wait, so some wait for those to come.
        to_come = self._link.config.adaptive.maximum if self._link.config.adaptive else 0
        threads = max(sum(worker.threads for worker in workers), to_come)
        room = _BATCHES_PER_THREAD * threads - len(self._running)
        for _ in range(room):
            units = self._next(threads)
            if not units:
                break
            self._send(_Sent(units))
        if workers and not self._running and self._suspects and self._isolate():
            self._send(_Sent((self._suspects.popleft(),), alone=True))

    def _next(self, threads: int) -> tuple[Any, ...]:
        if self._again:
            return self._again.popleft()
        size = self._size.choose(self._unsent // (_BATCHES_PER_THREAD * threads))
        units = tuple(islice(self._waiting, size))
        self._unsent -= len(units)
        return units

    def _isolate(self) -> bool:
        self._isolating = self._isolating or self._link.isolation.acquire(blocking=False)
        return self._isolating

    def _send(self, sent: _Sent) -> None:
        future = self._link.client.submit(
            run_batch, self._function, sent.units, self._policy,
            key=f"{_name(self._function)}-{uuid4().hex}", pure=False,
            resources=self._needs or None,
        )  # fmt: skip
        self._running[future] = sent
        future.add_done_callback(self._ended.put)

    # --- receiving --------------------------------------------------------------------------------

    def _ended_futures(self) -> list[Any]:
        """Tasks that have ended, waiting half a second for one; lost ones tell nobody, so look."""
        try:
            found = [self._ended.get(timeout=_POLL_SECONDS)]
        except Empty:
            self._link.workers(self._needs, self._patience)
            found = [f for f in self._running if f.status in ("cancelled", "lost")]
        return [future for future in found if future in self._running]

    def _take(self, future: Any) -> Iterator[Outcome]:
        from distributed import KilledWorker

        status = future.status
        if status == "finished":
            try:
                end = future.result(timeout=_RESULT_SECONDS)
            except (TimeoutError, OSError, CancelledError):
                # Its worker, or the link, went before the result was here: it is computed again.
                future.add_done_callback(self._ended.put)
                return
            yield from self._received(self._running.pop(future), end)
            future.release()
        elif status == "error":
            try:
                future.result(timeout=_RESULT_SECONDS)
            except KilledWorker:
                yield from self._killed(self._running.pop(future))
            except RuntimeError as error:
                if "deserialization" not in str(error):
                    raise
                raise CurateError(
                    f"{self._link.config.address or 'cluster'}: its workers or its scheduler "
                    f"cannot load {_name(self._function)}; install the same curate there "
                    f"({error.__cause__ or error})."
                ) from error
        elif status in ("cancelled", "lost"):
            # The link to the scheduler was lost and made again: it knows nothing of the task.
            self._again.append(self._running.pop(future).units)
        else:
            future.add_done_callback(self._ended.put)

    def _received(self, sent: _Sent, end: BatchEnd) -> Iterator[Outcome]:
        self._size.learn(end.ends)
        for unit, ended in zip(sent.units, end.ends, strict=False):
            yield Outcome(unit, ended.result, ended.error)
        if end.stuck is None:
            return
        hanging, *rest = sent.units[len(end.ends) :]
        self._again.extend((unit,) for unit in rest)
        self._link.restart(end.stuck)
        yield _quarantined(hanging, f"took more than {self._policy.unit_timeout:g} seconds")

    def _killed(self, sent: _Sent) -> Iterator[Outcome]:
        if sent.alone:
            yield _quarantined(sent.units[0], "its worker died repeatedly while it ran alone")
        else:
            self._suspects.extend(sent.units)

    # --- leaving ----------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Let go of what has not begun; what runs is waited for."""
        if self._drained:
            return
        self._drained = True
        executing = self._link.executing()
        if executing is None:
            return
        queued = [f for f in self._running if not f.done() and f.key not in executing]
        for future in queued:
            del self._running[future]
        self._link.client.cancel(queued)

    def _leave(self) -> None:
        if self._isolating:
            self._link.isolation.release()
        if self._running:
            with suppress(Exception):  # the cluster may be gone, which has been said already
                self._link.client.cancel(list(self._running))


def _quarantined(unit: Any, why: str) -> Outcome:
    return Outcome(unit, error=f"{unit_name(unit):.200}: quarantined, {why}", quarantined=True)


def _name(function: Any) -> str:
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", type(inner).__name__))
