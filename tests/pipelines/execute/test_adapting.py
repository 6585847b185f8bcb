"""Clusters that grow and shrink with the work."""

import os
import threading
import time
from pathlib import Path

import pytest

from pipelines.execute import ClusterConfig, Runner, clusters, open_runner
from pipelines.execute.config import Adaptive
from pipelines.execute.torchrun import Torchrun, run_torchrun

pytestmark = pytest.mark.slow

# Says that it is there, and ends when the other one does so too.
MEET = """
import pathlib, sys, time
folder, me, other = pathlib.Path(sys.argv[1]), *sys.argv[2:]
(folder / f"{me}-there").touch()
while not (folder / f"{other}-there").exists():
    time.sleep(0.05)
"""


def nap(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def local(minimum: int, maximum: int, **more: float) -> ClusterConfig:
    adaptive = Adaptive(minimum=minimum, maximum=maximum)
    return ClusterConfig(kind="local", adaptive=adaptive, **more)  # type: ignore[arg-type]


def test_many_small_units_have_as_many_workers_as_may_be() -> None:
    with open_runner(local(1, 3)) as runner:
        processes = {outcome.result for outcome in runner(nap, range(600))}
    assert len(processes) == 3


def test_workers_that_left_between_two_steps_are_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_LINGER_SECONDS", 1)
    with open_runner(local(0, 1, loss_timeout=0.1)) as runner:
        first = {outcome.result for outcome in runner(nap, range(100))}
        wait_until_none_is_left(runner)
        second = {outcome.result for outcome in runner(nap, range(100))}
    assert len(first) == len(second) == 1
    assert first != second


def wait_until_none_is_left(runner: Runner) -> None:
    assert runner.link is not None
    end = time.monotonic() + 30
    while runner.link.client.scheduler_info(n_workers=-1)["workers"]:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_trainings_have_a_worker_each_and_give_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other, so on one worker they would never end."""
    monkeypatch.setattr(clusters, "_LINGER_SECONDS", 1)
    (tmp_path / "meet.py").write_text(MEET)
    names = ("one", "two")
    jobs = [Torchrun((str(tmp_path / "meet.py"), str(tmp_path), *pair), tmp_path / pair[0])
            for pair in (names, names[::-1])]  # fmt: skip
    with open_runner(local(0, 2)) as runner:
        threads = [
            threading.Thread(target=run_torchrun, args=(runner, job), daemon=True) for job in jobs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40)
        assert not any(thread.is_alive() for thread in threads)
        wait_until_none_is_left(runner)
