"""Starting processes of their own on workers, by `torchrun` where they are several: for training.

One process alone is started as it is: `torchrun` would import torch once more to start the same.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from curate.errors import CurateError, PartialRunError
from pipelines.execute.clusters import ALLOCATION
from pipelines.execute.link import Link, WorkerInfo
from pipelines.execute.runner import Runner

_POLL_SECONDS = 0.3
_STOP_SECONDS = 10
_STOPPED = 130  # exit code of what was interrupted
_KILLED = 128 + signal.SIGKILL
_TAIL = 2000  # characters of the log that an error shows


class LostWorkerError(PartialRunError):
    """A worker that took part is no more, or its process; what it trained can go on elsewhere."""


@dataclass(frozen=True)
class Torchrun:
    """What is to be started.

    Attributes:
        argv: a module or script with its options: `("-m", "pipelines", "train", ...)`.
        log: gets what the processes print; further nodes write to LOG.1, LOG.2 and so on.
        processes: on each node.
        nodes: workers that take part at once, on as many hosts as there are.
    """

    argv: tuple[str, ...]
    log: Path
    processes: int = 1
    nodes: int = 1

    @property
    def is_single(self) -> bool:
        """Whether it is one process, which meets no other."""
        return self.processes * self.nodes == 1


@dataclass(frozen=True)
class _Node:
    """One node's part of it; the first node is at `host` and listens on `port`."""

    job: Torchrun
    rank: int
    host: str
    port: int

    @property
    def log(self) -> Path:
        log = self.job.log
        return log if self.rank == 0 else log.with_name(f"{log.name}.{self.rank}")

    def command(self) -> list[str]:
        guarded = [sys.executable, "-m", "pipelines.execute.guard", sys.executable]
        if self.job.is_single:
            return [*guarded, "-u", *self.job.argv]
        return [
            *guarded, "-m", "torch.distributed.run",
            "--nnodes", str(self.job.nodes), "--node-rank", str(self.rank),
            "--nproc-per-node", str(self.job.processes),
            "--master-addr", self.host, "--master-port", str(self.port), *self.job.argv,
        ]  # fmt: skip


def run_torchrun(runner: Runner, job: Torchrun) -> None:
    """Run it to its end, in this process's own children or on workers that offer what is needed.

    Processes that were started end when the run is stopped, and when their worker goes.

    Raises:
        CurateError: it ended with an error, of which the end of the log is shown.
        LostWorkerError: a worker that took part is lost, or the one process was killed.
        PartialRunError: the run was stopped.
    """
    runner.stop.check()
    with runner.stop.units():
        if runner.link is not None:
            _on_workers(runner, runner.link, job)
        elif job.nodes > 1:
            raise CurateError(f"{_words(job)}: {job.nodes} nodes need a cluster of workers.")
        else:
            node = _Node(job, 0, "127.0.0.1", _free_port(""))
            code = _run_node(node, lambda: runner.stop.requested)
            _check(runner, node, code)


# --- on workers -----------------------------------------------------------------------------------


def _on_workers(runner: Runner, link: Link, job: Torchrun) -> None:
    with link.wanting(job.nodes), _taken(runner, link, job.nodes) as workers:
        _run_nodes(runner, link, job, workers)


@contextmanager
def _taken(runner: Runner, link: Link, count: int) -> Iterator[tuple[WorkerInfo, ...]]:
    """So many workers, those with the fewest runs; they have one more inside."""
    patience, short = link.patience(), link.patience()
    while not (chosen := _choose(link, found := link.workers(runner.needs, patience), count)):
        runner.stop.check()
        if 0 < len(found) < count and not link.grows:
            short.wait(f"torchrun needs {count} workers, of which there are {len(found)},")
        time.sleep(_POLL_SECONDS)
    try:
        yield chosen
    finally:
        with link.choosing:
            link.taken.subtract(worker.address for worker in chosen)


def _choose(
    link: Link, workers: tuple[WorkerInfo, ...], count: int
) -> tuple[WorkerInfo, ...] | None:
    """Take so many of some workers; None as long as there are too few."""
    with link.choosing:
        if len(workers) < count or not link.has_room(workers, count):
            return None
        chosen = _spread(workers, link.taken)[:count]
        link.taken.update(worker.address for worker in chosen)
        return chosen


def _run_nodes(runner: Runner, link: Link, job: Torchrun, workers: tuple[WorkerInfo, ...]) -> None:
    first = workers[0]
    port = 0 if job.is_single else _ask_port(runner, link, job, first)
    nodes = {}
    for rank, worker in enumerate(workers):
        node = _Node(job, rank, first.host, port)
        future = link.client.submit(
            _run_node, node, workers=[worker.address], allow_other_workers=False, pure=False,
            key=f"torchrun-{rank}-{uuid4().hex}", resources=dict(runner.needs) or None,
        )  # fmt: skip
        nodes[future] = (node, worker.address)
    tasks = {future: address for future, (_, address) in nodes.items()}
    with closing(_ended(runner, link, job, tasks)) as ended:
        for future in ended:
            _check(runner, nodes[future][0], _result(future, job))


def _ask_port(runner: Runner, link: Link, job: Torchrun, first: WorkerInfo) -> int:
    future = link.client.submit(_free_port, first.host, workers=[first.address], pure=False)
    with closing(_ended(runner, link, job, {future: first.address})) as ended:
        return _result(next(ended), job)


def _ended(
    runner: Runner, link: Link, job: Torchrun, tasks: dict[Any, str]
) -> Generator[Any, None, None]:
    """Tasks as they end, each on the worker of an address; those that are left are cancelled.

    Raises:
        LostWorkerError: a worker has gone; what it does cannot be done by another.
        PartialRunError: the run is to stop, or no worker is left for too long.
    """
    patience = link.patience()
    left = dict(tasks)
    try:
        while left:
            time.sleep(_POLL_SECONDS)
            runner.stop.check()
            for future in [future for future in left if future.done()]:
                del left[future]
                yield future
            there = {worker.address for worker in link.workers(runner.needs, patience)}
            if there and (lost := set(left.values()) - there):
                raise LostWorkerError(
                    f"{_words(job)}: the worker at {min(lost)} is lost; the same command goes on."
                )
    finally:
        link.client.cancel(list(left))


def _result(future: Any, job: Torchrun) -> int:
    """What a task gave.

    Raises:
        CurateError: its worker could not do it.
        LostWorkerError: its worker died of it, or the scheduler forgot it.
    """
    from distributed import KilledWorker

    if future.status == "finished":
        return int(future.result())
    error = future.exception() if future.status == "error" else None
    if error is None or isinstance(error, KilledWorker):
        raise LostWorkerError(f"{_words(job)}: its worker was lost; the same command goes on.")
    raise CurateError(
        f"{_words(job)}: its worker could not start it ({error}); its machine must have this "
        "program, and see the run folder under the same path."
    )


def _spread(workers: Iterable[WorkerInfo], taken: Mapping[str, int]) -> tuple[WorkerInfo, ...]:
    """Workers with few runs before those with more, on different hosts before on the same."""
    seen: Counter[tuple[int, str]] = Counter()
    turns = []
    for worker in sorted(workers, key=lambda worker: worker.address):
        runs = taken.get(worker.address, 0)
        turns.append((runs, seen[runs, worker.host], worker.address, worker))
        seen[runs, worker.host] += 1
    return tuple(worker for *_, worker in sorted(turns, key=lambda turn: turn[:3]))


# --- on one worker --------------------------------------------------------------------------------


def _free_port(host: str) -> int:
    with socket.socket() as listening:
        listening.bind((host, 0))
        return int(listening.getsockname()[1])


def _run_node(node: _Node, unwanted: Callable[[], bool] | None = None) -> int:
    """Run a node's processes; returns their exit code, also when they were stopped."""
    unwanted = unwanted or _unwanted_here()
    with node.log.open("ab") as log, _guarded(node.command(), log) as process:
        while process.poll() is None:
            if unwanted():
                return _STOPPED
            time.sleep(_POLL_SECONDS)
    return process.returncode


@contextmanager
def _guarded(command: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Processes that end with the block, or with this process; they keep memory as workers do."""
    kept = {name: str(value) for name, value in ALLOCATION.items()}
    # What started this process may count processes of its own; torchrun sets the number anew.
    alone = {"WORLD_SIZE": "1"}
    process = subprocess.Popen(  # noqa: S603 - our own command, no shell
        command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
        start_new_session=True, env={**kept, **os.environ, **alone},
    )  # fmt: skip
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # storage that hangs holds it; it goes on alone
            process.wait(_STOP_SECONDS)


def _unwanted_here() -> Callable[[], bool]:
    """Whether the task that this thread of a worker runs was cancelled, or the worker closes."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state != "executing" or worker.status.name != "running"

    return unwanted


# --- words ----------------------------------------------------------------------------------------


def _check(runner: Runner, node: _Node, code: int) -> None:
    if code == 0:
        return
    runner.stop.check()
    if code == _KILLED:
        raise LostWorkerError(
            f"{_words(node.job)}: was killed, perhaps for want of memory; the same command goes on."
        )
    tail = node.log.read_text("utf-8", errors="replace")[-_TAIL:].strip()
    raise CurateError(f"{_words(node.job)}: ended with {code}; {node.log} says:\n{tail}")


def _words(job: Torchrun) -> str:
    return " ".join(("python" if job.is_single else "torchrun", *job.argv))[:200]
