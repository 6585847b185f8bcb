"""When a host may be asked again, agreed upon by all processes and threads of one machine.

The agreement is a small file: one slot per host (by hash, so two hosts may share one and be asked
less often than they could), locked by ranges. The kernel frees the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curate.fetching.limits import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from curate.fetching.limits import Clock

_SLOTS = 1 << 16
_SLOT = struct.Struct("<dd")  # monotonic seconds: of the next turn, and until when to keep away


class Pace:
    """Turns to ask a host; `rate` is in requests a second for each host, or None."""

    def __init__(self, path: Path, rate: float | None) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._gap = 1 / rate if rate else 0.0
        self._lock = threading.Lock()  # range locks are a process's, not a thread's

    def close(self) -> None:
        """Give the file back."""
        os.close(self._handle)

    def wait(self, host: str, clock: Clock) -> None:
        """Sleep until it is our turn to ask `host`; a turn is no server's time, so it is free.

        Raises:
            FetchError: the host wants to be left alone beyond the deadline.
        """
        while True:
            with self._slot(host) as (turn, away, put):
                now = time.monotonic()
                if away - now > clock.left():
                    raise FetchError("the host wants to be left alone for longer than the limit")
                start = max(now, turn, away)
                put(start + self._gap, away)
            clock.extend(start - max(now, away))
            time.sleep(start - now)
            with self._slot(host) as (_, away, _put):
                if away <= time.monotonic():
                    return

    def hold(self, host: str, seconds: float) -> None:
        """Let nobody ask `host` for that long."""
        with self._slot(host) as (turn, away, put):
            put(turn, max(away, time.monotonic() + seconds))

    @contextmanager
    def _slot(self, host: str) -> Iterator[tuple[float, float, _Put]]:
        number = int.from_bytes(hashlib.sha256(host.encode()).digest()[:8], "big") % _SLOTS
        place = number * _SLOT.size
        with self._lock:
            fcntl.lockf(self._handle, fcntl.LOCK_EX, _SLOT.size, place)
            try:
                stored = os.pread(self._handle, _SLOT.size, place)
                turn, away = _SLOT.unpack(stored.ljust(_SLOT.size, b"\0"))
                yield turn, away, _Put(self._handle, place)
            finally:
                fcntl.lockf(self._handle, fcntl.LOCK_UN, _SLOT.size, place)


class _Put:
    """Writes a slot."""

    def __init__(self, handle: int, place: int) -> None:
        self._handle, self._place = handle, place

    def __call__(self, turn: float, away: float) -> None:
        os.pwrite(self._handle, _SLOT.pack(turn, away), self._place)
