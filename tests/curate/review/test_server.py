"""The server: everything refused that does not come from the page, nothing foreign served."""

import asyncio
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pictures import encoded, picture
from reviewing import inputs, row

from curate.errors import CurateError
from curate.review import Session
from curate.review.server import HOST, listen, serve, start

ROWS = [row(n, 10 + n, score) for n, score in enumerate((0.99, 0.91, 0.89, 0.81))]
ROWS.append(row(5, 99, 0.95))


@dataclass
class Page:
    """A browser that has opened the address: it sends the cookie, and what a test adds."""

    address: str
    cookie: str = ""
    token: str = field(init=False)
    port: int = field(init=False)

    def __post_init__(self) -> None:
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)", self.address)
        assert found
        self.port, self.token = int(found[1]), found[2]
        _, headers, _ = self.ask("GET", f"/?token={self.token}")
        self.cookie = headers["Set-Cookie"].partition(";")[0]

    def ask(
        self, method: str, path: str, body: str | bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Cookie": self.cookie} if self.cookie else {}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        connection.request(method, path, body, {**sent, **names})
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def json(self, path: str, body: Any = None) -> tuple[int, Any]:
        kind = {"Content_Type": "application/json"}
        method = "GET" if body is None else "POST"
        data = None if body is None else json.dumps(body)
        status, _, found = self.ask(method, path, data, **kind)
        return status, json.loads(found)


@contextmanager
def served(session: Session) -> Iterator[Page]:
    """The session's page, from an event loop in a thread."""
    ready: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []
    is_up = threading.Event()

    async def run() -> None:
        stop = asyncio.Event()
        with ThreadPoolExecutor(2) as threads:
            server, address = start(session, listen(0), threads)
            ready.append((address, asyncio.get_running_loop(), stop))
            is_up.set()
            await stop.wait()
            server.stop()
            await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert is_up.wait(10)
    address, loop, stop = ready[0]
    try:
        yield Page(address)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with closing(Session(inputs(tmp_path, ROWS))) as session, served(session) as found:
        yield found


EVERYTHING = ("/", "/review.js", "/review.css", "/palette.css", "/api/state", "/api/pairs",
              "/api/next", "/api/pair/0", "/image/0/test", "/none", "/favicon.ico")  # fmt: skip


@pytest.mark.parametrize("path", EVERYTHING)
def test_without_the_token_nothing_is_served(page: Page, path: str) -> None:
    page.cookie = ""
    for cookie in ("", f"curate-review-{page.port}=", f"curate-review-{page.port}={page.token}"):
        status, headers, body = page.ask("GET", path, Cookie=cookie)
        assert status == 403
        assert "Set-Cookie" not in headers
        assert b"curate review" in body
    assert page.ask("GET", f"{path}?token=wrong")[0] == 403
    assert page.ask("GET", f"{path}?token=%ff%00")[0] in (400, 403)
    if path != "/":
        assert page.ask("GET", f"{path}?token={page.token}")[0] == 403


@pytest.mark.parametrize("path", ["/api/labels", "/api/undo"])
def test_without_the_token_nothing_is_changed(page: Page, path: str) -> None:
    kind, body = "application/json", '{"pair":0,"label":"same"}'
    page.cookie, cookie = "", page.cookie
    assert page.ask("POST", path, body, Content_Type=kind)[0] == 403
    page.cookie = cookie
    assert page.json("/api/state")[1]["mine"] == 0


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:{}", "[::1]:{}", "localhost:x", ":{}", "a@b:{}"],
)
@pytest.mark.parametrize("path", ["/", "/api/state", "/image/0/test"])
def test_a_name_that_was_rebound_to_this_machine_is_refused(
    page: Page, host: str, path: str
) -> None:
    given = host.format(page.port)
    assert page.ask("GET", f"{path}?token={page.token}", Host=given)[0] in (400, 403)


def test_through_a_forwarded_port_it_is_served(page: Page) -> None:
    for host in ("localhost:8080", "127.0.0.1:9999", "localhost"):
        assert page.ask("GET", "/api/state", Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "https://127.0.0.1:{}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_requests_of_other_pages_are_refused(page: Page, headers: dict[str, str]) -> None:
    sent = {name: value.format(page.port) for name, value in headers.items()}
    body = '{"pair":0,"label":"same"}'
    assert page.ask("POST", "/api/labels", body, Content_Type="application/json", **sent)[0] == 403
    assert page.ask("GET", "/api/state", **sent)[0] == 403
    assert page.json("/api/state")[1]["mine"] == 0


def test_the_cookie_is_for_this_page_alone(page: Page) -> None:
    _, headers, _ = page.ask("GET", f"/?token={page.token}")
    given = headers["Set-Cookie"].lower()
    assert "httponly" in given
    assert "samesite=strict" in given
    assert page.token not in headers["Set-Cookie"]
    assert str(page.port) in given.partition("=")[0]


@pytest.mark.parametrize("path", [*EVERYTHING, "/image/4/train", "/api/pairs?offset=x"])
def test_every_answer_forbids_what_the_page_does_not_need(page: Page, path: str) -> None:
    _, headers, _ = page.ask("GET", path)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "tornado" not in str(headers).lower()


def test_the_page_asks_no_other_place(page: Page) -> None:
    for path in ("/", "/review.js", "/review.css", "/palette.css"):
        status, headers, body = page.ask("GET", path)
        assert status == 200
        assert not re.search(rb"https?://|//[a-z]+\.|@import|url\(", body)
        assert headers["Content-Type"].startswith("text/")


@pytest.mark.parametrize(
    "path",
    ["/..%2f..%2fetc/passwd", "/review.py", "/server.py", "/image/0/etc", "/image/x/test",
     "/image/-1/test", "/image/00000:000000/test", "/api/pair/..", "/image/0/test/..", "//", "/run",
     "/page.html", "/image/99999999999/test"],
)  # fmt: skip
def test_other_paths_are_not_there(page: Page, path: str) -> None:
    assert page.ask("GET", path)[0] == 404


@pytest.mark.parametrize(
    "path",
    ["/api/pairs?offset=99", "/api/pairs?limit=0", "/api/pairs?limit=1000", "/api/pairs?band=x",
     "/api/pairs?offset=-1", "/api/pairs?offset=1e3", "/api/pairs?offset=99999999999999999999",
     "/api/next?band=x", "/api/next?from=²", "/api/pair/5", "/image/5/test"],
)  # fmt: skip
def test_numbers_out_of_bounds_are_told(page: Page, path: str) -> None:
    status, found = page.json(path.replace("²", "%C2%B2"))
    assert status == 400
    assert found["error"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"pair": 0},
        {"pair": 0, "label": "copy"},
        {"pair": 0, "label": 3},
        {"pair": 0, "label": []},
        {"pair": True, "label": "same"},
        {"pair": "0", "label": "same"},
        {"pair": 99, "label": "same"},
        {"pair": -1, "label": "same"},
        {"pair": 0, "label": "same", "from": "x"},
        [],
        "x",
    ],
)
def test_what_is_no_label_is_refused(page: Page, body: object) -> None:
    status, found = page.json("/api/labels", body)
    assert status == 400
    assert found["error"]
    assert page.json("/api/state")[1]["mine"] == 0


def test_a_form_of_another_page_is_no_label(page: Page) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        body = '{"pair":0,"label":"same"}'
        assert page.ask("POST", "/api/labels", body, Content_Type=kind)[0] == 400
    for body in (b"\xff", b"[" * 4000, b"{"):
        assert page.ask("POST", "/api/labels", body, Content_Type="application/json")[0] == 400


def test_a_body_over_the_limit_is_not_read(page: Page) -> None:
    with socket.create_connection((HOST, page.port), timeout=10) as connection:
        connection.sendall(
            f"POST /api/labels HTTP/1.1\r\nHost: {HOST}:{page.port}\r\nCookie: {page.cookie}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n".encode()
        )
        assert b" 400 " in (connection.recv(100) or b" 400 ")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/api/labels", "/image/0/test"])
def test_only_what_is_needed_can_be_done(page: Page, method: str, path: str) -> None:
    assert page.ask(method, path)[0] == 405
    assert page.ask("GET" if path == "/api/labels" else "POST", path)[0] == 405


def test_a_label_is_kept_and_the_next_pair_told(page: Page) -> None:
    _, first = page.json("/api/pairs?limit=1")
    number = first["pairs"][0]["pair"]
    asked = {"pair": number, "label": "near", "band": "all", "from": 1}
    status, found = page.json("/api/labels", asked)
    assert (status, found["pair"]["mine"], found["next"]) == (200, "near", 1)
    assert found["state"]["mine"] == 1
    status, found = page.json("/api/undo", {"band": "all"})
    assert (status, found["pair"]["pair"], found["place"]) == (200, number, 0)
    assert page.json("/api/undo", {"band": "all"})[1]["pair"] is None


def test_images_are_encoded_anew_and_may_be_kept(page: Page) -> None:
    status, headers, body = page.ask("GET", "/image/0/test?size=view&as=matched")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert body[:8] == b"\x89PNG\r\n\x1a\n"
    assert body != encoded(picture(0))
    assert "private" in headers["Cache-Control"]


def test_an_image_that_is_missing_says_why(page: Page) -> None:
    status, found = page.json("/image/4/train")
    assert (status, found) == (404, {"error": "not in its shard any more"})
    assert page.json("/api/pair/4")[1]["about"]["train"]["problem"] == "not in its shard any more"


def test_hostile_captions_are_json_text(page: Page) -> None:
    _, headers, body = page.ask("GET", "/api/pair/0")
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(body)["about"]["test"]["caption"] == "picture 000000"


def test_damage_to_labels_of_others_is_told_and_the_page_goes_on(
    page: Page, tmp_path: Path
) -> None:
    others = tmp_path / "run" / "labels" / "ben.jsonl"
    others.write_text("no JSON\n")
    for _ in range(2):
        status, found = page.json("/api/labels", {"pair": 0, "label": "same"})
        assert (status, found["state"]["mine"]) == (200, 1)
        assert "ben.jsonl, line 1" in found["state"]["problems"][0]
    others.unlink()
    assert page.json("/api/state")[1]["problems"] == []


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    (taken,) = listen(0)
    with (
        taken,
        closing(Session(inputs(tmp_path, ROWS))) as session,
        pytest.raises(CurateError, match=r"--port .*: cannot be used"),
    ):
        serve(session, taken.getsockname()[1], lambda _url: None)


def test_it_listens_on_this_machine_only() -> None:
    (found,) = listen(0)
    with found:
        assert found.getsockname()[0] == "127.0.0.1"
