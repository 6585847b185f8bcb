"""Killing the processes of a run at moments drawn from a seed, and seeing that it ends well."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import psutil
from campaign import differences, failures, left_by, problems_of, records, running
from dask_processes import Processes, dask_processes, free_port, kill_group, until, workers_of

from curate.errors import PartialRunError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from campaign import Study

Victim = Literal["client", "group", "worker", "scheduler"]
"""client: `curate` alone; group: with its workers; worker: of its own or of another's cluster, or a
process that fetches."""

_LONGEST_RUN_SECONDS = 240
_LONGEST_PAUSE_SECONDS = 8


@dataclass(frozen=True)
class Moment:
    """When to kill: so far into a step, as a share of the time that it takes undisturbed."""

    step: str
    share: float


@dataclass
class Tally:
    """What was killed where, and how runs ended.

    Attributes:
        kills: by victim and by the steps that were being done.
        ends: of runs, in words.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    def took(self, victim: Victim, run: Path) -> None:
        """Note a kill, and in which kind of step it was."""
        steps = running(run)
        kinds = sorted({name.partition("/")[0] for name in steps}) or ["between steps"]
        self.kills[victim, " + ".join(kinds)] += 1

    def to_json(self) -> dict[str, object]:
        """Kills by victim and stage, and ends."""
        by_victim: dict[str, dict[str, int]] = {}
        for (victim, stage), count in sorted(self.kills.items()):
            by_victim.setdefault(victim, {})[stage] = count
        ends = dict(sorted(self.ends.items()))
        return {"kills": by_victim, "total": self.kills.total(), "ends": ends}


def moments(seconds: dict[str, float], count: int, chance: random.Random) -> list[Moment]:
    """So many moments in all steps by turns, in the order of steps; some soon after a beginning."""
    names = list(seconds)
    drawn = [Moment(names[at % len(names)], chance.random()) for at in range(count)]
    return sorted(drawn, key=lambda moment: (names.index(moment.step), moment.share))


@dataclass(frozen=True)
class Going:
    """A command on its way.

    Attributes:
        process: the command.
        run: its run folder.
        before: when records of steps were written before it began.
    """

    process: subprocess.Popen[bytes]
    run: Path
    before: dict[Path, int]

    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.process.poll() is not None

    def state(self, step: str) -> str | None:
        """Of a step: None as long as this command is yet to begin it."""
        if self.has_ended():
            return "ended"
        path = self.run / "flow" / "steps" / step / "step.json"
        try:
            state = str(json.loads(path.read_bytes())["state"])
            is_new = path.stat().st_mtime_ns != self.before.get(path)
        except FileNotFoundError:
            return None
        return state if is_new or state == "done" else None


class Campaign:
    """Runs of one study that are killed; each is to end as the undisturbed one did."""

    def __init__(
        self, study: Study, expected: dict[str, str], seconds: dict[str, float], seed: int
    ) -> None:
        self.study = study
        self.tally = Tally()
        self._expected = expected
        self._seconds = seconds
        self._chance = random.Random(seed)
        self._number = 0

    def _new_run(self) -> Path:
        self._number += 1
        return self.study.folder / f"run{self._number}"

    # --- the client -------------------------------------------------------------------------------

    def kill_clients(self, victim: Literal["client", "group"], count: int, *settings: str) -> None:
        """Kill the command so many times on its way through a run, then let it finish."""
        family: list[psutil.Process] = []
        while count > 0:
            run = self._new_run()
            for moment in moments(self._seconds, count, self._chance):
                with self._started(run, *settings) as going:
                    self._await(going, moment)
                    if going.process.poll() is not None:
                        break
                    family += psutil.Process(going.process.pid).children(recursive=True)
                    if victim == "group":
                        kill_group(going.process)
                    going.process.kill()
                    going.process.wait()
                    self.tally.took(victim, run)
                    count -= 1
            done = self.study.run(run, *settings)
            assert done.returncode == 0, done.stdout + done.stderr
            self._compare(run, 0)
        _expect_gone(family)

    # --- workers ----------------------------------------------------------------------------------

    def kill_workers(self, count: int, *settings: str) -> None:
        """Kill workers of a local cluster so many times, over as many runs as that takes."""
        while count > 0:
            run = self._new_run()
            with self._started(run, *settings) as going:
                for moment in self._one_each(count):
                    if self._await(going, moment):
                        count -= self._kill_a_worker(going)
                going.process.wait(_LONGEST_RUN_SECONDS)
            self._compare(run, going.process.returncode)

    def _kill_a_worker(self, going: Going) -> bool:
        """Kill one, if there is any yet."""
        workers = workers_of(going.process.pid)
        if workers:
            with suppress(psutil.NoSuchProcess):
                self._chance.choice(workers).kill()
            self.tally.took("worker", going.run)
        return bool(workers)

    # --- scheduler and workers that others started ------------------------------------------------

    def kill_cluster(self, schedulers: int, workers: int, *settings: str) -> None:
        """Kill scheduler and workers of a running cluster, which is brought back each time."""
        kills: list[Victim] = ["scheduler"] * schedulers + ["worker"] * workers
        self._chance.shuffle(kills)
        with dask_processes() as processes:
            cluster = RunningCluster(processes)
            words = ("cluster.kind=tcp", f"cluster.address={cluster.address}", *settings)
            while kills:
                run = self._new_run()
                with self._started(run, *words) as going:
                    for moment in self._one_each(len(kills)):
                        if self._await(going, moment, cluster.tend):
                            victim = kills.pop()
                            cluster.kill(victim, self._chance)
                            self.tally.took(victim, run)
                    assert until(going.has_ended, _LONGEST_RUN_SECONDS, cluster.tend)
                self._compare(run, going.process.returncode)

    # --- what they share --------------------------------------------------------------------------

    @contextmanager
    def _started(self, run: Path, *settings: str) -> Iterator[Going]:
        """The command; whatever happens, it does not outlive the block."""
        before = {path: path.stat().st_mtime_ns for path in run.rglob("step.json")}
        going = Going(self.study.start(self.study.words(run, *settings), self._log), run, before)
        try:
            yield going
        finally:
            kill_group(going.process)

    @property
    def _log(self) -> Path:
        return self.study.folder / "log.txt"

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def _one_each(self, at_most: int) -> list[Moment]:
        """A moment in each of some steps, in the order of steps."""
        names = list(self._seconds)
        chosen = sorted(self._chance.sample(range(len(names)), min(at_most, len(names))))
        return [Moment(names[at], self._chance.random()) for at in chosen]

    def _await(self, going: Going, moment: Moment, tend: Callable[[], None] = lambda: None) -> bool:
        """Wait for a moment; False if it does not come, as the step is done or the run ends."""
        until(lambda: going.state(moment.step) is not None, _LONGEST_RUN_SECONDS, tend)
        if going.state(moment.step) != "running":
            return False
        pause = min(moment.share * self._seconds[moment.step], _LONGEST_PAUSE_SECONDS)
        until(going.has_ended, pause, tend)
        return not going.has_ended()

    def _compare(self, run: Path, code: int) -> None:
        """See that a run left what the undisturbed one did, or an exact list, and then does.

        Args:
            run: the run folder, which is removed.
            code: how the command ended.
        """
        if code == 0:
            self.tally.ends["done"] += 1
        else:
            assert code == PartialRunError.exit_code, self._log_tail()
            expect_an_exact_list(run)
            self.tally.ends["partial with an exact list, then finished by retry"] += 1
            done = self.study.retry(run)
            assert done.returncode == 0, done.stdout + done.stderr
        assert not running(run)
        assert not differences(left_by(run), self._expected)
        assert not problems_of(run)
        shutil.rmtree(run)


class RunningCluster:
    """A scheduler and two workers that come back when they end, as a cluster's service would."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._port = free_port()
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._scheduler = processes.scheduler(self._port)
        self._workers = [self._worker() for _ in range(2)]

    def _worker(self) -> subprocess.Popen[bytes]:
        return self._processes.worker(self.address, "--death-timeout", "60")

    def tend(self) -> None:
        """Start again what has ended."""
        if self._scheduler.poll() is not None:
            self._scheduler = self._processes.scheduler(self._port)
        for at, worker in enumerate(self._workers):
            if worker.poll() is not None:
                kill_group(worker)
                self._workers[at] = self._worker()

    def kill(self, victim: Victim, chance: random.Random) -> None:
        """Kill the scheduler, a worker with its nanny, or only the worker."""
        if victim == "scheduler":
            kill_group(self._scheduler)
            return
        worker = chance.choice(self._workers)
        inner = workers_of(worker.pid)
        if inner and chance.random() < 0.5:
            with suppress(psutil.NoSuchProcess):
                inner[0].kill()
        else:
            kill_group(worker)


def expect_an_exact_list(run: Path) -> None:
    """Every step is done, failed with its units or a reason, or waits for such a one."""
    known = records(run)
    failed = failures(run)
    for name, record in known.items():
        assert record["state"] in ("done", "partial", "failed", "stopped"), (name, record)
        if record["state"] == "done":
            assert name not in failed, name
        else:
            assert record["error"], name
            counted = record["units"]["failed"] + record["units"]["quarantined"]
            assert len(failed.get(name, ())) == counted, (name, record, failed)


def _expect_gone(family: Sequence[psutil.Process]) -> None:
    """Workers whose client was killed end by themselves, and so does what they started."""
    _, alive = psutil.wait_procs(family, timeout=30)
    left = [one.cmdline() for one in alive if one.is_running()]
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    assert not left
