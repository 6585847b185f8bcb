"""What `curate status` knows: every state, its reasons, and nothing written by asking."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from flows import COPIES, NEW, OLD, STEPS, copied, finished_small, flow_at, go, states, status

from curate import artifacts
from curate.errors import CurateError
from pipelines.flow.ledger import FLOW_FILE, Failed, StepBook
from pipelines.flow.status import flow_of, log_of, status_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_small(tmp_path_factory.mktemp("flow"))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path)


def noted(run: Path, step: str, state: str, *failures: Failed) -> None:
    """As if the step had ended so."""
    book = StepBook(run, step)
    record = book.record()
    assert record is not None
    book._failed = {one.unit: one for one in failures}
    book.keep_failures()
    book.write(replace(record, state=state, error=None if state == "done" else "because"))  # type: ignore[arg-type]


def test_a_flow_that_never_ran_waits_for_its_first_steps(tmp_path: Path) -> None:
    sets = {"new": {"demo": "test"}, "old": {"demo": "train"}}
    found = status(flow_at(tmp_path, sets=sets))
    assert {one.state for one in found.values()} == {"waiting"}
    assert found["demo"].reasons == ()
    assert found["dedup/copies"].reasons == (f"for {NEW}, {OLD}",)


def test_of_many_steps_that_one_waits_for_the_first_are_named(tmp_path: Path) -> None:
    found = status(flow_at(tmp_path, "dedup.copies.threshold=[0.1, 0.3, 0.5, 0.7, 0.9]"))
    (waits,) = found["report"].reasons
    splits = ", ".join(f"split/copies/{threshold}" for threshold in (0.3, 0.5, 0.7))
    assert waits == f"for dedup/copies, {splits} and 2 more"


def test_asking_writes_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    flow = flow_at(root, "dedup.copies.threshold=[0.5, 0.7]")
    before[root / "flow.yaml"] = (root / "flow.yaml").stat().st_mtime_ns
    status(flow)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_finished_step_tells_its_time_and_units(root: Path) -> None:
    found = status(flow_at(root))[OLD]
    assert (found.state, found.reasons, found.error, found.failures) == ("done", (), None, ())
    assert found.seconds > 0
    assert found.units == {"done": 2, "failed": 0, "quarantined": 0}


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("partial", "failed"),
        ("failed", "failed"),
        ("broken", "failed"),
        ("stopped", "stopped"),
        ("running", "interrupted"),
    ],
)
def test_every_end_has_its_word_and_what_needs_it_is_stale(
    root: Path, state: str, word: str
) -> None:
    noted(root / "run", OLD, state)
    found = status(flow_at(root))
    assert found[OLD].state == word
    assert found["dedup/copies"].state == "stale"
    assert found["dedup/copies"].reasons == (f"{OLD} is not done",)
    assert found[NEW].state == "done"


def test_a_step_is_running_only_while_somebody_runs_it(root: Path) -> None:
    noted(root / "run", OLD, "running")
    with artifacts.run_lock(root / "run"):
        assert states(flow_at(root))[OLD] == "running"
    assert states(flow_at(root))[OLD] == "interrupted"


def test_units_that_are_put_aside_make_a_step_quarantined(root: Path) -> None:
    noted(root / "run", OLD, "partial", Failed("a", "no"), Failed("b", "killed", quarantined=True))
    found = status(flow_at(root))[OLD]
    assert found.state == "quarantined"
    assert [one.unit for one in found.failures] == ["a", "b"]
    noted(root / "run", OLD, "partial", Failed("a", "no"))
    assert states(flow_at(root))[OLD] == "failed"


def test_a_status_is_json(root: Path) -> None:
    noted(root / "run", OLD, "partial", Failed("a", "no", quarantined=True))
    told = json.loads(json.dumps(status(flow_at(root))[OLD].to_json()))
    assert told["state"] == "quarantined"
    assert told["failures"] == [{"unit": "a", "error": "no", "quarantined": True}]


def test_a_changed_flow_tells_what_it_would_do_again(root: Path) -> None:
    flow = flow_at(root, dedup={"copies": {**COPIES, "threshold": [0.8, 0.7]}})
    found = status(flow)
    assert [name for name, one in found.items() if one.state == "done"] == STEPS[:3]
    assert found["split/copies/0.7"].state == "waiting"
    done = go(flow)
    assert done.done == [name for name, one in found.items() if one.state != "done"]


def test_a_run_folder_may_be_named_otherwise_than_in_the_flow(root: Path, tmp_path: Path) -> None:
    (root / "run").rename(tmp_path / "moved")
    found = status_of(tmp_path / "moved", flow_of(tmp_path / "moved"))
    assert {one.state for one in found} == {"done"}


# --- the flow of a run, and logs ------------------------------------------------------------------


def test_the_flow_of_a_run_is_as_it_was_run_last(root: Path) -> None:
    assert flow_of(root / "run").dedup["copies"].threshold == (0.8, 0.9)


def test_a_folder_without_a_flow_is_told(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no flow was run there"):
        flow_of(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "x"}', '{"naem": "x"}'])
def test_a_damaged_flow_is_told(root: Path, text: str) -> None:
    (root / "run" / FLOW_FILE).write_text(text)
    with pytest.raises(CurateError, match=str(FLOW_FILE)):
        flow_of(root / "run")


def test_logs_are_the_last_lines(root: Path) -> None:
    lines = log_of(root / "run", OLD, 50)
    assert [line.partition(" ")[2] for line in lines] == ["begins", "done"]
    assert log_of(root / "run", OLD, 1) == lines[1:]
    assert log_of(root / "run", "nothing", 5) == []
