"""Units on Dask: every unit has one outcome, also when it fails or its worker dies."""

import os
import signal
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster

from curate.errors import CurateError
from pipelines.execute import ClusterConfig, open_runner, unit_runner, worker_number


def square(unit: int) -> int:
    if unit == 13:
        raise CurateError("thirteen is refused")
    return unit * unit


def process_id(_: int) -> int:
    return os.getpid()


def number_and_process(_: int) -> tuple[int, int]:
    return worker_number(), os.getpid()


def die_once(marker: str) -> str:
    path = Path(marker)
    if not path.exists():
        path.write_text("was here")
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def die_always(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_worker_is_this_process() -> None:
    with unit_runner(1) as runner:
        assert [outcome.result for outcome in runner(process_id, [0])] == [os.getpid()]


def test_workers_are_other_processes_and_every_unit_has_one_outcome(tmp_path: Path) -> None:
    with unit_runner(2) as runner:
        outcomes = list(runner(square, range(40)))
        assert sorted(outcome.unit for outcome in outcomes) == list(range(40))
        failed = [outcome for outcome in outcomes if outcome.error]
        assert [(outcome.unit, outcome.error) for outcome in failed] == [
            (13, "thirteen is refused")
        ]
        assert all(o.result == o.unit**2 for o in outcomes if not o.error)
        processes = {outcome.result for outcome in runner(process_id, range(20))}
        assert os.getpid() not in processes
        assert [o.result for o in runner(die_once, [str(tmp_path / "mark")])] == ["survived"]


def test_each_worker_has_a_number_of_its_own() -> None:
    assert worker_number() == 0
    with unit_runner(2) as runner:
        found = {outcome.result for outcome in runner(number_and_process, list(range(12)))}
    assert {number for number, _ in found} <= {0, 1}
    assert len(found) == len({process for _, process in found})


def test_no_cluster_is_started_for_no_units() -> None:
    with unit_runner(4) as runner:
        assert list(runner(square, [])) == []
        assert runner.link is not None
        assert runner.link._client is None


def test_a_worker_that_dask_gives_up_is_started_again(tmp_path: Path) -> None:
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 ms"}),
        open_runner(ClusterConfig(kind="local", workers=1, loss_timeout=40)) as runner,
    ):
        assert [o.result for o in runner(die_once, [str(tmp_path / "mark")])] == ["survived"]


@pytest.mark.slow
def test_a_unit_that_always_kills_its_worker_is_an_outcome_with_an_error() -> None:
    with unit_runner(2) as runner:
        outcomes = list(runner(die_always, [0]))
        assert len(outcomes) == 1
        assert "died repeatedly" in (outcomes[0].error or "")
        assert [outcome.result for outcome in runner(square, [3])] == [9]


def test_a_running_scheduler_is_used_and_left_running() -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        with unit_runner(scheduler=cluster.scheduler_address) as runner:
            assert sorted(o.result for o in runner(square, [1, 2, 3])) == [1, 4, 9]
        assert cluster.scheduler.status.name == "running"


def test_an_unreachable_scheduler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.execute.link._CONNECT_SECONDS", 1)
    with (
        unit_runner(scheduler="tcp://127.0.0.1:9") as runner,
        pytest.raises(CurateError, match=r"127\.0\.0\.1:9"),
    ):
        list(runner(square, [1]))
