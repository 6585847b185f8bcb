"""Running a flow: what holds is kept, what fails stops only what needs it, and nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from flows import (
    COPIES,
    NEW,
    OLD,
    STEPS,
    copied,
    finished_small,
    flow_at,
    go,
    results,
    states,
    status,
)

from curate import artifacts
from curate.errors import CurateError, PartialRunError
from curate.files import read_json
from pipelines.execute.stopping import Stopping
from pipelines.flow import work
from pipelines.flow.ledger import FLOW_FILE, Record, StepBook
from pipelines.flow.retry import retry_flow
from pipelines.flow.task import Result, Task
from pipelines.watch import Watch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_small(tmp_path_factory.mktemp("flow"))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path)


@pytest.fixture
def sets(finished: Path, tmp_path: Path) -> Path:
    """The sets only; nothing was run."""
    for name in ("test", "train"):
        shutil.copytree(finished / name, tmp_path / name)
    return tmp_path


def retry(run: Path) -> Any:
    return retry_flow(run, lambda _name: Watch())


# --- what holds -----------------------------------------------------------------------------------


def test_a_second_run_keeps_everything_and_changes_no_byte_of_it(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (root / "run").rglob("*.*")}
    done = go(flow_at(root))
    assert (done.done, done.kept, done.exit_code) == ([], STEPS, 0)
    after = {path: path.stat().st_mtime_ns for path in (root / "run").rglob("*.*")}
    changed = {path for path in before if before[path] != after[path]}
    assert changed <= {root / "run" / FLOW_FILE}


def test_the_same_flow_elsewhere_gives_the_same_bytes(finished: Path, sets: Path) -> None:
    go(flow_at(sets))
    assert results(sets / "run") == results(finished / "run")


def test_another_threshold_makes_its_split_and_what_reads_it_only(root: Path) -> None:
    done = go(flow_at(root, dedup={"copies": {**COPIES, "threshold": [0.8, 0.7]}}))
    assert done.done == ["split/copies/0.7", "page/copies", "report"]
    assert done.kept == [NEW, OLD, "dedup/copies"]
    assert (root / "run/dedup/copies/splits/new-at-0.7/clean/a.tar").is_file()
    shown = read_json(root / "run" / "report" / "report.json")["splits"]
    assert [one["threshold"] for one in shown] == [0.8, 0.7]


def test_another_first_threshold_embeds_nothing_again(root: Path) -> None:
    done = go(flow_at(root, dedup={"copies": {**COPIES, "threshold": [0.85, 0.9]}}))
    assert (NEW in done.kept, OLD in done.kept, "dedup/copies" in done.done) == (True, True, True)


def test_a_result_that_is_made_again_as_it_was_leaves_the_rest(root: Path) -> None:
    os.utime(root / "train" / "00000.tar")
    before = results(root / "run")
    done = go(flow_at(root))
    assert done.done == [OLD]
    assert results(root / "run") == before
    assert "again: set old changed" in StepBook(root / "run", OLD).log_path.read_text()


def test_a_shard_with_other_images_changes_what_depends_on_it(root: Path) -> None:
    shutil.copy(root / "train" / "00001.tar", root / "train" / "00000.tar")
    done = go(flow_at(root))
    assert done.kept == [NEW]
    assert done.done == [one for one in STEPS if one != NEW]


def test_a_lost_ledger_costs_no_result(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (root / "run").rglob("*.npy")}
    kept = results(root / "run")
    shutil.rmtree(root / "run" / "flow")
    assert go(flow_at(root)).done == STEPS
    assert results(root / "run") == kept
    assert {path: path.stat().st_mtime_ns for path in (root / "run").rglob("*.npy")} == before


def test_a_missing_result_is_made_again(root: Path) -> None:
    before = results(root / "run")
    shutil.rmtree(root / "run" / "dedup" / "copies" / "matches")
    (root / "run" / "report" / "index.html").unlink()
    done = go(flow_at(root))
    assert {"dedup/copies", "report"} <= set(done.done)
    assert results(root / "run") == before


# --- what fails -----------------------------------------------------------------------------------


def test_a_shard_that_is_cut_is_damage_and_no_failure(root: Path) -> None:
    shard = root / "train" / "00001.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    done = go(flow_at(root))
    assert (done.failed, done.waiting, done.exit_code) == ({}, {}, 3)
    assert set(done.damaged) == {"old/00001"}
    again = go(flow_at(root))
    assert (again.done, again.damaged, again.exit_code) == ([], done.damaged, 3)


def test_shards_of_one_name_in_two_sets_are_both_told_as_damaged(root: Path) -> None:
    for name in ("test", "train"):
        shard = next((root / name).iterdir()).with_name("x.tar")
        shard.write_bytes(next((root / name).glob("*.tar")).read_bytes()[:5000])
    assert set(go(flow_at(root)).damaged) == {"new/x", "old/x"}


def test_a_shard_that_cannot_be_read_fails_alone(root: Path) -> None:
    before = results(root / "run")
    shard = root / "train" / "00001.tar"
    data = shard.read_bytes()
    shard.unlink()
    shard.symlink_to(root / "nowhere")
    flow = flow_at(root)
    done = go(flow)
    assert (list(done.failed), done.exit_code) == ([OLD], 3)
    assert "1 of 1 units failed" in done.failed[OLD]
    assert done.waiting["dedup/copies"] == OLD
    assert done.kept == [NEW]
    found = status(flow)
    assert found[OLD].state == "failed"
    (failure,) = found[OLD].failures
    assert str(shard) in failure.error
    assert found[OLD].units == {"done": 0, "failed": 1, "quarantined": 0}
    shard.unlink()
    shard.write_bytes(data)
    assert retry(root / "run").exit_code == 0
    assert results(root / "run") == before


def test_steps_that_do_not_need_a_failed_one_go_on(sets: Path) -> None:
    both = {"good": COPIES, "bad": {**COPIES, "train": "none"}}
    given = {"new": {"shards": "test"}, "old": {"shards": "train"}, "none": {"shards": "none"}}
    done = go(flow_at(sets, sets=given, dedup=both))
    assert "nothing is there" in done.failed["embed/none/builtin-layout"]
    assert {"dedup/good", "split/good/0.9", "page/good"} <= set(done.done)
    assert set(done.waiting) == {"dedup/bad", "split/bad/0.9", "page/bad", "report"}
    assert done.exit_code == 3


def test_an_error_nobody_foresaw_breaks_its_step_and_no_other(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_task: Task) -> Result:
        raise ZeroDivisionError("by nought")

    monkeypatch.setitem(work._KINDS, "split", broken)
    flow = flow_at(sets)
    done = go(flow)
    step = "split/copies/0.9"
    assert done.failed == {
        step: "unexpected ZeroDivisionError: by nought (curate logs shows where)"
    }
    assert (done.exit_code, set(done.waiting)) == (1, {"page/copies", "report"})
    assert "Traceback (most recent call last)" in StepBook(sets / "run", step).log_path.read_text()
    assert states(flow)[step] == "failed"
    monkeypatch.undo()
    done = go(flow)
    assert (done.done, done.exit_code) == ([step, "page/copies", "report"], 0)


def test_a_disk_that_is_full_ends_the_flow_as_partial_and_the_same_command_goes_on(
    sets: Path,
) -> None:
    log = StepBook(sets / "run", OLD).log_path
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    done = go(flow_at(sets))
    assert "log.txt: could not be written" in done.failed[OLD]
    assert (done.done, done.exit_code) == ([NEW], 3)
    log.unlink()
    done = go(flow_at(sets))
    assert (done.kept, done.exit_code) == ([NEW], 0)


def test_steps_that_go_side_by_side_have_ended_when_a_ledger_fails(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    begun = threading.Event()

    def full(task: Task) -> Result:
        begun.wait(30)
        monkeypatch.setattr(StepBook, "write", refused)
        raise CurateError(f"{task.step.name}: no")

    def slow(task: Task) -> Result:
        begun.set()
        while not stops[0].requested:
            time.sleep(0.01)
        time.sleep(0.2)
        ended.set()
        raise PartialRunError(f"{task.step.name}: stopped")

    def refused(_book: StepBook, _record: Record) -> None:
        raise CurateError("step.json: could not be written.")

    stops: list[Stopping] = []
    real = Stopping.__init__

    def noted(self: Stopping) -> None:
        real(self)
        stops.append(self)

    monkeypatch.setattr(Stopping, "__init__", noted)
    monkeypatch.setitem(work._KINDS, "embed", full)
    monkeypatch.setitem(work._KINDS, "demo", slow)
    parts = {"sets": {"new": {"shards": "test"}, "old": {"demo": "train"}}}
    changes = ("cluster.kind=local", "cluster.workers=1")
    with pytest.raises(PartialRunError, match="could not be written"):
        go(flow_at(sets, *changes, **parts))
    assert ended.is_set()


def test_a_promise_that_does_not_hold_is_exit_code_1(sets: Path) -> None:
    shutil.copy(sets / "train" / "00000.tar", sets / "train" / "00002.tar")
    entry = {**COPIES, "threshold": 0.8, "strip": "train", "cap": 1, "write": ["clean"]}
    done = go(flow_at(sets, dedup={"copies": entry}))
    assert done.exit_code == 1
    assert "cap" in done.failed["dedup/copies"]


def test_a_flow_that_makes_no_sense_leaves_nothing(sets: Path) -> None:
    flow = flow_at(sets, dedup={"copies": {**COPIES, "threshold": "auto"}})
    with pytest.raises(CurateError, match="give calibrate too"):
        go(flow)
    assert not (sets / "run").exists()


def test_a_folder_that_is_none_is_told(sets: Path) -> None:
    (sets / "run").write_text("in the way")
    with pytest.raises(CurateError, match="cannot be written"):
        go(flow_at(sets))


# --- one run at a time, stops and kills -----------------------------------------------------------


def test_a_second_run_on_the_folder_is_refused_while_the_first_works(root: Path) -> None:
    with artifacts.run_lock(root / "run"):
        with pytest.raises(CurateError, match="another curate process is working there"):
            go(flow_at(root))
        with pytest.raises(CurateError, match="another curate process is working there"):
            retry(root / "run")
    assert go(flow_at(root)).kept == STEPS


def test_half_a_record_of_a_killed_run_is_removed(root: Path) -> None:
    half = root / "run" / "flow" / "steps" / "report" / ".step.json.0123456789abcdef.tmp"
    half.write_bytes(b"half")
    assert go(flow_at(root)).kept == STEPS
    assert not half.exists()


def test_a_run_that_was_asked_to_stop_begins_no_further_step(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Ctrl-C while units of the train set are embedded."""
    stops: list[Stopping] = []
    real = Stopping.check

    def check(self: Stopping) -> None:
        stops.append(self)
        if len(stops) == 5:  # two stages' begins, three units
            self.requested = True
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "check", check)
        done = go(flow_at(sets))
    assert done.done == [NEW]
    assert list(done.failed) == [OLD]
    assert "stopped" in done.failed[OLD]
    assert done.waiting["dedup/copies"] == OLD
    assert done.exit_code == 3
    assert states(flow_at(sets))[OLD] == "stopped"
    assert go(flow_at(sets)).exit_code == 0


def test_a_killed_run_leaves_no_lock_and_goes_on(finished: Path, sets: Path) -> None:
    flow = flow_at(sets)
    command = [sys.executable, "-m", "pipelines", "run", str(sets / "flow.yaml")]
    step = sets / "run" / "flow" / "steps" / "dedup" / "copies" / "step.json"
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not step.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        assert status(flow)["dedup/copies"].state == "running"
        with pytest.raises(CurateError, match="another curate process"):
            go(flow)
        os.killpg(process.pid, signal.SIGKILL)
    found = states(flow)
    assert (found[OLD], found["dedup/copies"]) == ("done", "interrupted")
    done = go(flow)
    assert done.kept[:2] == [NEW, OLD]
    assert results(sets / "run") == results(finished / "run")


# --- other ways through a flow --------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        {"test": "old", "detector": "builtin:layout", "threshold": 0.9, "keep": "largest"},
        {**COPIES, "threshold": 0.8, "strip": "train", "write": ["clean"]},
        {**COPIES, "fused": True},
        {**COPIES, "search": "flat"},
        {**COPIES, "search": "flat", "min_recall": 0.5},
        {**COPIES, "verify": "pixels"},
    ],
    ids=["within", "strip", "fused", "index", "gated", "verified"],
)
def test_every_way_of_cleaning_goes_through_and_is_kept(sets: Path, entry: dict[str, Any]) -> None:
    flow = flow_at(sets, dedup={"c": entry})
    assert go(flow).exit_code == 0
    assert go(flow).done == []
    assert artifacts.verify_all(list(artifacts.artifacts(sets / "run"))) == []


def test_embeddings_that_are_at_hand_are_used_as_they_are(root: Path) -> None:
    vectors = {
        "new": {"embeddings": "run/embeddings/new/builtin-layout-views"},
        "old": {"embeddings": "run/embeddings/old/builtin-layout"},
    }
    done = go(flow_at(root, sets=vectors, out="second"))
    assert done.done == STEPS[2:]
    name = "dedup/copies/splits/new-at-0.8/clean_ids.txt"
    first = (root / "run" / name).read_text()
    second = next((root / "second").rglob("*-at-0.8/clean_ids.txt")).read_text()
    assert first == second


def test_splits_of_several_seeds_stand_beside_each_other(sets: Path) -> None:
    flow = flow_at(sets, dedup={"copies": {**COPIES, "threshold": 0.8, "seed": [0, 1]}})
    assert go(flow).exit_code == 0
    found = sorted(path.parent for path in (sets / "run").rglob("control_ids.txt"))
    assert len({path.name for path in found}) == 2
    assert go(flow).done == []


def test_a_calibration_waits_for_people_and_goes_on_with_what_they_said(sets: Path) -> None:
    entry = {**COPIES, "threshold": ["auto"], "floor": 0.3,
             "calibrate": {"images": 5, "plan": 60, "precision": 0.6}}  # fmt: skip
    write_degrees(sets)
    flow = flow_at(sets, dedup={"copies": entry})
    done = go(flow)
    assert list(done.failed) == ["split/copies/auto"]
    assert "proposes no threshold" in done.failed["split/copies/auto"]
    run = sets / "run" / "dedup" / "copies"
    judge(run)
    found = status(flow)["calibrate/copies"]
    assert (found.state, found.reasons) == ("stale", ("labels changed",))
    plan = (run / "calibration" / "plan.parquet").read_bytes()
    done = go(flow)
    assert (done.failed, done.exit_code) == ({}, 0)
    assert (run / "calibration" / "plan.parquet").read_bytes() == plan
    assert len(list((run / "splits").iterdir())) == 2
    assert go(flow).done == []


def write_degrees(root: Path) -> None:
    """Copies of all degrees, so that scores spread, and as many other pictures."""
    import numpy as np
    from pictures import encoded, picture, sample, write_set, write_shard

    from curate.copies import plant

    for name in ("test", "train"):
        shutil.rmtree(root / name)
    write_set(root / "train", [range(20), range(20, 40)])
    rng = np.random.default_rng(0)
    rows = [
        sample(f"copy-{n:03d}", encoded(plant(picture(n), "noise", 1 + n % 3, rng)), n % 3)
        for n in range(30)
    ]
    rows += [sample(f"other-{n}", encoded(picture(n)), n % 3) for n in range(100, 130)]
    write_shard(root / "test" / "a.tar", rows)


def judge(run: Path) -> None:
    """What a reviewer who is always right says of all pairs that were drawn."""
    import json

    import polars as pl

    plan = pl.read_parquet(run / "calibration" / "plan.parquet")
    lines = []
    for test_id, train_id in plan.select("test_id", "train_id").rows():
        same = test_id.endswith(f"copy-{int(train_id[-6:]):03d}")
        lines.append(json.dumps({
            "test_id": test_id, "train_id": train_id, "label": "same" if same else "different",
            "reviewer": "me", "at": "2026-01-01T00:00:00Z", "score": 1.0, "test_sha256": "",
            "train_sha256": "",
        }))  # fmt: skip
    (run / "labels").mkdir()
    (run / "labels" / "me.jsonl").write_text("\n".join(lines) + "\n")


# --- on a cluster ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_this_process(finished: Path, sets: Path) -> None:
    done = go(flow_at(sets, "cluster.kind=local", "cluster.workers=2"))
    assert (sorted(done.done), done.exit_code) == (sorted(STEPS), 0)
    assert results(sets / "run") == results(finished / "run")


@pytest.mark.slow
def test_a_unit_that_never_ends_is_put_aside_by_run_and_tried_again_by_retry(
    finished: Path, sets: Path
) -> None:
    shard = sets / "train" / "00001.tar"
    data = shard.read_bytes()
    shard.unlink()
    os.mkfifo(shard)  # whoever opens it waits for a writer, who never comes
    flow = flow_at(sets, "cluster.kind=local", "cluster.workers=2", "cluster.unit_timeout=10")
    done = go(flow)
    assert (list(done.failed), done.exit_code) == ([OLD], 3)
    found = status(flow)[OLD]
    assert (found.state, found.units) == ("quarantined", {"done": 1, "failed": 0, "quarantined": 1})
    assert [one.unit for one in found.failures] == ["embed old/00001"]
    shard.unlink()
    shard.write_bytes(data)
    again = go(flow)
    assert list(again.failed) == [OLD]  # and it was not tried
    assert retry(sets / "run").exit_code == 0
    assert results(sets / "run") == results(finished / "run")


@pytest.mark.slow
def test_a_need_that_no_worker_meets_fails_its_steps_at_once(sets: Path) -> None:
    done = go(flow_at(sets, "cluster.kind=local", "cluster.workers=1", "needs.embed.GPU=1"))
    assert set(done.failed) == {NEW, OLD}
    assert "GPU" in done.failed[NEW]
