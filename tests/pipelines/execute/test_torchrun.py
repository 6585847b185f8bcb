"""torchrun on workers: the result of the same command by hand, and nothing left running."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dask_processes import dask_processes, free_port, kill_group
from pictures import encoded, picture, tree, write_shard

from curate.errors import CurateError, PartialRunError
from pipelines.execute import ClusterConfig, Runner, open_runner, torchrun
from pipelines.execute.link import WorkerInfo
from pipelines.execute.torchrun import LostWorkerError, Torchrun, _spread, run_torchrun

# Every process says who it is, after all have met.
MEET = """
import os, sys
from torch import distributed
distributed.init_process_group("gloo")
distributed.barrier()
rank, world = distributed.get_rank(), distributed.get_world_size()
with open(f"{sys.argv[1]}/rank-{rank}", "w") as file:
    file.write(f"{world} {os.environ['LOCAL_RANK']}")
distributed.destroy_process_group()
"""
SLEEP = """
import os, sys, time
open(f"{sys.argv[1]}/pid-{os.environ['RANK']}", "w").write(str(os.getpid()))
time.sleep(600)
"""
# Says that it is there, and ends when another one does so too.
WAIT = """
import pathlib, sys, time
folder, me, other = pathlib.Path(sys.argv[1]), *sys.argv[2:]
(folder / f"{me}-there").touch()
end = time.monotonic() + 100
while not (folder / f"{other}-there").exists():
    assert time.monotonic() < end
    time.sleep(0.05)
(folder / f"{me}-met").touch()
"""
# One process that was started without torchrun.
ALONE = """
import os, sys
assert os.environ["WORLD_SIZE"] == "1"
assert "MASTER_PORT" not in os.environ
open(f"{sys.argv[1]}/pid-0", "w").write(str(os.getpid()))
while len(sys.argv) == 3:
    __import__("time").sleep(1)
"""
FAIL = "raise SystemExit('the gradient is not finite')"


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with open_runner(ClusterConfig(kind="local", workers=2)) as opened:
        yield opened


def script(folder: Path, text: str) -> str:
    path = folder / "script.py"
    path.write_text(text)
    return str(path)


def pids(folder: Path, count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while True:
        found = [path.read_text() for path in folder.glob("pid-*")]
        if len(found) == count and all(found):
            return [int(text) for text in found]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(processes: list[int]) -> bool:
    deadline = time.monotonic() + 15
    while any(psutil.pid_exists(pid) for pid in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
def test_processes_of_one_node_meet_here_and_on_a_worker(runner: Runner, tmp_path: Path) -> None:
    argv = (script(tmp_path, MEET), str(tmp_path))
    run_torchrun(runner, Torchrun(argv, tmp_path / "log", processes=2))
    assert {path.read_text() for path in tmp_path.glob("rank-*")} == {"2 0", "2 1"}
    for path in tmp_path.glob("rank-*"):
        path.unlink()
    with open_runner(ClusterConfig()) as here:
        run_torchrun(here, Torchrun(argv, tmp_path / "log", processes=2))
    assert {path.read_text() for path in tmp_path.glob("rank-*")} == {"2 0", "2 1"}


@pytest.mark.slow
def test_two_workers_meet_as_two_nodes(runner: Runner, tmp_path: Path) -> None:
    argv = (script(tmp_path, MEET), str(tmp_path))
    run_torchrun(runner, Torchrun(argv, tmp_path / "log", nodes=2))
    assert {p.name: p.read_text() for p in tmp_path.glob("rank-*")} == {
        "rank-0": "2 0", "rank-1": "2 0",
    }  # fmt: skip
    assert (tmp_path / "log.1").exists()


@pytest.mark.slow
def test_an_error_shows_the_end_of_the_log(runner: Runner, tmp_path: Path) -> None:
    job = Torchrun((script(tmp_path, FAIL),), tmp_path / "log")
    with pytest.raises(CurateError, match="the gradient is not finite"):
        run_torchrun(runner, job)
    with (
        pytest.raises(CurateError, match="2 nodes need a cluster"),
        open_runner(ClusterConfig()) as here,
    ):
        run_torchrun(here, Torchrun(("x",), tmp_path / "log", nodes=2))


def test_a_process_that_is_killed_may_go_on(tmp_path: Path) -> None:
    job = Torchrun((script(tmp_path, "import os; os.kill(os.getpid(), 9)"),), tmp_path / "log")
    with (
        pytest.raises(LostWorkerError, match="was killed, perhaps for want of memory"),
        open_runner(ClusterConfig()) as here,
    ):
        run_torchrun(here, job)


@pytest.mark.parametrize("kind", ["process", "local"])
def test_one_process_is_started_without_torchrun_and_meets_nobody(
    runner: Runner, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # of what started this process
    job = Torchrun((script(tmp_path, ALONE), str(tmp_path)), tmp_path / "log")
    with open_runner(ClusterConfig()) as here:
        run_torchrun(here if kind == "process" else runner, job)
    assert (tmp_path / "pid-0").is_file()


def test_a_worker_that_does_not_see_the_run_folder_is_told(runner: Runner, tmp_path: Path) -> None:
    job = Torchrun(("-c", "pass"), tmp_path / "elsewhere" / "log")
    with pytest.raises(CurateError, match=r"No such file.*elsewhere.*see the run folder"):
        run_torchrun(runner, job)


@pytest.mark.slow
def test_the_last_worker_that_is_lost_for_good_ends_the_run(tmp_path: Path) -> None:
    job = Torchrun((script(tmp_path, ALONE), str(tmp_path), "wait"), tmp_path / "log")
    with dask_processes() as processes:
        address = f"tcp://127.0.0.1:{(port := free_port())}"
        processes.scheduler(port)
        worker = processes.worker(address)

        def kill() -> None:
            pids(tmp_path, 1)
            kill_group(worker)

        thread = threading.Thread(target=kill)
        config = ClusterConfig(kind="tcp", address=address, loss_timeout=4)
        with open_runner(config) as opened:
            thread.start()
            with pytest.raises(PartialRunError, match="no worker that can run this stage is left"):
                run_torchrun(opened, job)
        thread.join()
        assert gone(pids(tmp_path, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["process", "local"])
def test_a_run_that_is_stopped_leaves_nothing_running(tmp_path: Path, kind: str) -> None:
    job = Torchrun((script(tmp_path, SLEEP), str(tmp_path)), tmp_path / "log", processes=2)
    config = ClusterConfig(kind="local", workers=2) if kind == "local" else ClusterConfig()
    with open_runner(config) as opened:
        found: list[int] = []

        def stop() -> None:
            found.extend(pids(tmp_path, 2))
            opened.stop.requested = True

        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(PartialRunError, match="stopped"):
            run_torchrun(opened, job)
        thread.join()
        assert gone(found)


def test_a_guard_that_is_held_up_does_not_keep_a_run_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchrun, "_STOP_SECONDS", 0.5)
    job = Torchrun((script(tmp_path, ALONE), str(tmp_path), "wait"), tmp_path / "log")
    with open_runner(ClusterConfig()) as opened:
        guards: list[psutil.Process] = []

        def stop() -> None:
            guard = psutil.Process(pids(tmp_path, 1)[0]).parent()
            assert guard is not None
            guard.suspend()
            guards.append(guard)
            opened.stop.requested = True

        thread = threading.Thread(target=stop)
        thread.start()
        try:
            with pytest.raises(PartialRunError, match="stopped"):
                run_torchrun(opened, job)
        finally:
            thread.join()
            guards[0].resume()
        assert gone(pids(tmp_path, 1))


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    job = Torchrun((script(tmp_path, SLEEP), str(tmp_path)), tmp_path / "log", processes=2)
    with open_runner(ClusterConfig(kind="local", workers=1)) as opened:
        found: list[int] = []

        def kill() -> None:
            found.extend(pids(tmp_path, 2))
            guard = psutil.Process(found[0]).parent()
            while guard is not None and "pipelines.execute.guard" not in guard.cmdline():
                guard = guard.parent()
            assert guard is not None
            worker = guard.parent()
            assert worker is not None
            worker.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(PartialRunError, match="lost; the same command goes on"):
            run_torchrun(opened, job)
        thread.join()
        assert gone(found)


def test_nodes_are_spread_over_hosts_before_one_takes_two() -> None:
    workers = tuple(
        WorkerInfo(f"tcp://{host}:{port}", host, 1, {})
        for host, port in (("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2))
    )
    assert [worker.address for worker in _spread(workers, {})] == [
        "tcp://a:1", "tcp://b:1", "tcp://a:2", "tcp://b:2", "tcp://a:3",
    ]  # fmt: skip
    taken = {"tcp://a:1": 1, "tcp://b:1": 2}
    assert [worker.address for worker in _spread(workers, taken)] == [
        "tcp://a:2", "tcp://b:2", "tcp://a:3", "tcp://a:1", "tcp://b:1",
    ]  # fmt: skip


def test_runs_that_are_begun_together_go_to_different_workers(
    runner: Runner, tmp_path: Path
) -> None:
    """Each waits for the other, so one after the other they would never end."""
    names = ("one", "two")
    jobs = [Torchrun((script(tmp_path, WAIT), str(tmp_path), *pair), tmp_path / pair[0])
            for pair in (names, names[::-1])]  # fmt: skip
    threads = [threading.Thread(target=run_torchrun, args=(runner, job)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / f"{name}-met").is_file() for name in names)
    assert runner.link is not None
    assert not any(runner.link.taken.values())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_training_on_a_worker_gives_the_result_of_the_same_command_by_hand(
    runner: Runner, tmp_path: Path, processes: int
) -> None:
    for shard in range(2):
        rows = [
            (
                f"s{shard}{n:02}",
                {"png": encoded(picture(100 * shard + n)), "cls": (b"cat", b"dog")[n % 2]},
            )
            for n in range(16)
        ]
        write_shard(tmp_path / "data" / f"{shard}.tar", rows)
    words = [
        "pipelines", "train", str(tmp_path / "data"), "--device", "cpu", "--workers", "0",
        "--threads", "1", "--set", "epochs=null", "--set", "updates=3", "--set", "batch=8",
        "--set", "held_out=4", "--set", "warmup=1", "--set", "measured.steps=1",
    ]  # fmt: skip
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    subprocess.run(
        [sys.executable, "-m", *launch, *words, "--out", str(tmp_path / "hand" / "x")], check=True
    )
    argv = ("-m", *words, "--out", str(tmp_path / "worker" / "x"))
    run_torchrun(runner, Torchrun(argv, tmp_path / "log", processes=processes))
    assert (made := tree(tmp_path / "worker"))
    assert made == tree(tmp_path / "hand")
