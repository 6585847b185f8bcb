import json
from pathlib import Path

import pytest
from deduping import write_sets

from curate.errors import CurateError
from pipelines.flow.config import FlowConfig
from pipelines.flow.ledger import StepBook
from pipelines.flow.run import run_flow
from pipelines.planning.measured import measured_rates
from pipelines.planning.plan import make_plan
from pipelines.planning.rates import shipped_rates
from pipelines.planning.schedule import Machines
from pipelines.watch import Watch

EMBED = "embed/train/builtin-layout"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def flow(sets: Path, out: Path, **entry: object) -> FlowConfig:
    return FlowConfig.model_validate({
        "name": "small",
        "out": str(out),
        "sets": {name: {"shards": str(sets / name)} for name in ("test", "train")},
        "dedup": {
            "copies": {"test": "test", "train": "train", "detector": "builtin:layout",
                       "verify": "none", **entry}
        },
    })  # fmt: skip


@pytest.fixture(scope="module")
def run(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert run_flow(flow(sets, out, verify="pixels", floor=0.3), lambda _: Watch()).exit_code == 0
    return out


def took(run: Path, step: str, seconds: float) -> None:
    path = run / "flow" / "steps" / step / "step.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))


def test_a_run_that_took_longer_makes_plans_longer(run: Path, sets: Path, tmp_path: Path) -> None:
    config = flow(sets, tmp_path / "next")
    name = "embed/test/builtin-layout-views"
    planned = make_plan(config, shipped_rates(), Machines()).schedule.spans
    for step in (name, EMBED):
        took(run, step, 100.0)
    slow = make_plan(config, measured_rates(run, shipped_rates()), Machines()).schedule.spans
    seen = sum(slow[step].end - slow[step].begin for step in (name, EMBED))
    assert seen == pytest.approx(200, rel=0.05)
    assert planned[EMBED].end - planned[EMBED].begin < 20


def test_what_is_fixed_is_planned_as_it_was(run: Path, sets: Path, tmp_path: Path) -> None:
    took(run, "report", 30.0)
    took(run, "page/copies", 7.0)
    known = measured_rates(run, shipped_rates())
    spans = make_plan(flow(sets, tmp_path / "next"), known, Machines()).schedule.spans
    for step, seconds in (("report", 30), ("page/copies", 7)):
        assert spans[step].end - spans[step].begin == pytest.approx(seconds, rel=0.01)
    assert known.facts({"scale.driver.page"})["scale.driver.page"]["source"] == "measured"


def test_candidates_are_counted_in_the_tables_of_the_run(run: Path) -> None:
    known = measured_rates(run, shipped_rates())
    found = known.facts({"candidates", "candidates.images"})
    assert found["candidates"]["of"].startswith(f"counted in {run.name}")
    pairs = found["candidates"]["value"] * 16 * 20 / 1e6
    assert pairs == pytest.approx(round(pairs))
    assert 5 <= pairs <= 160


def test_steps_that_were_too_brief_say_nothing(run: Path) -> None:
    took(run, "page/copies", 0.01)
    assert not measured_rates(run, shipped_rates()).has("scale.driver.page")


def test_a_folder_without_a_finished_flow_says_nothing(sets: Path, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no flow was run there"):
        measured_rates(tmp_path, shipped_rates())
    config = flow(sets, tmp_path / "failed", whiten=True, background="/nowhere.npy", threshold=0.9)
    run_flow(config, lambda _: Watch())
    assert StepBook(tmp_path / "failed", "report").record() is None
    with pytest.raises(CurateError, match="no step of this run was done"):
        measured_rates(tmp_path / "failed", shipped_rates())


def test_kept_steps_take_nothing_and_whole_plans_do_not_know_them(run: Path, sets: Path) -> None:
    config = flow(sets, run, verify="pixels", floor=0.3)
    plan = make_plan(config, shipped_rates(), Machines())
    assert all(one.is_kept for one in plan.steps)
    assert plan.schedule.makespan == 0
    assert plan.sizes["train"].how == "counted by an earlier run"
    changed = make_plan(
        flow(sets, run, verify="pixels", floor=0.3, seed=7), shipped_rates(), Machines()
    )
    assert next(one.step.name for one in changed.steps if not one.is_kept) == "dedup/copies"
    assert make_plan(config, shipped_rates(), Machines(), whole=True).schedule.makespan > 0
