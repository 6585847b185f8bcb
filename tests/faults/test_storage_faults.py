"""S3 that answers with errors, cuts bodies, resets connections and is slow; whole commands."""

from __future__ import annotations

import hashlib
import json
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from campaign import BRIEF, Study, differences, left_by, write_study
from faulty_proxy import Fault, Faults, Request, faulty_proxy
from servers import s3_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
KINDS: tuple[Fault, ...] = ("500", "503", "slow", "cut", "reset", "lost")


def every(step: int) -> Callable[[Request], Fault | None]:
    """A plan: one request of so many goes wrong, in all ways by turns."""
    return lambda request: (
        None if request.number % step else KINDS[request.number // step % len(KINDS)]
    )


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server("faults") as url:
        yield url


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("study"), BRIEF)


def speaking_to(endpoint: str, cache: Path, **more: Any) -> dict[str, str]:
    """The environment of a command that speaks to S3 at some address."""
    settings = {**fsspec.config.conf["s3"], "endpoint_url": endpoint, **more}
    return {"FSSPEC_S3": json.dumps(settings), "CURATE_CACHE": str(cache)}


def until_done(call: Callable[[], subprocess.CompletedProcess[str]], tries: int = 6) -> list[int]:
    """Give the same command again as long as it says that it is partial; its exit codes."""
    codes: list[int] = []
    while len(codes) < tries and codes[-1:] != [0]:
        done = call()
        assert done.returncode in (0, 3), done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        codes.append(done.returncode)
    return codes


def test_shards_are_read_whole_from_a_store_that_fails_now_and_then(
    study: Study, bucket: str, tmp_path: Path
) -> None:
    store = fsspec.filesystem("s3")
    for name in ("train", "set"):
        store.put(str(study.folder / name), f"{bucket}/{name}", recursive=True)
    settings = (
        f"sets.pictures-train.shards={bucket}/train/{{00000..00003}}.tar",
        f"sets.pictures-test.shards={bucket}/set/test/{{0..2}}.tar",
    )
    endpoint = fsspec.config.conf["s3"]["endpoint_url"]
    quiet = speaking_to(endpoint, tmp_path / "quiet")
    done = study.run(tmp_path / "a" / "run", *settings, environment=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    faults = Faults(every(4))
    with faulty_proxy(endpoint, faults) as url:
        loud = speaking_to(url, tmp_path / "loud")
        out = tmp_path / "b" / "run"
        assert until_done(lambda: study.run(out, *settings, environment=loud))[-1] == 0
    assert len(faults.asked) > 20
    assert not differences(left_by(tmp_path / "b" / "run"), left_by(tmp_path / "a" / "run"))


def test_a_result_arrives_whole_in_a_store_that_fails_now_and_then(
    study: Study, bucket: str, tmp_path: Path
) -> None:
    endpoint = fsspec.config.conf["s3"]["endpoint_url"]
    quiet = speaking_to(endpoint, tmp_path / "quiet")
    assert until_done(lambda: study.call(dedup(f"{bucket}/a/run"), quiet)) == [0]
    faults = Faults(every(7))
    with faulty_proxy(endpoint, faults) as url:
        loud = speaking_to(url, tmp_path / "loud")
        assert until_done(lambda: study.call(dedup(f"{bucket}/b/run"), loud))[-1] == 0
    assert len(faults.asked) > 20
    assert not differences(stored(f"{bucket}/b/run"), stored(f"{bucket}/a/run"))
    verify = [sys.executable, "-m", "pipelines", "verify", f"{bucket}/b/run"]
    assert study.call(verify, quiet).returncode == 0


def test_a_result_in_a_store_that_stops_answering_is_finished_by_the_same_command(
    study: Study, bucket: str, tmp_path: Path
) -> None:
    endpoint = fsspec.config.conf["s3"]["endpoint_url"]
    numbers = count()

    def plan(_: Request) -> Fault | None:
        return "reset" if next(numbers) > 30 else None

    with faulty_proxy(endpoint, Faults(plan)) as url:
        tries = {"retries": {"max_attempts": 0}}  # botocore's own, within those of s3fs
        dead = speaking_to(url, tmp_path / "cache", config_kwargs=tries)
        done = study.call(dedup(f"{bucket}/c/run"), dead)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the same command goes on" in done.stderr.replace("\n", " ")
    quiet = speaking_to(endpoint, tmp_path / "cache")
    assert until_done(lambda: study.call(dedup(f"{bucket}/c/run"), quiet)) == [0]
    assert not differences(stored(f"{bucket}/c/run"), stored(f"{bucket}/a/run"))


def dedup(out: str) -> list[str]:
    return [
        sys.executable, "-m", "pipelines", "dedup", "--test", "set/test", "--train", "train",
        "--detector", "builtin:layout", "--threshold", "0.8", "--out", out,
    ]  # fmt: skip


def stored(run: str) -> dict[str, str]:
    """Digests of the results that a store holds below an address."""
    store = fsspec.filesystem("s3")
    store.invalidate_cache()
    root = run.removeprefix("s3://")
    found: dict[str, Any] = {
        name.removeprefix(f"{root}/"): store.cat_file(name) for name in store.find(root)
    }
    return {
        name: hashlib.sha256(data).hexdigest()
        for name, data in found.items()
        if "facts/" not in name and not name.rpartition("/")[2].startswith((".", "run.json"))
    }
