"""Downloads of lists by the real img2dataset, from a server that misbehaves in every usual way."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import psutil
import pytest
from dask_processes import workers_of
from image_server import BODIES, GOOD, ImageServer, image_server, picture
from PIL import Image

from curate.download import DownloadOptions, DownloadResult, check_conservation, download
from curate.errors import CurateError, PartialRunError
from curate.formats import img2dataset
from curate.url_list import ListColumns

Run = tuple[Path, DownloadResult, pl.DataFrame]


@dataclass(frozen=True)
class Served:
    server: ImageServer
    secret: Path

    @property
    def address(self) -> str:
        return self.server.address

    @property
    def asked(self) -> list[str]:
        return self.server.asked


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    secret = tmp_path_factory.mktemp("secret") / "secret.jpg"
    secret.write_bytes(picture(77))
    with image_server() as server:
        server.target = secret.as_uri()
        server.down |= {"/ok3"}
        yield Served(server, secret)


PATHS = ("/ok0", "/missing", "/page", "/slow", "/redirect", "/cut", "/noai", "/png", "/ok0")


def listed(served: Served) -> list[tuple[str | None, str, str]]:
    """Rows (url, text, expected sha256): what the server does is in the path."""
    rows: list[tuple[str | None, str, str]] = []
    for number, path in enumerate(PATHS):
        body = BODIES["/ok1"] if path == "/redirect" else BODIES.get(path, GOOD)
        rows.append((served.address + path, f"text {number}", hashlib.sha256(body).hexdigest()))
    some = hashlib.sha256(b"").hexdigest()
    rows.append((served.address + "/ok2", "wrong digest", some))
    rows.append((served.address + "/to-target", "redirect to a file", some))
    down = hashlib.sha256(BODIES["/ok3"]).hexdigest()
    rows.append((served.address + "/ok3", "down at first", down))
    rows += [(served.address + path, "hostile", some) for path in ("/endless", "/bomb", "/drip")]
    secret = served.secret.as_uri()
    refused = [secret, f"URL:{secret}", f"<{secret}>", "ftp://127.0.0.1/a.jpg", "ok.jpg", "", None]
    return rows + [(url, "refused", some) for url in refused]


OPTIONS = DownloadOptions(
    columns=ListColumns(url="link", caption="text", sha256="digest", keep=("score",)),
    samples_per_shard=8,
    threads=4,
    timeout=2,
    deadline=3,
    max_bytes=1 << 20,
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


def rows_of(result: DownloadResult) -> pl.DataFrame:
    """list_row and status of every status row beside the shards."""
    tables = [
        pl.read_parquet(path.with_suffix(".parquet"), columns=["list_row", "status"])
        for path in result.shards
    ]
    return pl.concat(tables)


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a download but its log."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_every_row_of_the_list_has_one_outcome(run: Run) -> None:
    _, result, rows = run
    assert result.rows == rows.height == sum(result.counts.values()) == 22
    assert result.counts == {"success": 4, "failed_to_download": 11, "refused": 7}
    assert [path.name for path in result.shards] == ["00000.tar", "00001.tar"]
    assert result.tries == 1


def test_each_bad_answer_is_a_failure_with_its_reason(run: Run) -> None:
    _, result, _ = run
    reasons = {
        1: "HTTP Error 404: Not Found",
        2: "the body is text, no image",
        3: "timed out",
        5: f"the body ends after {len(GOOD)} of {len(GOOD) + 500} bytes",
        6: "Use of image disallowed by X-Robots-Tag directive",
        9: "hash mismatch",
        10: "redirected: only http and https are fetched, not 'file'",
        11: "HTTP Error 503: Service Unavailable",
        12: "larger than 1048576 bytes",
        13: "larger than 1048576 bytes",
        14: "not done after 3 s",
    }
    failed = result.failures.filter(pl.col("status") == "failed_to_download")
    assert dict(failed.select("list_row", "error_message").iter_rows()) == reasons
    assert pl.read_parquet(result.folder / "failures.parquet").equals(result.failures)


def test_the_bytes_are_kept_as_they_came(run: Run) -> None:
    _, result, rows = run
    stored = members(result)
    bodies = {0: "/ok0", 4: "/ok1", 7: "/png", 8: "/ok0"}
    assert set(stored) == set(bodies)
    for row, path in bodies.items():
        assert stored[row]["jpg"] == BODIES[path]
        facts = json.loads(stored[row]["json"])
        assert facts["sha256"] == hashlib.sha256(BODIES[path]).hexdigest() == rows["digest"][row]
        assert (facts["score"], facts["status"]) == (row, "success")
        assert stored[row]["txt"].decode() == rows["text"][row]


def test_shards_are_in_the_order_of_the_list_and_without_times(run: Run) -> None:
    _, result, _ = run
    for path in result.shards:
        with tarfile.open(path) as tar:
            assert tar.getnames() == sorted(tar.getnames())
            assert {member.mtime for member in tar} <= {0}
        assert img2dataset.status_table(path) is not None
    assert rows_of(result)["list_row"].to_list() == list(range(15))
    statistics = json.loads((result.folder / "shards" / "00000_stats.json").read_text())
    assert statistics["count"] == 8
    assert statistics["successes"] == 3
    assert statistics["status_dict"]["HTTP Error 404: Not Found"] == 1
    assert not (result.folder / "work").exists()


def test_nothing_but_http_is_ever_opened(run: Run, served: Served) -> None:
    _, result, rows = run
    refused = result.failures.filter(pl.col("status") == "refused")
    assert refused["list_row"].to_list() == list(range(15, 22))
    assert refused["url"].to_list() == rows["link"][15:].to_list()
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


@pytest.mark.slow
def test_a_resume_downloads_only_the_shard_that_is_missing(run: Run, served: Served) -> None:
    folder, result, _ = run
    whole = tree(folder / "out")
    (folder / "out" / "shards" / "00001_stats.json").unlink()
    result.shards[1].write_bytes(b"half")
    (folder / "out" / "work" / "old").mkdir(parents=True)  # as a killed run leaves it
    before = len(served.asked)
    again = download(folder / "list.parquet", folder / "out", options=OPTIONS)
    assert sorted(served.asked[before:]) == [
        *("/bomb", "/drip", "/endless", "/ok0", "/ok2", "/ok3", "/to-target")
    ]
    assert again.counts == result.counts
    assert tree(folder / "out") == whole


@dataclass(frozen=True)
class Retried:
    result: DownloadResult
    asked: list[str]
    told: list[tuple[int, int]]


@pytest.fixture(scope="module")
def retry(run: Run, served: Served) -> Retried:
    """A further try of a copy of the run; one image is to be had by now."""
    folder, _, _ = run
    out = folder / "retried"
    shutil.copytree(folder / "out", out)
    served.server.down.discard("/ok3")
    before, told = len(served.asked), list[tuple[int, int]]()
    retried = download(
        folder / "list.parquet", out, options=OPTIONS, retry=True,
        step=lambda shards, rows: told.append((shards, rows)),
    )  # fmt: skip
    served.server.down.add("/ok3")
    return Retried(retried, served.asked[before:], told)


@pytest.mark.slow
def test_a_retry_fetches_what_failed_into_new_shards(
    run: Run, served: Served, retry: Retried
) -> None:
    folder, result, _ = run
    retried, out = retry.result, retry.result.folder
    assert sorted(retry.asked) == sorted(
        [*("/missing", "/page", "/slow", "/cut", "/ok2", "/to-target", "/ok3"),
         *("/endless", "/bomb", "/drip")]
    )  # fmt: skip
    assert sorted(retry.told) == [(1, 2), (1, 8)]
    assert retried.counts == {"success": 5, "failed_to_download": 10, "refused": 7}
    assert retried.tries == 2
    assert members(retried)[11]["jpg"] == BODIES["/ok3"]
    assert sorted(rows_of(retried)["list_row"]) == list(range(15))  # every row stands once
    for old in result.shards:
        assert (out / "shards" / old.name).read_bytes() == old.read_bytes()
    tried = pl.read_parquet(out / "tries" / "0001.parquet")
    assert tried["error_message"][6] == "HTTP Error 503: Service Unavailable"
    assert tried.height == 10  # an image whose server opted out is not asked for again

    whole = tree(out)
    asked_before = len(served.asked)
    again = download(folder / "list.parquet", out, options=OPTIONS)
    assert (again.counts, len(served.asked)) == (retried.counts, asked_before)
    assert tree(out) == whole


@pytest.mark.slow
def test_a_retry_that_was_cut_short_is_only_finished(
    run: Run, served: Served, retry: Retried
) -> None:
    """As a kill leaves it: one of two shards is there, and the rows of it stand twice."""
    folder, _, _ = run
    whole, out = tree(retry.result.folder), folder / "cut"
    shutil.copytree(retry.result.folder, out)
    for name in ("00000", "00001"):
        for ending in (".parquet", "_stats.json"):
            shutil.copy(folder / "out" / "shards" / f"{name}{ending}", out / "shards")
    for ending in (".tar", ".parquet", "_stats.json"):
        (out / "shards" / f"00003{ending}").unlink()
    before = len(served.asked)
    download(folder / "list.parquet", out, options=OPTIONS, retry=True)
    assert sorted(served.asked[before:]) == ["/bomb", "/drip"]
    assert tree(out) == whole


def test_nothing_is_left_to_retry(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("file:///etc/hostname\n")
    result = download(tmp_path / "list.txt", tmp_path / "out", retry=True)
    assert (result.counts, result.tries) == ({"refused": 1}, 1)


@pytest.mark.slow
def test_resized_images_and_ignored_opt_outs(served: Served, tmp_path: Path) -> None:
    urls = [served.address + path for path in ("/ok0", "/no-image", "/noai", "/ok1")]
    (tmp_path / "list.txt").write_text("\n".join([*urls, "", "file:///etc/hostname"]) + "\n")
    options = DownloadOptions(threads=2, image_size=64, respect_robots=False)
    result = download(tmp_path / "list.txt", tmp_path / "out", options=options)
    assert result.counts == {"failed_to_resize": 1, "refused": 1, "success": 3}
    stored = members(result)
    assert {Image.open(io.BytesIO(s["jpg"])).size for s in stored.values()} == {(64, 43)}
    facts = json.loads(stored[0]["json"])
    assert facts["sha256"] == hashlib.sha256(BODIES["/ok0"]).hexdigest()  # of what was downloaded
    assert facts["sha256"] != hashlib.sha256(stored[0]["jpg"]).hexdigest()


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("raise SystemExit('mine')", CurateError, r"log: img2dataset ended with 1:\n[^$]*mine"),
        ("download = lambda **_: print('mine')", PartialRunError, "1 shards failed; the same"),
    ],
)
def test_a_failed_run_shows_the_end_of_its_log(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    kind: type[CurateError],
    message: str,
) -> None:
    (tmp_path / "img2dataset.py").write_text(body)  # stands for one that fails
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "list.txt").write_text("http://127.0.0.1:9/a.jpg\n")
    with pytest.raises(CurateError, match=message) as caught:
        download(tmp_path / "list.txt", tmp_path / "out")
    assert type(caught.value) is kind
    assert "mine" in str(caught.value)
    assert not (tmp_path / "out" / "work").exists()


def group(pid: int) -> set[int]:
    """The processes below one, zombies left out."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(path.parent.name)
            found |= {child} | group(child)
    return found


def end_soon(pids: set[int]) -> bool:
    """Whether processes end within some seconds."""
    end = time.monotonic() + 5
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and (
        time.monotonic() < end
    ):
        time.sleep(0.05)
    return not left


@pytest.mark.slow
def test_killed_runs_leave_nothing_running_and_lose_nothing(served: Served, tmp_path: Path) -> None:
    """Three kills at different moments; then the same bytes as of an undisturbed run."""
    paths = ("/ok0", "/missing", "/slow", "/ok1", "/png", "/cut", "/ok2", "/redirect")
    (tmp_path / "list.txt").write_text("\n".join(served.address + path for path in paths * 3))
    words = [
        *(sys.executable, "-m", "pipelines", "download", str(tmp_path / "list.txt")),
        *("--samples-per-shard", "4", "--timeout", "1", "--threads", "3"),
    ]
    subprocess.run([*words, "--out", str(tmp_path / "calm")], check=True, capture_output=True)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for seconds in (4.0, 6.5, 8.0):
        process = subprocess.Popen(
            [*words, "--out", str(tmp_path / "out")], env=os.environ | {"TMPDIR": str(temporary)}
        )
        time.sleep(seconds)
        below = group(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert end_soon(below)
        assert not list(temporary.iterdir())
    subprocess.run(
        [*words, "--out", str(tmp_path / "out"), "--workers", "2"], check=True, capture_output=True
    )
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def downloading(urls: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pipelines", "download", str(urls), "--out", str(out)),
            *("--samples-per-shard", "4", "--threads", "1", "--host-rate", "4"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(served: Served, tmp_path: Path) -> None:
    paths = ("/ok0", "/ok1", "/ok2", "/missing")
    (tmp_path / "list.txt").write_text("\n".join(served.address + path for path in paths * 4))
    calm = downloading(tmp_path / "list.txt", tmp_path / "calm")
    assert calm.wait() == 0
    before = len(served.asked)
    process = downloading(tmp_path / "list.txt", tmp_path / "out")
    while len(served.asked) < before + 6:
        time.sleep(0.05)
    workers_of(process.pid)[-1].kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")
    log = (tmp_path / "out" / "img2dataset.log").read_text()
    assert log.count("a worker was killed") == 1


@pytest.mark.slow
def test_workers_that_are_killed_again_and_again_end_as_partial(
    served: Served, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(f"{served.address}/drip\n" * 8)
    process = downloading(tmp_path / "list.txt", tmp_path / "out")
    while process.poll() is None:
        for worker in workers_of(process.pid)[1:]:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        time.sleep(0.05)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 3, errors
    assert "2 shards failed as workers were killed, perhaps for want of memory; the same" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out" / "work").exists()


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_and_says_that_it_goes_on(served: Served, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{served.address}/drip\n" * 50)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipelines", "download", str(tmp_path / "list.txt")),
            *("--out", str(tmp_path / "out"), "--threads", "1"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    while "/drip" not in served.asked[-1]:
        time.sleep(0.1)
    below = group(process.pid)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 3, errors
    assert "the same command goes on" in errors
    assert len(below) >= 3
    assert end_soon(below)


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


def test_a_download_that_was_killed_at_its_very_beginning_begins_anew(
    served: Served, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(f"{served.address}/ok0\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".request.json.0123456789abcdef.tmp").write_bytes(b"half")
    assert download(tmp_path / "list.txt", tmp_path / "out").counts == {"success": 1}
    assert not list((tmp_path / "out").rglob(".*.tmp"))


def test_a_folder_with_other_files_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("http://127.0.0.1/a.jpg\n")
    (other := tmp_path / ".mine.0123456789abcdef.tmp").touch()
    with pytest.raises(CurateError, match="is no download"):
        download(tmp_path / "list.txt", tmp_path)
    assert other.is_file()


@pytest.mark.parametrize(
    "options",
    [
        DownloadOptions(threads=0),
        DownloadOptions(retries=-1),
        DownloadOptions(image_size=0),
        DownloadOptions(resize_mode="no"),
        DownloadOptions(max_bytes=0),
        DownloadOptions(host_rate=float("nan")),
        DownloadOptions(user_agent_token="my bot"),
        DownloadOptions(contact="me\r\nX: y"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: DownloadOptions) -> None:
    with pytest.raises(CurateError, match="download:"):
        download(tmp_path / "list.txt", tmp_path / "out", options=options)
