"""Stored runs on S3 through a connection that fails or ends at any request."""

import random
from pathlib import Path

import fsspec
import pytest
from faulty_proxy import Fault, Faults, Request, dead_from, through_proxy
from stored_runs import make, tree

from curate.errors import CurateError, PartialRunError
from curate.files import write_json
from curate.storage import local_path, stored, verify_stored

pytestmark = pytest.mark.usefixtures("impatient")

FAST = (0.0, 0.0)
PATIENT = (0.0,) * 12
STEPS = [13, pytest.param(1, marks=pytest.mark.slow)]
"""Of the requests at which the connection ends, each thirteenth; or each."""


def work(url: str, word: str, waits: tuple[float, ...] = FAST) -> None:
    with stored(url, waits) as folder:
        make(folder, "splits/a", word)
        make(folder, "matches/b", "same")
        write_json(folder / "run.json", {"word": word})


def contents(url: str) -> dict[str, bytes]:
    """Objects of a run that are not hidden."""
    files = fsspec.filesystem("s3", use_listings_cache=False)
    start = url.removeprefix("s3://") + "/"
    return {
        name.removeprefix(start): files.cat_file(name)
        for name in files.find(start)
        if "/." not in name
    }


def whole(url: str) -> bool:
    """Whether every artifact that counts is whole."""
    try:
        problems = verify_stored(url)[1]
    except CurateError as error:
        return "no artifact" in str(error)
    return all(problem.endswith("half sent") for problem in problems)


def error_of(url: str, word: str) -> str | None:
    """What a run that ends early says."""
    try:
        work(url, word)
    except PartialRunError as error:
        return str(error)
    return None


def on(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / machine))


def test_a_round_trip_gives_equal_bytes(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/trip"
    with stored(Path(url)) as folder:
        make(folder, "splits/a", "one")
        expected = tree(folder)
    on("other", tmp_path, monkeypatch)
    with stored(url) as folder:
        assert tree(folder) == expected
        assert not make(folder, "splits/a", "one")
    assert contents(url) == expected
    assert tree(local_path(f"{url}/splits/a")) == {
        name.removeprefix("splits/a/"): data for name, data in expected.items()
    }


def test_nothing_that_is_there_is_sent_again(bucket: str) -> None:
    url, faults = f"{bucket}/again", Faults()
    work(url, "one")
    with through_proxy(faults), stored(url) as folder:
        make(folder, "splits/a", "one")
    sent = [one.path for one in faults.asked if one.method == "PUT"]
    assert [path for path in sent if "curate-lock" not in path] == []


def test_what_arrived_before_the_connection_ended_is_not_sent_again(bucket: str) -> None:
    url = f"{bucket}/resumed"

    def is_manifest(request: Request) -> Fault | None:
        return "500" if request.method == "PUT" and "manifest" in request.path else None

    with through_proxy(Faults(is_manifest)), pytest.raises(PartialRunError):
        work(url, "one")
    faults = Faults()
    with through_proxy(faults):
        work(url, "one")
    sent = [one.path for one in faults.asked if one.method == "PUT"]
    of_matches = [path.rpartition("/")[2] for path in sent if "matches/b" in path]
    assert not any(name.endswith(".bin") for name in of_matches)
    assert "manifest.json" in of_matches


@pytest.mark.parametrize("step", STEPS)
def test_whenever_the_connection_ends_artifacts_are_whole_or_absent(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    url = f"{bucket}/ends-{step}"
    work(url, "one")
    counted = Faults()
    with through_proxy(counted):
        work(url, "two")
    expected = contents(url)
    for number in range(0, len(counted.asked), step):
        work(url, "one")
        with through_proxy(Faults(dead_from(number))):
            told = error_of(url, "two")
        assert told is None or "the same command goes on" in told
        assert whole(url), number
        work(url, "two")
        assert contents(url) == expected, number
    on("another", tmp_path, monkeypatch)
    work(url, "two")
    assert contents(url) == expected


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_connection_shows_in_nothing_but_time(bucket: str, seed: int) -> None:
    url, rng = f"{bucket}/bad-{seed}", random.Random(seed)
    kinds: list[Fault] = ["500", "503", "reset", "lost", "cut"]

    def plan(_: Request) -> Fault | None:
        return rng.choice(kinds) if rng.random() < 0.2 else None

    work(f"{bucket}/good", "one")
    with through_proxy(Faults(plan)):
        work(url, "other", PATIENT)
        work(url, "one", PATIENT)
    assert contents(url) == contents(f"{bucket}/good")
    assert verify_stored(url)[1] == []


def test_credentials_that_allow_too_little_are_told_at_once(bucket: str) -> None:
    faults = Faults(lambda request: "403" if request.method == "PUT" else None)
    with through_proxy(faults), pytest.raises(CurateError, match="Check the credentials") as caught:
        work(f"{bucket}/forbidden", "one")
    assert not isinstance(caught.value, PartialRunError)
    assert len(faults.asked) < 5
