"""What a worker of a local cluster does when it starts: take its number, and a core if asked."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

NAME = "curate-placement"


class Placement(WorkerPlugin):
    """Numbers a worker, keeps the terminal's Ctrl-C from it, and pins it to a core.

    A terminal sends Ctrl-C to the whole process group; which units are to finish is for the client
    to say.
    """

    name = NAME

    def __init__(self, *, pin: bool) -> None:
        self.pin = pin
        self.number = 0

    def setup(self, worker: Any) -> None:
        """Take the number from the worker's name; called once in the worker's main thread."""
        self.number = worker.name if isinstance(worker.name, int) else 0
        with suppress(ValueError):  # a worker in a thread of another process
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.pin:
            pin_to_core(self.number)


def pin_to_core(number: int) -> None:
    """Bind all threads of this process to one of the cores it may use, counted round."""
    cores = sorted(os.sched_getaffinity(0))
    core = {cores[number % len(cores)]}
    os.sched_setaffinity(0, core)
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), core)
