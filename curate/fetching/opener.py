"""The opener that img2dataset asks through: one call is one image, whole and within its limits."""

from __future__ import annotations

import email.utils
import http.client
import io
import time
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.response import addinfourl

from curate.fetching import robots
from curate.fetching.addresses import asked_url, redirected_url
from curate.fetching.body import read_image
from curate.fetching.connections import Asked, GuardedHandler, TimedResponse
from curate.fetching.limits import NAME, Clock, FetchError, FetchLimits

if TYPE_CHECKING:
    from email.message import Message

    from curate.fetching.pace import Pace

_GOOD = (200, 203)
_MOVED = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_BUSY = (429, 503)
_WAITS = 3  # how often an image lets itself be put off by Retry-After
_LEAST_WAIT = 1.0  # seconds; a server that says "again at once" is not asked at once
_BACK_OFF = 0.5  # seconds before the first further try; each one waits twice as long
_TEXT = 200  # characters of an error that a status row keeps


class GuardedOpener(urllib.request.OpenerDirector):
    """Opens nothing but http and https, and returns an image that has been read to its end."""

    def __init__(self, limits: FetchLimits, pace: Pace) -> None:
        super().__init__()
        self._limits, self._pace = limits, pace
        self._names = {NAME, (limits.token or NAME).lower()}
        self._asker = urllib.request.OpenerDirector()  # opens one address, and follows nothing
        self._asker.add_handler(urllib.request.ProxyHandler())
        self._asker.add_handler(GuardedHandler(public_only=limits.public_only))
        self._asker.add_handler(urllib.request.UnknownHandler())  # a proxy of an unknown kind

    def open(self, fullurl: Any, data: Any = None, timeout: Any = None) -> Any:  # noqa: ARG002
        """Fetch the image of a URL (or of a request, of which only the URL counts).

        Returns:
            A closed matter: `read()` gives the bytes, `headers` those of the last answer.

        Raises:
            FetchError: it was refused or could not be had; the text says why.
        """
        url = fullurl if isinstance(fullurl, str) else fullurl.full_url
        clock, tries, waits = Clock(self._limits), 0, 0
        while True:
            try:
                return self._follow(asked_url(url), clock)
            except FetchError as error:
                if error.wait is not None and waits < _WAITS:
                    waits += 1
                    continue
                pause = _BACK_OFF * 2**tries
                if not error.passing or tries == self._limits.retries or pause >= clock.left():
                    raise
            tries += 1
            time.sleep(pause)

    def _follow(self, url: str, clock: Clock) -> addinfourl:
        """Ask, and go where redirects lead."""
        seen = set()
        for _ in range(self._limits.redirects + 1):
            if url in seen:
                raise FetchError("redirected in a circle")
            seen.add(url)
            host = urlsplit(url).hostname or ""
            self._pace.wait(host, clock)
            try:
                with closing(self._ask(url, clock)) as response:
                    target = self._target(url, response)
                    if target is None:
                        body = read_image(response, self._limits.max_bytes)
                        return addinfourl(io.BytesIO(body), response.headers, url, response.status)
            except FetchError as error:
                if error.wait is not None:
                    self._pace.hold(host, error.wait)
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise FetchError(_brief(error), passing=True) from error
            url = target
        raise FetchError(f"more than {self._limits.redirects} redirects")

    def _ask(self, url: str, clock: Clock) -> TimedResponse:
        request = Asked(url, self._limits.user_agent, clock)
        response = self._asker.open(request, timeout=clock.allow())
        assert isinstance(response, TimedResponse)
        return response

    def _target(self, url: str, response: TimedResponse) -> str | None:
        """Where a response leads, or None where it holds the image."""
        tags = response.headers.get_all("X-Robots-Tag", [])
        if robots.opted_out(tags, self._names, self._limits.opt_outs):
            raise FetchError(robots.REASON)
        location = response.headers.get("Location")
        if response.status in _MOVED and location:
            return redirected_url(url, location)
        if response.status not in _GOOD:
            words = http.client.responses.get(response.status, "")
            raise FetchError(
                f"HTTP Error {response.status}: {words}".rstrip(": "),
                passing=response.status in _PASSING,
                wait=_wait(response.headers) if response.status in _BUSY else None,
            )
        return None


def _wait(headers: Message) -> float | None:
    """Seconds that Retry-After (seconds, or a date) asks for."""
    value = (headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return max(_LEAST_WAIT, float(value[:9]))
    try:
        return max(_LEAST_WAIT, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _brief(error: Exception) -> str:
    """An error in words of bounded length: hosts write parts of them."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    text = str(reason) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_TEXT])
