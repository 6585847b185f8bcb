"""Turns of hosts, shared by processes."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from curate.fetching.limits import Clock, FetchError, FetchLimits
from curate.fetching.pace import Pace

LIMITS = FetchLimits(deadline=1)


@pytest.fixture
def pace(tmp_path: Path) -> Iterator[Pace]:
    kept = Pace(tmp_path / "pace", 20)
    yield kept
    kept.close()


def ask(path: Path, rate: float, times: int) -> list[float]:
    pace, found = Pace(path, rate), []
    for _ in range(times):
        pace.wait("a.example", Clock(LIMITS))
        found.append(time.monotonic())
    return found


def test_turns_of_a_host_are_apart(tmp_path: Path) -> None:
    with closing(Pace(tmp_path / "pace", 5)) as pace:
        start, clock = time.monotonic(), Clock(LIMITS)
        for _ in range(5):
            pace.wait("a.example", clock)
    assert 0.8 <= time.monotonic() - start < 1.4
    assert clock.left() > 0.5  # a turn is not the server's time


def test_hosts_do_not_wait_for_each_other(tmp_path: Path) -> None:
    start = time.monotonic()
    for host in range(5):
        with closing(Pace(tmp_path / "pace", 1)) as pace:
            pace.wait(f"{host}.example", Clock(LIMITS))
    assert time.monotonic() - start < 1


def test_processes_keep_the_rate_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        asked = pool.starmap(ask, [(tmp_path / "pace", 20, 5)] * 3)
    times = sorted(time for part in asked for time in part)
    assert times[-1] - times[0] >= 14 / 20 - 0.01
    for index, first in enumerate(times[:-5]):
        assert times[index + 5] - first > 3 / 20  # 5 / 20 but for what a machine delays


def test_a_host_that_wants_quiet_gets_it(pace: Pace) -> None:
    pace.hold("a.example", 0.3)
    pace.hold("a.example", 0.1)  # the longer one counts
    start, clock = time.monotonic(), Clock(LIMITS)
    pace.wait("a.example", clock)
    assert 0.3 <= time.monotonic() - start < 0.5
    assert clock.left() < 0.75  # this is the server's time
    pace.hold("a.example", 5)
    with pytest.raises(FetchError, match="left alone for longer than the limit"):
        pace.wait("a.example", clock)


def test_without_a_rate_nobody_waits(tmp_path: Path) -> None:
    start = time.monotonic()
    ask(tmp_path / "pace", 0, 500)
    assert time.monotonic() - start < 1
