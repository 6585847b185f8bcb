"""The schedule of a flow, simulated: which worker takes which unit when, and what is waited for.

The rules are those of `pipelines.flow.run` and `pipelines.execute`: steps whose needs are done
begin in the order of the flow, one at a time in this process, else four side by side, of which no
two are of one kind (but for training); their units go to whichever worker is free, of the step that
has the fewest running. The same plan gives the same schedule.

A unit computes while it reads and writes, and ends when both are done; all units that move bytes
share the storage evenly. Its worker first loads what the unit needs and no earlier unit loaded.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DRIVER = -1
MOST = 10_000
"""Units of a phase that are told apart; a simulation of more takes longer and says no more."""


@dataclass(frozen=True)
class Work:
    """What one unit takes.

    Attributes:
        seconds: of its worker.
        bytes: of the storage, read and written.
        units: how many it stands for, where neighbours are put together.
    """

    seconds: float
    bytes: float = 0.0
    units: int = 1


@dataclass(frozen=True)
class Phase:
    """A part of a step that follows the one before.

    Attributes:
        works: of the units.
        on_driver: they run one after the other in the process that runs the flow, and no worker is
            taken; else on workers.
        gpu: they run on workers with a GPU only.
        loads: what a process loads once, and the seconds of it.
    """

    works: tuple[Work, ...]
    on_driver: bool = False
    gpu: bool = False
    loads: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Job:
    """A step as the schedule sees it.

    Attributes:
        name: of the step.
        kind: of the step; two of a kind take turns unless `is_free`.
        needs: names of the steps before it.
        phases: in order.
        is_free: it may run beside others of its kind.
    """

    name: str
    kind: str
    needs: tuple[str, ...]
    phases: tuple[Phase, ...]
    is_free: bool = False


@dataclass(frozen=True)
class Machines:
    """What units run on.

    Attributes:
        workers: processes, each with one unit at a time.
        gpus: how many of them have a GPU.
        bandwidth: bytes a second of the storage, for all together.
        link: bytes a second that one unit gets at most.
        dispatch: seconds of the scheduler for a unit; it serves one after the other.
        start: seconds until the first unit runs on a worker.
        side_by_side: steps at a time.
        in_process: the driver is the only worker.
        begin: seconds until the first step begins.
    """

    workers: int = 1
    gpus: int = 0
    bandwidth: float = math.inf
    link: float = math.inf
    dispatch: float = 0.0
    start: float = 0.0
    side_by_side: int = 1
    in_process: bool = True
    begin: float = 0.0


@dataclass
class Span:
    """When a step ran, and what it waited for.

    Attributes:
        begin: seconds from the start of the flow.
        end: likewise.
        after: the step whose end let it begin; None: it began at once.
        driver: seconds of its phases in the driver.
        spread: seconds of its phases on workers.
        storage: of those, in which some worker had computed and waited for bytes only.
        busy: seconds of workers, over all of them.
    """

    begin: float
    end: float = 0.0
    after: str | None = None
    driver: float = 0.0
    spread: float = 0.0
    storage: float = 0.0
    busy: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """When each step runs.

    Attributes:
        spans: by the name of the step, in the order in which they begin.
    """

    spans: dict[str, Span]

    @property
    def makespan(self) -> float:
        """Seconds from the first step's begin to the last one's end."""
        return max((span.end for span in self.spans.values()), default=0.0)

    @property
    def critical(self) -> list[str]:
        """The steps that follow each other without a pause up to the end, first to last."""
        if not self.spans:
            return []
        at: str | None = max(self.spans, key=lambda name: self.spans[name].end)
        path: list[str] = []
        while at is not None:
            path.append(at)
            at = self.spans[at].after
        return path[::-1]


def simulate(jobs: Sequence[Job], machines: Machines) -> Schedule:
    """Run the steps on paper.

    Args:
        jobs: each after those that it needs.
        machines: what they run on; a phase that needs a GPU where there is none runs on any worker.
    """
    return _Simulation(jobs, machines).schedule()


@dataclass
class _Running:
    """A step that is under way: its phase, and how many units of it are sent and ended."""

    job: Job
    span: Span
    phase: int = -1
    sent: int = 0
    ended: int = 0
    since: float = 0.0

    @property
    def now(self) -> Phase:
        return self.job.phases[self.phase]

    @property
    def active(self) -> int:
        return self.sent - self.ended

    @property
    def waits(self) -> bool:
        return self.sent < len(self.now.works)


class _Storage:
    """Bytes on their way, evenly shared.

    While none joins or leaves, each gets the same bytes a second; so one number, the bytes that
    somebody who was there from the beginning would have got, says when each is through.
    """

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._got = 0.0
        self._at = machines.begin
        self._ends: list[tuple[float, int]] = []

    @property
    def is_instant(self) -> bool:
        """Whether bytes take no time."""
        return math.isinf(min(self._machines.link, self._machines.bandwidth))

    def _rate(self) -> float:
        return min(self._machines.link, self._machines.bandwidth / max(1, len(self._ends)))

    def add(self, unit: int, size: float, now: float) -> None:
        self._advance(now)
        heapq.heappush(self._ends, (self._got + size, unit))

    def next_end(self) -> float:
        """When the first of those on their way is through, if none joins; else never."""
        if not self._ends:
            return math.inf
        return self._at + max(0.0, self._ends[0][0] - self._got) / self._rate()

    def pop(self) -> int:
        """The first that is through."""
        now, (got, unit) = self.next_end(), self._ends[0]
        self._at, self._got = now, got
        heapq.heappop(self._ends)
        return unit

    def _advance(self, now: float) -> None:
        if self._ends:
            self._got += (now - self._at) * self._rate()
        self._at = now


@dataclass
class _Unit:
    """A unit that runs; it ends when nothing of it is pending."""

    running: _Running
    worker: int
    begin: float
    pending: int = 1
    computed: float | None = None


class _Simulation:
    """Time goes on from event to event: a unit has computed, or its bytes are through."""

    def __init__(self, jobs: Sequence[Job], machines: Machines) -> None:
        self._machines = machines
        self._left = list(jobs)
        self._now = machines.begin
        self._last: str | None = None
        self._running: list[_Running] = []
        self._spans: dict[str, Span] = {}
        self._ended: set[str] = set()
        self._gpus = min(machines.gpus, machines.workers)
        self._with_gpu = list(range(self._gpus))  # heaps of those that are free
        self._plain = list(range(self._gpus, machines.workers))
        self._loaded: dict[int, set[str]] = defaultdict(set)
        self._computing: list[tuple[float, int]] = []
        self._storage = _Storage(machines)
        self._units: dict[int, _Unit] = {}
        self._numbers = itertools.count()
        self._dispatched = 0.0
        self._is_up = machines.in_process

    def schedule(self) -> Schedule:
        self._begin_steps()
        while self._units:
            computed = self._computing[0][0] if self._computing else math.inf
            through = self._storage.next_end()
            if computed <= through:
                self._now, number = heapq.heappop(self._computing)
                self._units[number].computed = self._now
            else:
                self._now, number = through, self._storage.pop()
            self._part_ended(number)
            self._send()
        return Schedule(self._spans)

    # --- steps ------------------------------------------------------------------------------------

    def _begin_steps(self) -> None:
        """Begin every step that can be begun now, and send what can be sent."""
        while (
            len(self._running) < self._machines.side_by_side and (job := self._ready()) is not None
        ):
            self._left.remove(job)
            span = Span(self._now, after=self._last)
            self._spans[job.name] = span
            running = _Running(job, span)
            self._running.append(running)
            self._next_phase(running)
        self._send()

    def _ready(self) -> Job | None:
        busy = {one.job.kind for one in self._running if not one.job.is_free}
        ready = (
            job for job in self._left if job.kind not in busy and self._ended.issuperset(job.needs)
        )
        return next(ready, None)

    def _next_phase(self, running: _Running) -> None:
        """Go on to the next phase that has units, or end the step."""
        self._close_phase(running)
        while True:
            running.phase += 1
            running.sent = running.ended = 0
            running.since = self._now
            if running.phase == len(running.job.phases):
                break
            if running.now.works:
                return
        running.span.end = self._now
        self._running.remove(running)
        self._ended.add(running.job.name)
        self._last = running.job.name
        self._begin_steps()

    def _close_phase(self, running: _Running) -> None:
        if running.phase < 0:
            return
        took = self._now - running.since
        if running.now.on_driver:
            running.span.driver += took
        else:
            running.span.spread += took

    # --- units ------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Give every free worker a unit, and the driver its own."""
        for running in self._running:
            if running.now.on_driver and running.waits and not running.active:
                self._start(running, _DRIVER)
        while True:
            chosen = self._choose()
            if chosen is None:
                return
            self._start(*chosen)

    def _choose(self) -> tuple[_Running, int] | None:
        """The step with the fewest units running that a free worker can serve."""
        waiting = [one for one in self._running if not one.now.on_driver and one.waits]
        for running in sorted(waiting, key=lambda one: one.active):
            worker = self._take_worker(needs_gpu=running.now.gpu and self._gpus > 0)
            if worker is not None:
                return running, worker
        return None

    def _take_worker(self, *, needs_gpu: bool) -> int | None:
        """A free worker; one without a GPU is taken first where none is needed."""
        pools = [self._with_gpu] if needs_gpu else [self._plain, self._with_gpu]
        for pool in pools:
            if pool:
                return heapq.heappop(pool)
        return None

    def _start(self, running: _Running, worker: int) -> None:
        work = running.now.works[running.sent]
        running.sent += 1
        begin = self._now if worker == _DRIVER else self._dispatch(work.units)
        process = 0 if self._machines.in_process else worker
        lacking = [one for one in running.now.loads if one[0] not in self._loaded[process]]
        self._loaded[process].update(name for name, _ in lacking)
        number = next(self._numbers)
        unit = self._units[number] = _Unit(running, worker, self._now)
        end = begin + work.seconds + sum(seconds for _, seconds in lacking)
        heapq.heappush(self._computing, (end, number))
        if work.bytes and not self._storage.is_instant:
            unit.pending = 2
            self._storage.add(number, work.bytes, self._now)

    def _dispatch(self, units: int) -> float:
        """When what is sent now begins; the scheduler takes its time for each unit of it."""
        start = 0.0 if self._is_up else self._machines.start
        self._is_up = True
        begin = max(self._now + start, self._dispatched) + units * self._machines.dispatch
        self._dispatched = begin
        return begin

    def _part_ended(self, number: int) -> None:
        unit = self._units[number]
        unit.pending -= 1
        if unit.pending:
            return
        del self._units[number]
        running = unit.running
        running.ended += 1
        if unit.worker != _DRIVER:
            running.span.busy += self._now - unit.begin
            computed = self._now if unit.computed is None else unit.computed
            running.span.storage += self._now - computed
            pool = self._with_gpu if unit.worker < self._gpus else self._plain
            heapq.heappush(pool, unit.worker)
        if running.ended == len(running.now.works):
            self._next_phase(running)


def grouped(works: Iterator[Work] | Sequence[Work], most: int = MOST) -> tuple[Work, ...]:
    """The same work in at most so many units, neighbours together, so that a simulation ends soon.

    Args:
        works: of all units.
        most: units to leave.
    """
    known = tuple(works)
    if len(known) <= most:
        return known
    size = math.ceil(len(known) / most)
    parts = (known[at : at + size] for at in range(0, len(known), size))
    return tuple(
        Work(sum(w.seconds for w in p), sum(w.bytes for w in p), sum(w.units for w in p))
        for p in parts
    )
