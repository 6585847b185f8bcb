"""The web page's server: this machine only, and only for whoever was given its address.

Any web page that the browser has open can send requests to this machine. So a request has to bring
the token (in the address that was printed, later in a cookie), to name this machine as its host
(a foreign name would be one that was rebound to it), and to come from this page if it says where it
comes from. What is served is this package's own files, JSON, and images that were encoded anew.
"""

import asyncio
import hmac
import json
import secrets
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import resources
from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from curate.errors import CurateError
from curate.files import canonical_json
from curate.review.pictures import LONGEST, SIDES, PictureError
from curate.review.queue import ALL
from curate.review.session import Session

HOST: Final = "127.0.0.1"
_HOSTS: Final = (HOST, "localhost")
_MAX_BODY: Final = 4096
_MAX_HEADER: Final = 1 << 14
_THREADS: Final = 4
"""For the three requests of the pair that is shown, and the one at a time that looks ahead."""
_TOKEN: Final = "token"  # noqa: S105  # the name of a parameter
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Server": "curate",
}
_ASSETS: Final = {
    "page.html": ("curate.review", "text/html; charset=utf-8"),
    "palette.css": ("curate", "text/css; charset=utf-8"),
    "review.css": ("curate.review", "text/css; charset=utf-8"),
    "review.js": ("curate.review", "text/javascript; charset=utf-8"),
}
"""The package and the media type of each file that the page is made of."""


@dataclass(frozen=True)
class Access:
    """What a request has to bring.

    Attributes:
        token: in the address that a person is given.
        cookie: what the browser has from then on.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def refusal(self, request: HTTPServerRequest, cookie: str | None, token: str) -> str | None:
        """Why a request is refused, or None."""
        host = request.host or ""
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "80")
        if name not in _HOSTS or not port.isdecimal():
            return "this host name is not served"
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return "requests from other pages are not served"
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not (
            token
        ):
            return "requests from other pages are not served"
        if _equal(cookie or "", self.cookie) or _equal(token, self.token):
            return None
        return "open the address that `curate review` printed"


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


@dataclass(frozen=True)
class _Shared:
    session: Session
    access: Access
    threads: Executor
    cookie_name: str


class _Handler(RequestHandler):
    """Refuses what does not come from the page, and answers in JSON."""

    def initialize(self, shared: _Shared) -> None:
        self.shared = shared
        self.session = shared.session

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        cookie = self.get_cookie(self.shared.cookie_name)
        token = self.get_query_argument(_TOKEN, "") if self.request.path == "/" else ""
        why = self.shared.access.refusal(self.request, cookie, token)
        if why:
            raise HTTPError(HTTPStatus.FORBIDDEN, reason=why)

    def answer(self, value: Any) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(canonical_json(value))

    def number(self, name: str, default: int) -> int:
        text = self.get_query_argument(name, str(default))
        if not text.isascii() or not text.isdecimal() or len(text) > len(str(1 << 31)):
            raise CurateError(f"{name} {text!r}: a whole number was expected.")
        return int(text)

    def write_error(self, status_code: int, **details: Any) -> None:  # noqa: ARG002
        """Errors as JSON; of those that nobody foresaw the page learns nothing more."""
        error = details.get("exc_info", (None, None, None))[1]
        text = self._reason
        if isinstance(error, PictureError):
            self.set_status(HTTPStatus.NOT_FOUND)
            text = str(error)
        elif isinstance(error, CurateError):
            self.set_status(HTTPStatus.BAD_REQUEST)
            text = str(error)
        self.answer({"error": text})

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, CurateError):
            super().log_exception(typ, value, tb)

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.shared.threads, work)


class _Page(_Handler):
    def get(self, name: str = "page.html") -> None:
        self.set_cookie(
            self.shared.cookie_name, self.shared.access.cookie, httponly=True, samesite="Strict"
        )
        package, kind = _ASSETS[name]
        self.set_header("Content-Type", kind)
        self.finish(resources.files(package).joinpath(name).read_bytes())


class _State(_Handler):
    def get(self) -> None:
        self.answer(self.session.state())


class _Pairs(_Handler):
    def get(self) -> None:
        band = self.get_query_argument("band", ALL)
        offset, limit = self.number("offset", 0), self.number("limit", 20)
        self.answer(self.session.page(band, offset, limit))


class _Next(_Handler):
    def get(self) -> None:
        band = self.get_query_argument("band", ALL)
        self.answer({"place": self.session.next(band, self.number("from", 0))})


class _Pair(_Handler):
    async def get(self, pair: str) -> None:
        row = int(pair)
        base = self.session.pair(row)
        self.answer({**base, "about": await self.in_thread(lambda: self.session.details(row))})


class _Image(_Handler):
    async def get(self, pair: str, side: str) -> None:
        sides, sizes = {name: name for name in SIDES}, {name: name for name in LONGEST}
        size = sizes.get(self.get_query_argument("size", "view"))  # type: ignore[call-overload]
        if side not in sides or size is None:
            raise HTTPError(HTTPStatus.NOT_FOUND)
        matched = self.get_query_argument("as", "stored") == "matched"
        picture = await self.in_thread(
            lambda: self.session.picture(int(pair), side, size, matched=matched)
        )
        self.set_header("Content-Type", picture.kind)
        self.set_header("Cache-Control", "private, max-age=3600")
        self.finish(picture.data)


class _Post(_Handler):
    def body(self) -> dict[str, Any]:
        """The JSON object that was sent.

        Raises:
            CurateError: something else was sent.
        """
        kind = self.request.headers.get("Content-Type", "").partition(";")[0]
        try:
            value = json.loads(self.request.body) if kind == "application/json" else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise CurateError("a JSON object was expected.")
        return value


class _Labels(_Post):
    def post(self) -> None:
        body = self.body()
        row, label = body.get("pair"), body.get("label")
        if not isinstance(row, int) or isinstance(row, bool) or "label" not in body:
            raise CurateError("pair (a number) and label were expected.")
        if not isinstance(label, str | None):
            raise CurateError("label is no text.")
        band, start = str(body.get("band", ALL)), body.get("from", 0)
        if not isinstance(start, int):
            raise CurateError("from is no number.")
        self.session.label(row, label)
        upcoming = self.session.next(band, start)
        pair, state = self.session.pair(row), self.session.state()
        self.answer({"pair": pair, "next": upcoming, "state": state})


class _Undo(_Post):
    def post(self) -> None:
        band = str(self.body().get("band", ALL))
        row = self.session.undo()
        answer: dict[str, Any] = {"pair": None, "place": None, "place_in_all": None}
        if row is not None:
            place, in_all = (self.session.place(name, row) for name in (band, ALL))
            answer = {"pair": self.session.pair(row), "place": place, "place_in_all": in_all}
        self.answer({**answer, "state": self.session.state()})


class _Icon(_Handler):
    def get(self) -> None:
        self.set_status(HTTPStatus.NO_CONTENT)


class _Nothing(_Handler):
    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(HTTPStatus.NOT_FOUND)


def _application(session: Session, access: Access, threads: Executor, port: int) -> Application:
    # cookies are not kept apart by port, so their names are
    shared = {"shared": _Shared(session, access, threads, f"curate-review-{port}")}
    names = "|".join(name.replace(".", r"\.") for name in _ASSETS if name != "page.html")
    routes = [
        (r"/", _Page),
        (rf"/({names})", _Page),
        (r"/favicon\.ico", _Icon),
        (r"/api/state", _State),
        (r"/api/pairs", _Pairs),
        (r"/api/next", _Next),
        (r"/api/pair/(\d{1,10})", _Pair),
        (r"/api/labels", _Labels),
        (r"/api/undo", _Undo),
        (r"/image/(\d{1,10})/(test|train)", _Image),
    ]
    return Application(
        [(route, handler, shared) for route, handler in routes],
        default_handler_class=_Nothing,
        default_handler_args=shared,
        log_function=lambda _handler: None,
    )


def listen(port: int) -> list[socket.socket]:
    """Take a port of this machine; 0 takes any that is free.

    Raises:
        CurateError: it is taken or may not be used.
    """
    try:
        return bind_sockets(port, HOST)
    except (OSError, OverflowError) as error:
        raise CurateError(
            f"--port {port}: cannot be used ({error}); give another, or 0 for any."
        ) from error


def serve(session: Session, port: int, on_start: Callable[[str], None]) -> None:
    """Serve the page until this process is asked to stop (Ctrl-C or SIGTERM).

    Args:
        session: what is judged.
        port: of this machine; 0 takes any that is free.
        on_start: called with the address, token included, once it is served.

    Raises:
        CurateError: the port cannot be used.
    """
    sockets = listen(port)
    asyncio.run(_serve(session, sockets, on_start))


async def _serve(
    session: Session, sockets: list[socket.socket], on_start: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(_THREADS, "curate-review") as threads:
        server, address = start(session, sockets, threads)
        on_start(address)
        await stop.wait()
        server.stop()
        await server.close_all_connections()


def start(
    session: Session, sockets: list[socket.socket], threads: Executor
) -> tuple[HTTPServer, str]:
    """Answer requests in the running event loop; returns the server, and its address with token."""
    access, port = Access(), sockets[0].getsockname()[1]
    app = _application(session, access, threads, port)
    server = HTTPServer(app, max_body_size=_MAX_BODY, max_header_size=_MAX_HEADER)
    server.add_sockets(sockets)
    return server, f"http://{HOST}:{port}/?{_TOKEN}={access.token}"
