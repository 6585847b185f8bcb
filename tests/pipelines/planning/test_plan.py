from pathlib import Path

import pytest
from planning import flow, rates, stated

from curate.errors import CurateError
from pipelines.execute.config import Adaptive, ClusterConfig
from pipelines.planning.machines import machines_of
from pipelines.planning.plan import make_plan, read_prices
from pipelines.planning.schedule import Machines
from pipelines.planning.words import amount, span, told

MANY = Machines(workers=8, side_by_side=4, in_process=False)


def test_a_plan_covers_every_step_and_ends_with_the_report(tmp_path: Path) -> None:
    plan = make_plan(flow(tmp_path), rates(), Machines())
    names = [one.step.name for one in plan.steps]
    assert names[-1] == "report"
    assert plan.schedule.critical[-1] == "report"
    assert plan.schedule.makespan == pytest.approx(plan.schedule.spans["report"].end)


def test_nothing_is_written_by_planning(tmp_path: Path) -> None:
    make_plan(flow(tmp_path / "run"), rates(), Machines())
    assert not list(tmp_path.iterdir())


def test_more_workers_take_less_time_and_the_same_work(tmp_path: Path) -> None:
    one, many = (make_plan(flow(tmp_path), rates(), machines) for machines in (Machines(), MANY))
    assert many.schedule.makespan < one.schedule.makespan
    work = [sum(s.cost.seconds(on_driver=False) for s in p.steps) for p in (one, many)]
    assert work[0] == work[1]


def test_rates_that_nobody_measured_are_marked(tmp_path: Path) -> None:
    on_cores = make_plan(flow(tmp_path), rates(), MANY)
    assert "gpu.peak" not in told(on_cores)
    on_gpus = make_plan(flow(tmp_path), rates(), Machines(workers=2, gpus=2, in_process=False))
    assert {"gpu.peak", "gpu.utilisation", "storage.bandwidth"} <= set(on_gpus.to_json()["assumed"])
    assert "ASSUMED" in told(on_gpus)


def test_a_large_set_is_planned_in_seconds(tmp_path: Path) -> None:
    sets = {"test": stated(50_000, 50), "train": stated(5_000_000_000, 500_000, 28_000)}
    plan = make_plan(flow(tmp_path, sets=sets), rates(), Machines(64, in_process=False))
    assert plan.steps[1].cost.units == 500_000
    assert plan.schedule.makespan > 3e5


def test_money_is_hours_times_prices(tmp_path: Path) -> None:
    prices = {"core-hour": 3600.0}
    plan = make_plan(flow(tmp_path), rates(), Machines(), prices)
    found = plan.to_json()
    assert found["money"]["held"] == pytest.approx(plan.schedule.makespan)
    assert found["money"]["used"] == pytest.approx(plan.schedule.makespan, rel=0.01)
    assert make_plan(flow(tmp_path), rates(), Machines()).to_json()["money"]["held"] is None


def test_money_for_storage_is_of_bytes(tmp_path: Path) -> None:
    prices = {"tb-month": 1e12, "tb-read": 0.0}
    plan = make_plan(flow(tmp_path), rates(), Machines(), prices)
    written = sum(one.cost.written for one in plan.steps)
    assert plan.to_json()["money"]["used"] == pytest.approx(written)


def test_idle_machines_cost_money_too(tmp_path: Path) -> None:
    plan = make_plan(flow(tmp_path), rates(), Machines(100, in_process=False), {"core-hour": 1.0})
    used, held = (plan.to_json()["money"][key] for key in ("used", "held"))
    assert held > 5 * used


def test_the_bottleneck_is_what_the_critical_path_waits_for(tmp_path: Path) -> None:
    slow = Machines(8, bandwidth=1e3, in_process=False)
    assert make_plan(flow(tmp_path), rates(), slow).bottleneck()[0] == "storage"
    known = rates(step__report=1e6)
    what, share = make_plan(flow(tmp_path), known, MANY).bottleneck()
    assert what == "the process that runs the flow"
    assert share > 0.9
    known = rates(**{"forward__core__builtin:layout": 10.0})
    assert make_plan(flow(tmp_path), known, MANY).bottleneck()[0] == "workers"


def test_prices_are_of_known_units() -> None:
    assert read_prices(["gpu-hour=2.5", "tb-month=20"]) == {"gpu-hour": 2.5, "tb-month": 20}
    for wrong in ("gpu=2", "gpu-hour", "gpu-hour=cheap", "gpu-hour=-1", "core-hour=nan"):
        with pytest.raises(CurateError, match="NAME=NUMBER was expected, NAME one of core-hour"):
            read_prices([wrong])


def test_machines_are_those_of_the_cluster_unless_said_otherwise() -> None:
    known = rates()
    assert machines_of(ClusterConfig(), known).in_process
    local = ClusterConfig(kind="local", workers=3)
    assert machines_of(local, known).workers == 3
    assert machines_of(ClusterConfig(kind="cuda", workers=2), known).gpus == 2
    grown = ClusterConfig(kind="local", adaptive=Adaptive(maximum=9))
    assert machines_of(grown, known).workers == 9
    asked = machines_of(local, known, workers=64, gpus=8)
    assert (asked.workers, asked.gpus, asked.in_process) == (64, 8, False)
    assert machines_of(ClusterConfig(), known, gpus=4).workers == 4
    with pytest.raises(CurateError, match="--gpus 4: each is of one worker, and there are 2"):
        machines_of(local, known, workers=2, gpus=4)


def test_numbers_are_told_in_three_digits() -> None:
    assert [amount(v) for v in (0, 999, 12_345, 4.1e11)] == ["0 ", "999 ", "12.3 k", "410 G"]
    assert [span(v) for v in (5, 600, 7200, 1e6)] == ["5 s", "10 min", "2.0 h", "11.6 d"]


def test_a_plan_in_words_names_sets_steps_and_the_end(tmp_path: Path) -> None:
    text = told(make_plan(flow(tmp_path), rates(), MANY, {"core-hour": 0.04}))
    assert "set train: 100,000 samples in 20 shards, 100 MB (stated)" in text
    assert "embed/train/builtin-layout" in text
    for word in ("time", "critical", "bottleneck", "money"):
        assert f"\n{word}" in text
