"""Units on workers: batches, quarantine, limits of time, needs, several stages at a time."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
from distributed import Future

from curate.errors import CurateError
from pipelines.execute import ClusterConfig, Runner, open_runner


def double(unit: int) -> int:
    return 2 * unit


def deadly_thirteen(unit: int) -> int:
    if unit == 13:
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    return unit


def endless_thirteen(unit: int) -> int:
    if unit == 13:
        time.sleep(600)
    return unit


def faulty_thirteen(unit: int) -> int:
    if unit == 13:
        raise ZeroDivisionError("a bug")
    return unit


def fail_twice(folder: Path, unit: int) -> int:
    """Fails in passing, as storage does."""
    tries = len(list(folder.glob(f"{unit}-*")))
    (folder / f"{unit}-{tries}").touch()
    if tries < 2:
        raise CurateError(f"unit {unit}: not readable just now")
    return unit


@lru_cache
def load_model() -> str:
    """Says by whom and when it was loaded, which is another word for each load."""
    return f"{os.getpid()} at {time.monotonic_ns()}"


def use_model(_: int) -> tuple[int, str]:
    return os.getpid(), load_model()


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    config = ClusterConfig(kind="local", workers=2, resources={"GPU": 1, "MEMORY": 4})
    with open_runner(config) as opened:
        yield opened


def test_a_thousand_small_units_have_one_outcome_each(runner: Runner) -> None:
    outcomes = list(runner(double, range(1000)))
    assert sorted(outcome.unit for outcome in outcomes) == list(range(1000))
    assert all(outcome.result == 2 * outcome.unit for outcome in outcomes)


def test_small_units_go_in_batches_after_the_first(runner: Runner) -> None:
    before = set(runner.link.client.run(_keys_seen).popitem()[1]) if runner.link else set()
    list(runner(double, range(500)))
    assert runner.link is not None
    seen = {key for keys in runner.link.client.run(_keys_seen).values() for key in keys}
    assert len({key for key in seen - before if key.startswith("double")}) < 250


def _keys_seen(dask_worker: object) -> list[str]:
    state = dask_worker.state  # type: ignore[attr-defined]
    return [key for key, *_ in state.log if isinstance(key, str)]


def test_a_unit_that_fails_in_passing_is_tried_again(runner: Runner, tmp_path: Path) -> None:
    outcomes = list(runner(partial(fail_twice, tmp_path), [1, 2]))
    assert sorted((outcome.unit, outcome.error) for outcome in outcomes) == [(1, None), (2, None)]
    tries = Counter(path.name[0] for path in tmp_path.iterdir())
    assert tries == {"1": 3, "2": 3}


def test_a_result_that_is_lost_on_its_way_is_computed_again(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the link to the scheduler breaks after a task has ended."""
    real = Future.result
    lost: list[str] = []

    def result(self: Any, timeout: float | None = None) -> Any:
        if not lost:
            lost.append(self.key)
            self.cancel()
            while self.status != "cancelled":
                time.sleep(0.01)
        return real(self, timeout)

    monkeypatch.setattr(Future, "result", result)
    assert sorted(one.result for one in runner(double, range(5))) == [0, 2, 4, 6, 8]
    assert lost


def test_a_bug_in_a_unit_is_raised_with_its_traceback(runner: Runner) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug") as raised:
        list(runner(faulty_thirteen, range(40)))
    assert "faulty_thirteen" in {entry.name for entry in raised.traceback}
    assert [outcome.result for outcome in runner(double, [4])] == [8]


def test_what_the_workers_offer_is_found_and_more_is_refused_at_once(runner: Runner) -> None:
    needing = runner.needing({"GPU": 1, "MEMORY": 3})
    assert sorted(o.result for o in needing(double, [1, 2])) == [2, 4]
    with pytest.raises(CurateError, match=r"GPU 2 \(offered: 1\).*cluster.resources"):
        runner.needing({"GPU": 2})
    with pytest.raises(CurateError, match=r"DECODE 1 \(offered: 0\)"):
        runner.needing({"DECODE": 1})


def test_a_process_offers_what_it_is_said_to() -> None:
    with open_runner(ClusterConfig(resources={"GPU": 1})) as here:
        assert [o.result for o in here.needing({"GPU": 1})(double, [3])] == [6]
        with pytest.raises(CurateError, match="MEMORY"):
            here.needing({"MEMORY": 1})


def test_stages_side_by_side_share_the_workers(runner: Runner) -> None:
    found: dict[str, list[int]] = {}

    def stage(name: str, first: int) -> None:
        found[name] = [o.result for o in runner(double, range(first, first + 200))]

    threads = [threading.Thread(target=stage, args=(n, f)) for n, f in (("a", 0), ("b", 1000))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found["a"]) == [2 * n for n in range(200)]
    assert sorted(found["b"]) == [2 * n for n in range(1000, 1200)]


def test_a_model_is_loaded_once_per_worker(runner: Runner) -> None:
    used = [outcome.result for _ in range(2) for outcome in runner(use_model, range(200))]
    assert len({process for process, _ in used}) == 2
    assert len({model for _, model in used}) == 2


def test_an_abandoned_stage_leaves_the_workers_free(runner: Runner) -> None:
    stage = runner(time.sleep, [0.2] * 100)
    next(stage)
    stage.close()  # type: ignore[attr-defined]
    start = time.monotonic()
    assert [outcome.result for outcome in runner(double, [1])] == [2]
    assert time.monotonic() - start < 5


@pytest.mark.slow
def test_a_unit_that_kills_workers_is_found_among_innocent_ones() -> None:
    with open_runner(ClusterConfig(kind="local", workers=2)) as opened:
        list(opened(double, range(50)))
        outcomes = list(opened(deadly_thirteen, range(60)))
        quarantined = [outcome for outcome in outcomes if outcome.quarantined]
        assert [outcome.unit for outcome in quarantined] == [13]
        assert "died repeatedly" in (quarantined[0].error or "")
        assert sorted(o.result for o in outcomes if o.error is None) == [
            unit for unit in range(60) if unit != 13
        ]


@pytest.mark.slow
def test_a_unit_that_never_ends_is_quarantined_and_its_worker_goes_on() -> None:
    config = ClusterConfig(kind="local", workers=2, unit_timeout=2)
    with open_runner(config) as opened:
        start = time.monotonic()
        outcomes = list(opened(endless_thirteen, range(60)))
        assert time.monotonic() - start < 20
        assert [o.unit for o in outcomes if o.quarantined] == [13]
        assert "more than 2 seconds" in next(o.error or "" for o in outcomes if o.quarantined)
        assert len([o for o in outcomes if o.error is None]) == 59
        assert len({o.result[0] for o in opened(use_model, range(100))}) == 2
