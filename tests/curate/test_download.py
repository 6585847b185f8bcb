"""Downloads from a real server on loopback that misbehaves in every usual way."""

import hashlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from curate.download import (
    DownloadOptions,
    DownloadResult,
    _claim,
    _request,
    check_conservation,
    download,
)
from curate.errors import CurateError
from curate.url_list import ListColumns, read_url_list


def picture(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((300, 200)).save(buffer, kind)
    return buffer.getvalue()


PAGE = b"<html><body>gone</body></html>"
BODIES = {f"/ok{n}": picture(n) for n in range(3)} | {"/png": picture(9, "PNG"), "/page": PAGE}


class Handler(BaseHTTPRequestHandler):
    asked: list[str]
    secret: Path

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = BODIES.get(self.path, picture(0))
        if self.path == "/slow":
            time.sleep(4)
        if self.path in ("/missing", "/redirect", "/to-file"):
            target = {"/redirect": "/ok1", "/to-file": self.secret.as_uri()}.get(self.path)
            self.send_response(302 if target else 404)
            self.send_header("Location", target or "/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (500 if self.path == "/cut" else 0)))
        if self.path == "/noai":
            self.send_header("X-Robots-Tag", "noai")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


Run = tuple[Path, DownloadResult, pl.DataFrame]


@dataclass(frozen=True)
class Served:
    address: str
    secret: Path
    asked: list[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    secret = tmp_path_factory.mktemp("secret") / "secret.jpg"
    secret.write_bytes(picture(77))
    asked: list[str] = []
    handler = type("Bound", (Handler,), {"asked": asked, "secret": secret})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Served(f"http://127.0.0.1:{server.server_address[1]}", secret, asked)
    server.shutdown()
    server.server_close()
    thread.join()


def listed(served: Served) -> list[tuple[str | None, str, str]]:
    """Rows (url, text, expected sha256): what the server does is in the path."""
    paths = ["/ok0", "/missing", "/page", "/slow", "/redirect", "/cut", "/noai", "/png", "/ok0"]
    rows: list[tuple[str | None, str, str]] = []
    for number, path in enumerate(paths):
        body = BODIES["/ok1"] if path == "/redirect" else BODIES.get(path, picture(0))
        rows.append((served.address + path, f"text {number}", hashlib.sha256(body).hexdigest()))
    some = hashlib.sha256(b"").hexdigest()
    rows.append((served.address + "/ok2", "wrong digest", some))
    rows.append((served.address + "/to-file", "redirect to a file", some))
    secret = served.secret.as_uri()
    refused = [secret, f"URL:{secret}", f"<{secret}>", "ftp://127.0.0.1/a.jpg", "ok.jpg", "", None]
    return rows + [(url, "refused", some) for url in refused]


OPTIONS = DownloadOptions(
    columns=ListColumns(url="link", caption="text", sha256="digest", keep=("score",)),
    samples_per_shard=8,
    threads=4,
    timeout=2,
)


@pytest.fixture(scope="module")
def run(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One download, in an environment whose proxy is a dead port."""
    folder = tmp_path_factory.mktemp("run")
    rows = pl.DataFrame(listed(served), schema=["link", "text", "digest"], orient="row")
    rows = rows.with_columns(pl.int_range(pl.len()).alias("score"))
    rows.write_parquet(folder / "list.parquet")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
            patch.setenv(name, "http://127.0.0.1:9")
        patch.setenv("no_proxy", "")
        patch.setenv("NO_PROXY", "")
        result = download(folder / "list.parquet", folder / "out", options=OPTIONS)
    return folder, result, rows


def members(result: DownloadResult) -> dict[int, dict[str, bytes]]:
    """list_row -> {extension: bytes} of all stored samples."""
    found: dict[str, dict[str, bytes]] = {}
    for path in result.shards:
        with tarfile.open(path) as tar:
            for member in tar:
                key, extension = member.name.split(".", 1)
                stream = tar.extractfile(member)
                assert stream is not None
                found.setdefault(key, {})[extension] = stream.read()
    return {json.loads(sample["json"])["list_row"]: sample for sample in found.values()}


def test_every_row_of_the_list_has_one_outcome(run: Run) -> None:
    _, result, rows = run
    assert result.rows == rows.height == sum(result.counts.values()) == 18
    assert result.counts == {"success": 5, "failed_to_download": 6, "refused": 7}
    assert [path.name for path in result.shards] == ["00000.tar", "00001.tar"]


def test_each_bad_answer_is_a_failure_with_its_reason(run: Run) -> None:
    _, result, _ = run
    reasons = {
        1: "HTTP Error 404: Not Found",
        3: "timed out",
        5: "IncompleteRead",
        6: "Use of image disallowed by X-Robots-Tag directive",
        9: "hash mismatch",
        10: "is not allowed",
    }
    failed = result.failures.filter(pl.col("status") == "failed_to_download")
    found = dict(failed.select("list_row", "error_message").iter_rows())
    assert set(found) == set(reasons)
    for row, reason in reasons.items():
        assert reason in found[row]
    assert pl.read_parquet(result.folder / "failures.parquet").equals(result.failures)


def test_the_bytes_are_kept_as_they_came(run: Run) -> None:
    _, result, rows = run
    stored = members(result)
    bodies = {0: "/ok0", 2: "/page", 4: "/ok1", 7: "/png", 8: "/ok0"}
    assert set(stored) == set(bodies)  # the page too: nothing looks into the bytes here
    for row, path in bodies.items():
        assert stored[row]["jpg"] == BODIES[path]
        facts = json.loads(stored[row]["json"])
        assert facts["sha256"] == hashlib.sha256(BODIES[path]).hexdigest() == rows["digest"][row]
        assert (facts["score"], facts["status"]) == (row, "success")
        assert stored[row]["txt"].decode() == rows["text"][row]


def test_nothing_but_http_is_ever_opened(run: Run, served: Served) -> None:
    _, result, rows = run
    refused = result.failures.filter(pl.col("status") == "refused")
    assert refused["list_row"].to_list() == list(range(11, 18))
    assert refused["url"].to_list() == rows["link"][11:].to_list()
    for path in result.shards:
        assert served.secret.read_bytes() not in path.read_bytes()


def test_a_second_run_asks_for_nothing(run: Run, served: Served) -> None:
    folder, result, _ = run
    before = len(served.asked)
    again = download(folder / "list.parquet", folder / "out", options=OPTIONS)
    assert len(served.asked) == before
    assert (again.counts, again.shards) == (result.counts, result.shards)
    assert again.failures.equals(result.failures)


def test_another_list_or_other_bytes_are_refused_in_the_same_folder(run: Run) -> None:
    folder, _, rows = run
    rows.head(3).write_parquet(folder / "other.parquet")
    with pytest.raises(CurateError, match="another list or with other options"):
        download(folder / "other.parquet", folder / "out", options=OPTIONS)
    options = replace(OPTIONS, image_size=64)
    with pytest.raises(CurateError, match="another list or with other options"):
        download(folder / "list.parquet", folder / "out", options=options)


def test_a_resume_downloads_only_the_shard_that_is_missing(run: Run, served: Served) -> None:
    folder, result, _ = run
    first, second = (path.read_bytes() for path in result.shards)
    (folder / "out" / "shards" / "00001_stats.json").unlink()
    result.shards[1].write_bytes(second[:700])  # as a killed run leaves it
    before = len(served.asked)
    again = download(folder / "list.parquet", folder / "out", options=OPTIONS)
    assert sorted(served.asked[before:]) == ["/ok0", "/ok2", "/to-file"]
    assert again.counts == result.counts
    assert result.shards[0].read_bytes() == first
    assert set(members(again)) == {0, 2, 4, 7, 8}


@pytest.mark.slow
def test_resized_images_and_ignored_opt_outs(served: Served, tmp_path: Path) -> None:
    urls = [served.address + path for path in ("/ok0", "/page", "/noai", "/ok1")]
    (tmp_path / "list.txt").write_text("\n".join([*urls, "", "file:///etc/hostname"]) + "\n")
    options = DownloadOptions(threads=2, image_size=64, respect_robots=False)
    result = download(tmp_path / "list.txt", tmp_path / "out", options=options)
    assert result.counts == {"failed_to_resize": 1, "refused": 1, "success": 3}
    stored = members(result)
    assert {Image.open(io.BytesIO(s["jpg"])).size for s in stored.values()} == {(64, 43)}
    facts = json.loads(stored[0]["json"])
    assert facts["sha256"] == hashlib.sha256(BODIES["/ok0"]).hexdigest()  # of what was downloaded
    assert facts["sha256"] != hashlib.sha256(stored[0]["jpg"]).hexdigest()


def test_a_failed_run_names_its_log(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("http://127.0.0.1:9/a.jpg\n")
    fetch = read_url_list(listed, ListColumns()).fetch
    _claim(tmp_path / "out", _request(fetch, DownloadOptions()))
    (tmp_path / "out" / "shards" / "mine.json").write_text("{}")  # it wants a number in such names
    with pytest.raises(CurateError, match=r"log: img2dataset ended with 1:\n[^$]*mine"):
        download(listed, tmp_path / "out")


def test_a_list_without_anything_to_fetch_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("file:///etc/hostname\nftp://127.0.0.1/a.jpg\n")
    result = download(tmp_path / "list.txt", tmp_path / "out")
    assert (result.counts, result.shards) == ({"refused": 2}, ())
    assert not result.log.exists()


FETCH = pl.DataFrame({"list_row": [0, 1], "url": ["http://a/0", "http://a/1"]})


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        (FETCH.head(1), "1 rows of the list have no status row"),
        (pl.concat([FETCH, FETCH.tail(1)]), "2 rows of the list have more than one"),
        (pl.concat([FETCH, FETCH.with_columns(pl.col("list_row") + 5)]), "2 rows .* a foreign"),
    ],
)
def test_rows_that_are_lost_repeated_or_strange_are_an_error(
    outcomes: pl.DataFrame, message: str
) -> None:
    check_conservation(FETCH, FETCH, Path("out"))
    with pytest.raises(CurateError, match=message):
        check_conservation(FETCH, outcomes, Path("out"))


def test_without_img2dataset_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text("http://127.0.0.1/a.jpg\n")
    monkeypatch.setitem(__import__("sys").modules, "img2dataset", None)
    with pytest.raises(CurateError, match=r"pip install 'curate\[download\]'"):
        download(tmp_path / "list.txt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("http://127.0.0.1/a.jpg\n")
    with pytest.raises(CurateError, match="is no download"):
        download(tmp_path / "list.txt", tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        DownloadOptions(threads=0),
        DownloadOptions(retries=-1),
        DownloadOptions(image_size=0),
        DownloadOptions(resize_mode="no"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: DownloadOptions) -> None:
    with pytest.raises(CurateError, match="download:"):
        download(tmp_path / "list.txt", tmp_path / "out", options=options)
