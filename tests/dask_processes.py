"""Processes to be killed, stopped and cut off: a Dask scheduler, workers, and what others start."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
_LOOK_SECONDS = 0.01


@dataclass
class Processes:
    """Those started so far; each in a process group of its own.

    Attributes:
        prefix: words before each command, such as `ip netns exec NAME`.
    """

    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *words: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a Python module with arguments."""
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, sys.path)])
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", *words],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
        self.started.append(process)
        return process

    def scheduler(
        self, port: int, *more: str, host: str = "127.0.0.1", prefix: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a scheduler; a client may connect at once, and waits until it is there."""
        return self.start(
            "distributed.cli.dask_scheduler", "--host", host, "--port", str(port), "--no-dashboard",
            *more, prefix=prefix,
        )  # fmt: skip

    def worker(
        self, address: str, *more: str, prefix: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a worker of one thread with its nanny."""
        return self.start(
            "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard",
            "--memory-limit", "0", *more, prefix=prefix,
        )  # fmt: skip


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def workers_of(pid: int) -> list[psutil.Process]:
    """Python processes below one: of its local cluster, or img2dataset's logger and workers."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if any("spawn_main" in word for word in child.cmdline()):
                    found.append(child)
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def until(
    condition: Callable[[], bool], seconds: float, tend: Callable[[], None] = lambda: None
) -> bool:
    """Wait until something holds, tending to something else; False if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        tend()
        time.sleep(_LOOK_SECONDS)
    return True


@contextmanager
def dask_processes() -> Iterator[Processes]:
    """Start processes; all are killed at the end, whatever happens."""
    processes = Processes()
    try:
        yield processes
    finally:
        for process in processes.started:
            kill_group(process)
