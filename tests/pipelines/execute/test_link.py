"""The link to a scheduler: losses end a run in bounded time, what comes back goes on."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dask
import pytest
from dask_processes import Processes, dask_processes, free_port, kill_group, until
from distributed import LocalCluster

from curate.errors import CurateError, PartialRunError
from pipelines.execute import ClusterConfig, Tls, open_runner, unit_runner
from pipelines.execute.link import Link, Patience, WorkerInfo
from pipelines.execute.stopping import stopping


def wait(seconds: float, unit: int) -> int:
    time.sleep(seconds)
    return unit


def double(unit: int) -> int:
    return 2 * unit


@pytest.fixture
def processes() -> Iterator[Processes]:
    with dask_processes() as started:
        yield started


def later(seconds: float, act: partial[object]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def test_a_worker_offers_what_it_has_and_no_more() -> None:
    worker = WorkerInfo("tcp://a:1", "a", 1, {"GPU": 1.0})
    assert worker.offers({})
    assert worker.offers({"GPU": 1})
    assert not worker.offers({"GPU": 2})
    assert not worker.offers({"MEMORY": 1})


def test_patience_ends_only_after_its_time_and_starts_anew() -> None:
    patience = Patience("tcp://a:1", 0.2)
    patience.wait("it is lost")
    time.sleep(0.15)
    patience.reset()
    patience.wait("it is lost")
    time.sleep(0.25)
    with pytest.raises(PartialRunError, match=r"tcp://a:1: it is lost for 0.2 seconds.*goes on"):
        patience.wait("it is lost")


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    tls = Tls(ca=tmp_path / "ca.pem", cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    config = ClusterConfig(kind="tcp", address="tls://127.0.0.1:9", tls=tls)
    with open_runner(config) as runner, pytest.raises(CurateError, match=r"ca\.pem is no file"):
        list(runner(double, [1]))


def test_units_run_over_tls_and_not_without_certificates(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    address = f"tls://127.0.0.1:{(port := free_port())}"
    flags = ("--tls-ca-file", str(cert), "--tls-cert", str(cert), "--tls-key", str(key))
    processes.scheduler(port, "--protocol", "tls", *flags)
    processes.worker(address, *flags)
    tls = Tls(ca=cert, cert=cert, key=key)
    with open_runner(ClusterConfig(kind="tcp", address=address, tls=tls)) as runner:
        assert sorted(o.result for o in runner(double, [1, 2])) == [2, 4]
    tls_of_dask = {
        "distributed.comm.tls.ca-file": str(cert),
        "distributed.comm.tls.client.cert": str(cert),
        "distributed.comm.tls.client.key": str(key),
    }
    with dask.config.set(tls_of_dask), unit_runner(scheduler=address) as runner:
        assert [o.result for o in runner(double, [3])] == [6]
    with (
        unit_runner(scheduler=address) as runner,
        pytest.raises(CurateError, match=r"cluster\.tls"),
    ):
        list(runner(double, [1]))
    plain = ClusterConfig(kind="tcp", address=address.replace("tls", "tcp"))
    monkeypatch.setattr("pipelines.execute.link._CONNECT_SECONDS", 2)
    with open_runner(plain) as runner, pytest.raises(CurateError, match="cannot be reached"):
        list(runner(double, [1]))


def test_needs_that_no_worker_of_a_scheduler_meets_are_refused_at_once(
    processes: Processes,
) -> None:
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    processes.scheduler(port)
    processes.worker(address, "--resources", "GPU=1")
    with open_runner(ClusterConfig(kind="tcp", address=address)) as runner:
        assert [o.result for o in runner.needing({"GPU": 1})(double, [4])] == [8]
        start = time.monotonic()
        with pytest.raises(CurateError, match=r"GPU 2 \(offered: 1\).*dask worker --resources"):
            list(runner.needing({"GPU": 2})(double, [4]))
        assert time.monotonic() - start < 8


@pytest.mark.slow
def test_a_killed_scheduler_ends_the_run_in_bounded_time(processes: Processes) -> None:
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    scheduler = processes.scheduler(port)
    processes.worker(address)
    config = ClusterConfig(kind="tcp", address=address, loss_timeout=4)
    start = time.monotonic()
    with open_runner(config) as runner:
        outcomes = runner(partial(wait, 0.3), range(1000))
        assert next(outcomes).error is None
        timer = later(1, partial(kill_group, scheduler))
        with pytest.raises(PartialRunError, match=r"does not answer for 4 seconds.*same command"):
            list(outcomes)
        timer.join()
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_a_stopped_scheduler_that_hangs_ends_the_run_too(processes: Processes) -> None:
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    scheduler = processes.scheduler(port)
    processes.worker(address)
    config = ClusterConfig(kind="tcp", address=address, loss_timeout=4)
    with open_runner(config) as runner:
        outcomes = runner(partial(wait, 0.3), range(1000))
        next(outcomes)
        os.killpg(scheduler.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(PartialRunError, match="does not answer"):
            list(outcomes)
        assert time.monotonic() - start < 40


@pytest.mark.slow
def test_a_scheduler_that_comes_back_goes_on(processes: Processes) -> None:
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    scheduler = processes.scheduler(port)
    processes.worker(address)

    def restart() -> None:
        kill_group(scheduler)
        time.sleep(3)
        processes.scheduler(port)
        processes.worker(address)

    with open_runner(ClusterConfig(kind="tcp", address=address)) as runner:
        outcomes = runner(partial(wait, 0.3), range(30))
        found = [next(outcomes)]
        timer = later(0.5, partial(restart))
        found += outcomes
        timer.join()
    assert sorted(outcome.result for outcome in found) == list(range(30))


@pytest.mark.slow
def test_without_workers_a_run_ends_and_with_one_that_comes_it_goes_on(
    processes: Processes,
) -> None:
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    processes.scheduler(port)
    with (
        open_runner(ClusterConfig(kind="tcp", address=address, loss_timeout=3)) as runner,
        pytest.raises(PartialRunError, match="no worker for 3 seconds"),
    ):
        list(runner(double, [1]))
    timer = later(2, partial(processes.worker, address))
    with open_runner(ClusterConfig(kind="tcp", address=address)) as runner:
        assert [o.result for o in runner(double, [1])] == [2]
        timer.join()
        kill_group(processes.started[-1])
        again = later(3, partial(processes.worker, address))
        assert [o.result for o in runner(double, [2])] == [4]
        again.join()


def test_workers_that_come_and_go_unseen_are_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.execute.link._PROBE_SECONDS", 0)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        cluster.get_client() as client,
        stopping() as stop,
    ):
        link = Link(ClusterConfig(kind="tcp", address=cluster.scheduler_address), stop)
        patience = Patience("the cluster", 0)
        assert not link.workers({}, patience)
        cluster.scale(1)
        client.wait_for_workers(1, timeout=30)
        cluster.scale(0)
        assert until(lambda: not cluster.scheduler.workers, 30)
        assert not link.workers({}, patience)
        assert not link.workers({}, patience)
        with pytest.raises(PartialRunError, match="there is no worker for 0 seconds"):
            link.workers({}, patience)
        link.close()


@pytest.mark.slow
def test_workers_that_are_lost_for_good_end_the_run(processes: Processes) -> None:
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    processes.scheduler(port)
    worker = processes.worker(address)
    with open_runner(ClusterConfig(kind="tcp", address=address, loss_timeout=4)) as runner:
        outcomes = runner(partial(wait, 0.3), range(1000))
        next(outcomes)
        kill_group(worker)
        with pytest.raises(PartialRunError, match="no worker that can run this stage is left"):
            list(outcomes)
