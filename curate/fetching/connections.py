"""HTTP connections that keep to a clock, byte by byte, and connect only where they may."""

from __future__ import annotations

import http.client
import io
import ssl
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from curate.fetching.addresses import check_public, connect

if TYPE_CHECKING:
    import socket

    from curate.fetching.limits import Clock

_HURRY = 0.05  # seconds in which bytes after the end of a body would have come


class Asked(urllib.request.Request):
    """A request with the clock of its image."""

    def __init__(self, url: str, agent: str, clock: Clock) -> None:
        headers = {"User-Agent": agent, "Accept": "image/*,*/*;q=0.8"}
        super().__init__(url, headers=headers)
        self.clock = clock


class TimedReader(io.RawIOBase):
    """The bytes of a socket; no wait for them outlasts the clock."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, clock: Clock) -> None:
        self._raw, self._sock, self._clock = raw, sock, clock
        self._hurried = False

    def readable(self) -> bool:
        """Yes."""
        return True

    def hurry(self) -> None:
        """Wait from now on only for what should be here already."""
        self._hurried = True

    def readinto(self, buffer: Any, /) -> int | None:
        """Read what is there into `buffer`."""
        allowed = self._clock.allow()
        self._sock.settimeout(_HURRY if self._hurried else allowed)
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            self._clock.allow()
            raise

    def close(self) -> None:
        """Close the socket as well."""
        self._raw.close()
        super().close()


class TimedResponse(http.client.HTTPResponse):
    """A response whose status line, headers and body are all read by the clock."""

    def __init__(self, sock: socket.socket, *args: Any, clock: Clock, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.timed = TimedReader(self.fp.detach(), sock, clock)
        self.fp = io.BufferedReader(self.timed)


class GuardedHandler(urllib.request.HTTPSHandler):
    """Opens http and https by guarded connections; takes the place of urllib's own handlers."""

    def __init__(self, *, public_only: bool) -> None:
        self._tls = ssl.create_default_context()  # reading the authorities takes long: once
        super().__init__(context=self._tls)
        self._public_only = public_only

    http_request = urllib.request.AbstractHTTPHandler.do_request_

    def http_open(self, req: urllib.request.Request) -> Any:
        """Open over plain TCP."""
        return self.do_open(self._connections(http.client.HTTPConnection, req), req)

    def https_open(self, req: urllib.request.Request) -> Any:
        """Open over TLS, the certificate checked."""
        kind = partial(http.client.HTTPSConnection, context=self._tls)
        return self.do_open(self._connections(kind, req), req)

    def _connections(self, kind: Any, request: urllib.request.Request) -> Any:
        """What makes the connection for a request, given a host."""
        assert isinstance(request, Asked)
        return partial(self._connection, kind, request)

    def _connection(self, kind: Any, request: Asked, host: str, **options: Any) -> Any:
        proxied = request.host != urlsplit(request.full_url).netloc
        if proxied and self._public_only:
            check_public(urlsplit(request.full_url).hostname or "")
        options["timeout"] = request.clock.allow()
        connection = kind(host, **options)
        guarded = self._public_only and not proxied  # a proxy may well stand in our own network
        connection._create_connection = (  # noqa: SLF001 - the one place to say how to connect
            lambda place, *_: connect(place[0], place[1], request.clock, public_only=guarded)
        )
        connection.response_class = partial(TimedResponse, clock=request.clock)
        return connection
