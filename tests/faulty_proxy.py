"""An HTTP proxy in front of a server, such as S3's, that goes wrong as it is told.

    with faulty_proxy("http://127.0.0.1:5000", Faults(lambda request: None)) as url: ...

Every request is numbered from 0 and shown to `plan`, which names what goes wrong with it:

| | |
| --- | --- |
| None | nothing: it is passed on, and so is the answer |
| "500" | an internal error, as S3 words it; nothing is passed on |
| "503" | SlowDown, likewise |
| "403" | AccessDenied, likewise |
| "reset" | the connection is reset; nothing is passed on |
| "lost" | it is passed on, but the connection is reset before the answer |
| "cut" | half of the answer's body comes, then the connection ends |
| "slow" | the answer comes half a second late |
"""

import http.client
import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import fsspec

Fault = Literal["500", "503", "403", "reset", "lost", "cut", "slow"]
_NAMES = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}
_OF_THE_CONNECTION = ("connection", "transfer-encoding", "content-length", "keep-alive")
_SLOW = 0.5


@dataclass(frozen=True)
class Request:
    """One request, with its number and the bytes of its body."""

    number: int
    method: str
    path: str
    size: int


@dataclass
class Faults:
    """What goes wrong, and what was asked."""

    plan: Callable[[Request], Fault | None] = lambda _: None
    asked: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str, path: str, size: int) -> Fault | None:
        with self.lock:
            request = Request(len(self.asked), method, path, size)
            self.asked.append(request)
            return self.plan(request)


def broken_at(numbers: set[int], fault: Fault) -> Callable[[Request], Fault | None]:
    """A plan: some requests, by number."""
    return lambda request: fault if request.number in numbers else None


def dead_from(number: int, fault: Fault = "reset") -> Callable[[Request], Fault | None]:
    """A plan: every request from some number on."""
    return lambda request: fault if request.number >= number else None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: str
    faults: Faults

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.faults.next(self.command, self.path, len(body))
        if fault == "reset":
            self._reset()
        elif fault in _NAMES:
            text = f"<Error><Code>{_NAMES[fault]}</Code><Message>made up</Message></Error>"
            self._answer(int(fault), {"Content-Type": "application/xml"}, text.encode(), None)
        else:
            self._relay(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

    def _relay(self, body: bytes, fault: Fault | None) -> None:
        connection = http.client.HTTPConnection(self.target, timeout=30)
        headers = {n: v for n, v in self.headers.items() if n.lower() not in _OF_THE_CONNECTION}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        size = answer.getheader("Content-Length") if self.command == "HEAD" else None
        connection.close()
        if fault == "lost":
            self._reset()
            return
        if fault == "slow":
            time.sleep(_SLOW)
        self._answer(answer.status, dict(answer.getheaders()), data, fault, size)

    def _answer(
        self,
        status: int,
        headers: dict[str, str],
        data: bytes,
        fault: Fault | None,
        size: str | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _OF_THE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        self.close_connection = fault == "cut"

    def _reset(self) -> None:
        """End the connection as a crash would, without a farewell."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *args: object) -> None: ...


@contextmanager
def faulty_proxy(target: str, faults: Faults) -> Iterator[str]:
    """Stand in front of a server; gives the proxy's address."""
    names = {"target": urlsplit(target).netloc, "faults": faults}
    handler = type("Handler", (_Handler,), names)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_args: None  # type: ignore[method-assign]  # they are meant
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def through_proxy(faults: Faults) -> Iterator[None]:
    """fsspec speaks to S3 through a proxy, and botocore tries nothing again by itself."""
    before = fsspec.config.conf["s3"]
    with faulty_proxy(before["endpoint_url"], faults) as url:
        retries = {"config_kwargs": {"retries": {"max_attempts": 0}}}
        fsspec.config.conf["s3"] = {**before, "endpoint_url": url, **retries}
        try:
            yield
        finally:
            fsspec.config.conf["s3"] = before
