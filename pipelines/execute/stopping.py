"""Stopping a run: the first Ctrl-C or SIGTERM lets running units finish, the second is for now."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from curate.errors import PartialRunError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = logging.getLogger("curate.execute")


class Stopping:
    """Whether a run was asked to stop, and what is to be done when it must stop at once."""

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False
        self._calls = 0
        self._lock = threading.Lock()
        self._kills: list[Callable[[], None]] = []

    @contextmanager
    def units(self) -> Iterator[None]:
        """While this is open, units run: a first signal waits for those that have begun."""
        with self._lock:
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1

    def on_kill(self, kill: Callable[[], None]) -> None:
        """Call this, which must not block, when the run stops at once."""
        self._kills.append(kill)

    def check(self) -> None:
        """Raise if the run is to stop.

        Raises:
            PartialRunError: it is.
        """
        if self.requested:
            raise PartialRunError(
                "stopped; units that had begun are done and kept, the same command goes on."
            )

    def handle(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal: drain units if any run and none was asked to stop yet, else stop now.

        Raises:
            KeyboardInterrupt: nothing is to be waited for, or this is the second signal.
        """
        first = not self.requested
        self.requested = True
        if first and self._calls:
            name = signal.Signals(number).name
            _log.warning(
                "curate: %s: stopping when the units that run are done; again to stop at once.",
                name,
            )
            return
        self.at_once = True
        for kill in self._kills:
            kill()
        raise KeyboardInterrupt


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Take Ctrl-C and SIGTERM while this is open; outside of the main thread they stay as they are.

    Signals that the process ignores (as under nohup) stay ignored.
    """
    stop = Stopping()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, stop.handle)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def kill_process(pid: int | None) -> None:
    """Kill a process of ours; none, or one that is gone, is no error."""
    if pid is None:
        return
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
