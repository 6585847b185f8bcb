"""A web server on this machine that answers in every bad way; the path says which."""

import gzip
import io
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Any

import numpy as np
from PIL import Image

BOMB = gzip.compress(bytes(64 << 20), 1)  # unpacked far more than anyone should take


def picture(seed: int, kind: str = "JPEG") -> bytes:
    """An image of 300 x 200 pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((300, 200)).save(buffer, kind)
    return buffer.getvalue()


GOOD = picture(0)
PAGE = b"<!DOCTYPE html><html><body>gone</body></html>"
BODIES = {f"/ok{number}": picture(number) for number in range(4)} | {"/png": picture(9, "PNG")}


@dataclass
class ImageServer:
    """What the server was asked, and what it is told to do.

    Attributes:
        address: where it is.
        asked: paths, as they came.
        times: when (monotonic seconds) each was asked.
        agents: user agents, as they came.
        down: paths that answer 503 as long as they stand here.
        target: where /to-target leads.
        pictures: further paths, and what they answer.
    """

    address: str = ""
    asked: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    target: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    server: Any  # with `state`

    def do_GET(self) -> None:
        state: ImageServer = self.server.state
        path = self.path.removeprefix(state.address)  # as a proxy it is given whole addresses
        state.asked.append(path)
        state.times.append(time.monotonic())
        state.agents.append(self.headers["User-Agent"])
        with suppress(OSError):  # the other side may well have gone
            if path in state.down:
                self.answer(b"", status="503 Service Unavailable")
            elif path in _ODD:
                _ODD[path](self)
            elif (body := (BODIES | state.pictures).get(path.partition("?")[0])) is not None:
                self.answer(body)
            else:
                self.answer(PAGE, status="404 Not Found")

    def answer(self, body: bytes, *headers: str, status: str = "200 OK", length: int = -1) -> None:
        """A plain answer; `length` is what Content-Length claims."""
        stated = len(body) if length < 0 else length
        self.raw(status, f"Content-Length: {stated}", *headers)
        self.wfile.write(body)

    def raw(self, status: str, *headers: str) -> None:
        """The status line and headers."""
        self.wfile.write("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode())

    def forever(self, data: bytes, seconds: float) -> None:
        """Write until nobody listens, or for half a minute."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            self.wfile.write(data)
            self.wfile.flush()
            time.sleep(seconds)

    def redirect(self, location: str) -> None:
        """Lead elsewhere."""
        self.raw("302 Found", f"Location: {location}", "Content-Length: 0")

    def log_message(self, *_: object) -> None:
        pass


def _endless(handler: _Handler) -> None:
    handler.raw("200 OK")
    handler.forever(b"\xff" * (1 << 16), 0)


def _endless_chunks(handler: _Handler) -> None:
    handler.raw("200 OK", "Transfer-Encoding: chunked")
    handler.forever(b"10000\r\n" + b"\xff" * (1 << 16) + b"\r\n", 0)


def _drip(handler: _Handler) -> None:
    handler.raw("200 OK", "Content-Length: 1000")
    handler.forever(b"\xff", 0.2)


def _drip_headers(handler: _Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    handler.forever(b"x", 0.2)


def _cut_chunks(handler: _Handler) -> None:
    handler.raw("200 OK", "Transfer-Encoding: chunked")
    handler.wfile.write(b"%x\r\n" % len(GOOD) + GOOD[:500])


def _chunks(handler: _Handler) -> None:
    handler.raw("200 OK", "Transfer-Encoding: chunked")
    for start in range(0, len(GOOD), 1000):
        piece = GOOD[start : start + 1000]
        handler.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def _two_lengths(handler: _Handler) -> None:
    handler.answer(GOOD, f"Content-Length: {len(GOOD) - 9}")


def _unstated(handler: _Handler) -> None:
    handler.raw("200 OK")
    handler.wfile.write(GOOD)


def _bomb(handler: _Handler) -> None:
    handler.answer(BOMB, "Content-Encoding: gzip")


def _busy_once(handler: _Handler) -> None:
    if handler.server.state.asked.count("/busy-once") == 1:
        handler.answer(b"", "Retry-After: 1", status="429 Too Many Requests")
    else:
        handler.answer(GOOD)


def _broken_twice(handler: _Handler) -> None:
    if handler.server.state.asked.count("/broken-twice") <= 2:
        handler.answer(b"", status="500 Oops")
    else:
        handler.answer(GOOD)


def _retry_after(seconds: str) -> Callable[[_Handler], None]:
    return lambda handler: handler.answer(
        b"", f"Retry-After: {seconds}", status="503 Service Unavailable"
    )


_ODD: dict[str, Callable[[_Handler], None]] = (
    {
        "/page": lambda handler: handler.answer(PAGE, "Content-Type: image/jpeg"),
        "/not-html": lambda handler: handler.answer(GOOD, "Content-Type: text/html"),
        "/no-image": lambda handler: handler.answer(b"\xff" * 2000),
        "/empty": lambda handler: handler.answer(b""),
        "/partial": lambda handler: handler.answer(GOOD, status="206 Partial Content"),
        "/slow": lambda _: time.sleep(4),
        "/cut": lambda handler: handler.answer(GOOD, length=len(GOOD) + 500),
        "/long": lambda handler: handler.answer(GOOD, length=len(GOOD) - 500),
        "/says-huge": lambda handler: handler.answer(GOOD, length=1 << 40),
        "/two-lengths": _two_lengths,
        "/unstated": _unstated,
        "/endless": _endless,
        "/endless-chunks": _endless_chunks,
        "/drip": _drip,
        "/drip-headers": _drip_headers,
        "/chunks": _chunks,
        "/cut-chunks": _cut_chunks,
        "/gzip": lambda handler: handler.answer(gzip.compress(GOOD), "Content-Encoding: gzip"),
        "/cut-gzip": lambda handler: handler.answer(
            gzip.compress(GOOD)[:-20], "Content-Encoding: gzip"
        ),
        "/bad-gzip": lambda handler: handler.answer(GOOD, "Content-Encoding: gzip"),
        "/brotli": lambda handler: handler.answer(GOOD, "Content-Encoding: br"),
        "/bomb": _bomb,
        "/no-http": lambda handler: handler.wfile.write(b"\x16\x03\x01 hello\r\n"),
        "/hang-up": lambda _: None,
        "/redirect": lambda handler: handler.redirect("/ok1"),
        "/redirect-words": lambda handler: handler.redirect("/ok1?b\u00fccher und mehr"),
        "/circle": lambda handler: handler.redirect("/circle2"),
        "/circle2": lambda handler: handler.redirect("/circle"),
        "/to-target": lambda handler: handler.redirect(handler.server.state.target),
        "/to-ftp": lambda handler: handler.redirect("ftp://127.0.0.1/a.jpg"),
        "/to-nowhere": lambda handler: handler.redirect("http://[broken/a.jpg"),
        "/noai": lambda handler: handler.answer(GOOD, "X-Robots-Tag: noai"),
        "/noai-mine": lambda handler: handler.answer(GOOD, "X-Robots-Tag: mybot: noai"),
        "/noai-other": lambda handler: handler.answer(GOOD, "X-Robots-Tag: otherbot: noai"),
        "/busy-once": _busy_once,
        "/busy-long": _retry_after("3600"),
        "/busy-now": _retry_after("0"),
        "/broken-twice": _broken_twice,
    }
    | {
        f"/hop{number}": lambda handler: handler.redirect(f"/hop{int(handler.path[4:]) - 1}")
        for number in range(1, 10)
    }
    | {"/hop0": lambda handler: handler.answer(GOOD)}
)


class _Server6(ThreadingHTTPServer):
    address_family = AF_INET6


@contextmanager
def image_server(
    *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[ImageServer]:
    """Serve from a thread, on a free port; with `tls` over https."""
    kind = _Server6 if ":" in host else ThreadingHTTPServer
    server: Any = kind((host, 0), _Handler)
    server.daemon_threads = True
    server.block_on_close = False  # some answers take half a minute
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    place = f"[{host}]" if ":" in host else host
    scheme = "http" if tls is None else "https"
    server.state = ImageServer(f"{scheme}://{place}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
