"""Keeping other processes, on other machines too, from writing to the same address.

An object says who writes and until when; who writes renews it. It is created on condition that it
is not there, where the store can do that, and read again in any case. A writer that was cut off
longer than its time finds out before it publishes anything more. Expiry is by the machines' clocks.
"""

import json
import os
import platform
import threading
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from curate.errors import CurateError, PartialRunError
from curate.storage.objects import Objects

LOCK = ".curate-lock.json"
SECONDS = 120.0
"""How long an address stays locked after its writer has died, for others than its successor."""

_ATTEMPTS = 3


@dataclass(frozen=True)
class Holder:
    """Who writes to an address.

    Attributes:
        owner: of the working folder, which one process at a time has; it survives a crash.
        host: name of the machine.
        process: its number there.
        until: Unix time in seconds.
    """

    owner: str
    host: str
    process: int
    until: float


class Lease:
    """The right to write to an address, as long as it is entered."""

    def __init__(self, objects: Objects, owner: str, seconds: float = SECONDS) -> None:
        """Ask for nothing yet.

        Args:
            objects: below the address.
            owner: see `Holder`.
            seconds: until it expires, if it is not renewed, which it is thrice in that time.
        """
        self._objects = objects
        self._owner = owner
        self._seconds = seconds
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            CurateError: another process has it, or the store refuses or fails.
        """
        for _ in range(_ATTEMPTS):
            data = self._objects.read(LOCK)
            holder = _read(data)
            if holder and holder.owner != self._owner and holder.until > time.time():
                raise self._busy(holder)
            if data is None:
                self._objects.create(LOCK, self._stated())
            else:
                self._objects.write(LOCK, self._stated())
            if self._is_ours():
                self._renewing.start()
                return self
        raise CurateError(f"{self._objects.url}: others are about to write there; try again.")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back, unless another has it by now."""
        self._ended.set()
        self._renewing.join()
        try:
            if self._is_ours():
                self._objects.remove([LOCK])
        except CurateError:
            return  # it expires by itself

    def check(self) -> None:
        """See that nobody else has taken it.

        Raises:
            PartialRunError: another has it.
        """
        holder = self._holder()
        if holder is None or holder.owner != self._owner:
            who = f"process {holder.process} on {holder.host}" if holder else "nobody"
            raise PartialRunError(
                f"{self._objects.url}: this process lost its lock on it ({who} has it now), so it "
                "publishes nothing more. What is done is kept here; the same command goes on."
            )

    def _busy(self, holder: Holder) -> CurateError:
        rest = max(1, round(holder.until - time.time()))
        return CurateError(
            f"{self._objects.url}: process {holder.process} on {holder.host} is writing there. "
            f"Wait for it to end; if it has died, its lock expires in {rest} seconds."
        )

    def _holder(self) -> Holder | None:
        return _read(self._objects.read(LOCK))

    def _is_ours(self) -> bool:
        holder = self._holder()
        return holder is not None and holder.owner == self._owner

    def _stated(self) -> bytes:
        until = time.time() + self._seconds
        holder = Holder(self._owner, platform.node(), os.getpid(), until)
        return json.dumps(asdict(holder)).encode()

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            try:
                if not self._is_ours():
                    return  # `check` will tell
                self._objects.write(LOCK, self._stated())
            except CurateError:
                continue  # the store may answer again before it expires


def _read(data: bytes | None) -> Holder | None:
    """Who has it; what cannot be read has nobody."""
    try:
        return Holder(**json.loads(data)) if data else None
    except (TypeError, ValueError, RecursionError):
        return None
