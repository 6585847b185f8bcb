"""Cache first, then one short attempt; a hub on loopback stands in for the real one."""

from __future__ import annotations

import http.server
import threading
import time
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from curate.encoders.hub import hub_file
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMIT = "0123456789" * 4


class Hub(http.server.BaseHTTPRequestHandler):
    """Has one file, `weights.bin` of org/there; answers 404 with the hub's headers else."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        there = self.path.startswith("/org/there/") and self.path.endswith("/weights.bin")
        content = b"weights" if there else b""
        self.send_response(200 if there else 404)
        if there:
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            known = self.path.startswith("/org/there/")
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(hub_at: Callable[[str], Path]) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub_at(f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("hub")
def test_the_first_file_that_exists_is_downloaded_and_then_cached(
    hub_at: Callable[[str], Path],
) -> None:
    names = ["weights.safetensors", "weights.bin"]
    path = hub_file("org/there", names, encoder="e", dry_run="r")
    assert path.read_bytes() == b"weights"
    hub_at("http://127.0.0.1:9")
    assert hub_file("org/there", names, encoder="e", dry_run="r") == path


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("repo", ["org/there", "org/absent"])
def test_what_the_hub_lacks_is_an_error(repo: str) -> None:
    with pytest.raises(CurateError, match=r"cannot be downloaded \(.*404"):
        hub_file(repo, ["other.bin"], encoder="e", dry_run="r")


def test_without_a_network_the_answer_is_quick_and_says_what_to_do(without_hub: Path) -> None:
    started = time.monotonic()
    with pytest.raises(CurateError) as caught:
        hub_file("org/name", ["a.safetensors", "a.bin"], encoder="p:wanted", dry_run="p:random")
    assert time.monotonic() - started < 10
    for words in (
        "p:wanted",
        "127.0.0.1:9 cannot be reached",
        "--weights PATH",
        "a.safetensors or a.bin of org/name",
        str(without_hub),
        "p:random",
    ):
        assert words in str(caught.value)


def test_offline_mode_does_not_try_the_network(
    without_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CurateError, match="HF_HUB_OFFLINE is set"):
        hub_file("org/name", ["a.bin"], encoder="e", dry_run="r")
