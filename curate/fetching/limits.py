"""What fetching one image may cost, and as whom we ask."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from curate import __version__
from curate.errors import CurateError

NAME = "curate"
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CONTACT = re.compile(r"(https?://|mailto:)[!-'*-~]{1,200}")  # no spaces, no brackets


class FetchError(Exception):
    """Why an image was not fetched; the text stands in its status row.

    Attributes:
        passing: whether asking again may help.
        wait: seconds after which the server wants to be asked again, or None.
    """

    def __init__(self, text: str, *, passing: bool = False, wait: float | None = None) -> None:
        super().__init__(text)
        self.passing = passing
        self.wait = wait


@dataclass(frozen=True)
class FetchLimits:
    """What one image may cost, and as whom we ask for it.

    Attributes:
        timeout: seconds for every single wait on a server.
        deadline: seconds for an image with its redirects and further tries; waiting for a turn
            (`host_rate`) does not count, and a name is looked up as long as the system takes.
        max_bytes: of a body, as it comes and unpacked.
        redirects: how many are followed.
        retries: further tries after an error that may pass.
        host_rate: requests a second to one host, by all processes of a run together, or None.
        public_only: whether addresses that are not of the public internet are refused.
        token: name by which servers may address us, beside "curate", or None.
        contact: an http(s) or mailto address that the user agent names, or None.
        opt_outs: directives of X-Robots-Tag that keep us from taking an image.
    """

    timeout: float = 10.0
    deadline: float = 60.0
    max_bytes: int = 32 << 20
    redirects: int = 5
    retries: int = 0
    host_rate: float | None = None
    public_only: bool = False
    token: str | None = None
    contact: str | None = None
    opt_outs: tuple[str, ...] = ()

    def check(self) -> None:
        """See that the limits can be kept.

        Raises:
            CurateError: one of them cannot.
        """
        for name in ("timeout", "deadline", "max_bytes", "host_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise CurateError(f"download: {name} is {value}; give more than 0")
        for name in ("redirects", "retries"):
            if getattr(self, name) < 0:
                raise CurateError(f"download: {name} is {getattr(self, name)}; give 0 or more")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise CurateError(
                f"download: user_agent_token is {self.token!r}; give up to 64 letters, digits, "
                "dots, dashes and underscores"
            )
        if self.contact is not None and not _CONTACT.fullmatch(self.contact):
            raise CurateError(
                f"download: contact is {self.contact!r}; give a web page (https://...) or "
                "mailto:NAME@HOST, without spaces and brackets"
            )

    @property
    def user_agent(self) -> str:
        """Who asks: our name and version, then the token and the contact that were given."""
        about = [self.token, self.contact and f"+{self.contact}"]
        told = "; ".join(filter(None, ("compatible", *about)))
        return f"{NAME}/{__version__} ({told})"


class Clock:
    """How long an image may still take."""

    def __init__(self, limits: FetchLimits) -> None:
        self._timeout, self._deadline = limits.timeout, limits.deadline
        self._end = time.monotonic() + limits.deadline

    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._end - time.monotonic()

    def extend(self, seconds: float) -> None:
        """Set the deadline off by a wait that is not the server's."""
        self._end += seconds

    def allow(self) -> float:
        """Seconds that the next wait may take.

        Raises:
            FetchError: the deadline is over.
        """
        left = self.left()
        if left <= 0:
            raise FetchError(f"not done after {self._deadline:g} s", passing=True)
        return min(self._timeout, left)
