import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_schedule import makespan, shared_makespan

from pipelines.planning.schedule import Job, Machines, Phase, Work, grouped, simulate

TIMES = st.lists(st.integers(0, 50), min_size=1, max_size=40)
WORKERS = st.integers(1, 8)


def units(*seconds: float, gpu: bool = False) -> Phase:
    return Phase(tuple(Work(one) for one in seconds), gpu=gpu)


def driver(seconds: float) -> Phase:
    return Phase((Work(seconds),), on_driver=True)


def job(name: str, *phases: Phase, needs: tuple[str, ...] = (), kind: str = "embed") -> Job:
    return Job(name, kind, needs, phases)


def cluster(workers: int, **more: float) -> Machines:
    return replace(
        Machines(workers=workers, side_by_side=4, in_process=False),
        **more,  # type: ignore[arg-type]
    )


def seconds(jobs: list[Job], machines: Machines) -> float:
    return simulate(jobs, machines).makespan


@given(TIMES, WORKERS)
def test_units_go_to_the_worker_that_is_free_first(times: list[int], workers: int) -> None:
    found = seconds([job("a", units(*times))], cluster(workers))
    assert found == pytest.approx(makespan(times, workers))


@given(TIMES, WORKERS)
def test_no_schedule_is_far_from_the_best(times: list[int], workers: int) -> None:
    found = seconds([job("a", units(*times))], cluster(workers))
    even = sum(times) / workers
    assert even - 1e-9 <= found <= even + max(times) + 1e-9


@given(TIMES, WORKERS)
def test_another_worker_never_costs_more_than_a_unit(times: list[int], workers: int) -> None:
    jobs = [job("a", units(*times))]
    assert seconds(jobs, cluster(workers + 1)) <= seconds(jobs, cluster(workers)) + max(times)


@given(TIMES, TIMES, WORKERS)
def test_steps_that_follow_each_other_take_the_sum(
    a: list[int], b: list[int], workers: int
) -> None:
    one, two = job("a", units(*a)), job("b", units(*b), needs=("a",))
    apart = sum(seconds([replace(each, needs=())], cluster(workers)) for each in (one, two))
    assert seconds([one, two], cluster(workers)) == pytest.approx(apart)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 90)), min_size=1, max_size=15),
    st.integers(1, 4), st.integers(1, 20),
)  # fmt: skip
def test_bytes_share_the_storage_evenly(
    works: list[tuple[int, int]], workers: int, bandwidth: int
) -> None:
    phase = Phase(tuple(Work(float(s), float(b)) for s, b in works))
    found = seconds([job("a", phase)], cluster(workers, bandwidth=bandwidth))
    assert found == pytest.approx(shared_makespan(works, workers, bandwidth), abs=1e-5)
    assert found >= sum(size for _, size in works) / bandwidth - 1e-6


def test_a_unit_gets_no_more_bytes_a_second_than_its_link_has() -> None:
    phase = Phase((Work(1.0, 100.0),))
    assert seconds([job("a", phase)], cluster(1, bandwidth=1000.0, link=10.0)) == 10


def test_waiting_for_bytes_is_told_apart_from_computing() -> None:
    phase = Phase((Work(2.0, 100.0), Work(2.0)))
    span = simulate([job("a", phase)], cluster(2, bandwidth=10.0)).spans["a"]
    assert (span.end, span.busy, span.storage) == (10, 12, 8)


def test_in_one_process_steps_and_their_phases_follow_each_other() -> None:
    jobs = [job("a", driver(1), units(2, 3)), job("b", units(4), kind="train")]
    plan = simulate(jobs, Machines())
    assert [(span.begin, span.end) for span in plan.spans.values()] == [(0, 6), (6, 10)]
    assert plan.critical == ["a", "b"]
    assert (plan.spans["a"].driver, plan.spans["a"].spread) == (1, 5)


def test_steps_of_one_kind_take_turns_and_others_run_side_by_side() -> None:
    jobs = [job("a", driver(5)), job("b", driver(5)), job("c", driver(7), kind="dedup")]
    spans = simulate(jobs, cluster(1)).spans
    assert {name: span.begin for name, span in spans.items()} == {"a": 0, "c": 0, "b": 5}


def test_trainings_do_not_wait_for_each_other() -> None:
    jobs = [replace(job(name, units(5), kind="train"), is_free=True) for name in "ab"]
    assert seconds(jobs, cluster(2)) == 5


def test_no_more_than_four_steps_are_under_way() -> None:
    jobs = [job(kind, driver(1), kind=kind) for kind in "abcde"]
    assert seconds(jobs, cluster(9)) == 2


def test_steps_side_by_side_share_the_workers() -> None:
    jobs = [job("a", units(*[1.0] * 8)), job("b", units(*[1.0] * 2), kind="dedup")]
    assert simulate(jobs, cluster(2)).spans["b"].end == 2


def test_a_process_loads_a_network_once() -> None:
    phase = replace(units(1, 1, 1, 1), loads=(("network", 10.0),))
    assert seconds([job("a", phase)], cluster(2)) == 12
    assert seconds([job("a", phase, phase)], cluster(2)) == 14
    assert seconds([job("a", phase)], Machines()) == 14


def test_units_that_need_a_gpu_wait_for_one_and_others_leave_it_free() -> None:
    jobs = [job("a", units(4, 4, gpu=True)), job("b", units(4, 4), kind="dedup")]
    spans = simulate(jobs, cluster(2, gpus=1)).spans
    assert (spans["a"].end, spans["b"].end) == (8, 8)


def test_where_there_is_no_gpu_its_units_run_anywhere() -> None:
    assert seconds([job("a", units(4, 4, gpu=True))], cluster(2)) == 4


def test_the_cluster_starts_once_with_the_first_unit() -> None:
    jobs = [job("a", driver(3), units(1)), job("b", units(1), needs=("a",))]
    assert seconds(jobs, cluster(1, start=10.0)) == 15


def test_the_command_takes_its_time_before_the_first_step() -> None:
    jobs = [job("a", Phase((Work(1.0, 20.0),)))]
    span = simulate(jobs, cluster(1, begin=3.0, bandwidth=10.0)).spans["a"]
    assert (span.begin, span.end) == (3, 5)


def test_the_scheduler_serves_one_unit_after_the_other() -> None:
    assert seconds([job("a", units(*[0.0] * 100))], cluster(50, dispatch=0.5)) == 50


def test_a_unit_that_stands_for_several_is_dispatched_as_often() -> None:
    phase = Phase((Work(0.0, units=100),))
    assert seconds([job("a", phase)], cluster(50, dispatch=0.5)) == 50


def test_a_step_without_work_takes_no_time() -> None:
    jobs = [job("kept"), job("empty", Phase(())), job("a", units(1), needs=("kept", "empty"))]
    plan = simulate(jobs, cluster(2))
    assert plan.makespan == 1
    assert list(plan.spans) == ["kept", "empty", "a"]


def test_no_steps_take_no_time() -> None:
    plan = simulate([], Machines())
    assert (plan.makespan, plan.critical) == (0, [])


def test_the_critical_path_leads_from_the_first_step_to_the_last_end() -> None:
    jobs = [
        job("a", units(2)), job("b", units(9), kind="dedup"),
        job("c", units(3), needs=("a",), kind="eval"),
        job("d", units(1), needs=("b", "c"), kind="report"),
    ]  # fmt: skip
    assert simulate(jobs, cluster(4)).critical == ["b", "d"]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(1, 50))
def test_grouped_units_are_few_and_hold_all_work(times: list[int], most: int) -> None:
    works = [Work(float(one), 2.0 * one) for one in times]
    found = grouped(works, most)
    assert len(found) <= most
    assert math.isclose(sum(w.seconds for w in found), sum(times))
    assert math.isclose(sum(w.bytes for w in found), 2 * sum(times))
