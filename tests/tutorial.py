"""The tutorial as a program: its commands, run one after the other, and what they print.

    PYTHONPATH=tests python tests/tutorial.py --write

puts what they print now into docs/tutorial.md.
"""

from __future__ import annotations

import csv
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_server import image_server
from markdown import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from image_server import ImageServer

PAGE = ROOT / "docs" / "tutorial.md"
ADDRESS = "http://127.0.0.1:8000"
"""Of the web server that the page tells to start."""
_BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"([-+\u2212]?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Step:
    """A command of the page and what is shown below it."""

    command: str
    shown: str


def steps() -> list[Step]:
    """All commands in the order of the page."""
    found = []
    for block in _BLOCK.findall(PAGE.read_text("utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.replace("\\\n", "").partition("\n")
            found.append(Step(" ".join(command.split()), shown.rstrip("\n")))
    return found


def played(folder: Path) -> Iterator[tuple[Step, str]]:
    """Each step with what its command prints in a folder, by a web server of this process."""
    (folder / "docs").symlink_to(ROOT / "docs")
    with image_server() as server:
        for step in steps():
            if step.command.startswith("python -m http.server"):
                files = (folder / "practice" / "pictures").iterdir()
                server.pictures |= {f"/{file.name}": file.read_bytes() for file in files}
                continue
            command = step.command
            if "docs/practice.py" in command:
                command += f" {server.address}"
            told = _review(command, folder, server) if "curate review" in command else None
            yield step, told if told is not None else _run(command, folder, server)


def _started(command: str, folder: Path, *, wait: bool) -> subprocess.Popen[str]:
    """The command in a process of its own, by this Python."""
    words = shlex.split(command)
    first = {"curate": [sys.executable, "-m", "pipelines"], "python": [sys.executable]}
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [*first[words[0]], *words[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if wait else None,
        text=True,
    )


def _run(command: str, folder: Path, server: ImageServer) -> str:
    process = _started(command, folder, wait=True)
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, f"{command}: {told}"
    return told.replace(server.address, ADDRESS).rstrip("\n")


def _review(command: str, folder: Path, server: ImageServer) -> str:
    """A reviewer who knows the answer judges what was drawn, then presses Ctrl-C."""
    process = _started(command, folder, wait=False)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(3)]
    try:
        _judge(told[0].split()[1], _copies(folder))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    return re.sub(r":\d+/\?token=\S+", ":40123/?token=...", "".join(told)).rstrip("\n")


def _copies(folder: Path) -> set[tuple[str, str]]:
    """The planted pairs: test ids, and the names of pictures on the server."""
    with (folder / "practice" / "answer.csv").open(newline="") as lines:
        return {(row["test_id"], Path(row["url"]).stem) for row in csv.DictReader(lines)}


def _judge(address: str, copies: set[tuple[str, str]]) -> None:
    port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(.*)", address).groups()  # type: ignore[union-attr]
    cookie = _asked(port, "GET", f"/?token={token}", "").headers["Set-Cookie"].partition(";")[0]
    drawn = _asked(port, "GET", "/api/pairs?band=plan&limit=100", cookie)
    for pair in json.loads(drawn.read())["pairs"]:
        # img2dataset's key is the row of the list, as the name on the server is
        is_copy = (pair["test_id"], f"{int(pair['train_id'][-5:]):04}") in copies
        label = {"pair": pair["pair"], "label": "same" if is_copy else "different"}
        _asked(port, "POST", "/api/labels", cookie, label).read()


def _asked(
    port: str, method: str, path: str, cookie: str, body: Any = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    headers = {"Cookie": cookie, "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == http.HTTPStatus.OK, path
    return answer


def differs(shown: str, told: str, slack: float) -> str | None:
    """The first line that is told otherwise than shown, or None; numbers may differ by `slack`."""
    for one, other in zip_longest(shown.splitlines(), told.splitlines(), fillvalue=""):
        parts, others = _NUMBER.split(one), _NUMBER.split(other)
        if len(parts) != len(others):
            return f"shown {one!r}, told {other!r}"
        for word, now in zip(parts, others, strict=True):
            is_number = _NUMBER.fullmatch(word) and _NUMBER.fullmatch(now)
            if word != now and not (is_number and _near(word, now, slack)):
                return f"shown {one!r}, told {other!r}"
    return None


def _near(one: str, other: str, slack: float) -> bool:
    first, second = (float(text.replace("\u2212", "-")) for text in (one, other))
    return abs(first - second) <= slack


def write() -> None:
    """Put what the commands print now into the page."""
    text = PAGE.read_text("utf-8")
    with tempfile.TemporaryDirectory() as place:
        for step, told in played(Path(place)):
            sys.stdout.write(f"$ {step.command}\n{told}\n")
            sys.stdout.flush()
            text = _with(text, step, told)
    PAGE.write_text(text, "utf-8")


def _with(text: str, step: Step, told: str) -> str:
    words = r"\s+(?:\\\n\s*)?".join(map(re.escape, step.command.split()))
    shown = re.escape(step.shown) + "\n" if step.shown else ""
    found = re.compile(rf"^(\$ {words}\n){shown}(?=\$ |```)", re.MULTILINE)
    assert len(found.findall(text)) == 1, step.command
    return found.sub(lambda match: match[1] + (f"{told}\n" if told else ""), text)


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
