"""Steps that train: the words of the single command, its errors, and a whole study to its end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psutil
import pytest
from flows import SHORT, flow_at, go, results, states, task_of, whole_study, write_readable_sets
from typer.testing import CliRunner

from curate.errors import CurateError, PartialRunError
from curate.files import read_json
from pipelines.cli import app
from pipelines.execute.torchrun import LostWorkerError, Torchrun
from pipelines.flow.ledger import Record, StepBook
from pipelines.flow.training import train_by, train_command

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY: dict[str, Any] = {"data": "old", "recipe": "tiny", "set": SHORT}


def words(root: Path, **entry: Any) -> list[str]:
    return train_command(task_of(flow_at(root, train={"t": {**ENTRY, **entry}}), "train/t"))


def test_the_words_are_those_of_the_single_command(tmp_path: Path) -> None:
    given = words(tmp_path, seed=3, threads=2, workers=4, interpolate="0:1:0.5")
    assert given[:2] == ["train", str(tmp_path / "train")]
    for name, value in (
        ("--out", str(tmp_path / "run" / "train" / "t")), ("--recipe", "tiny"),
        ("--model", "builtin:tiny-clip"), ("--threads", "2"), ("--workers", "4"),
        ("--interpolate", "0:1:0.5"), ("--device", "auto"),
    ):  # fmt: skip
        assert given[given.index(name) + 1] == value
    assert {"updates=2", "epochs=null", "seed=3"} <= set(given)


def test_every_option_is_one_of_the_command(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["train", "--help"], terminal_width=200).output
    given = words(tmp_path, classes=str(tmp_path / "names.txt"), interpolate="0:1:0.5")
    for option in (word for word in given if word.startswith("--")):
        assert option in shown


def test_ids_and_splits_are_those_that_their_steps_left(tmp_path: Path) -> None:
    entries = whole_study()["dedup"]
    train = {"t": {**ENTRY, "ids": "leaks"}, "u": {"split": "copies@0.9", "set": SHORT}}
    flow = flow_at(tmp_path, dedup=entries, train=train)
    with pytest.raises(CurateError, match="dedup/leaks: left no split; run the flow again"):
        train_command(task_of(flow, "train/t"))
    for name, place in (("dedup/leaks", "dedup/a"), ("split/copies/0.9", "dedup/b")):
        StepBook(Path(flow.out), name).write(Record("done", {}, id="x", outputs=(place,)))
    given = train_command(task_of(flow, "train/t"))
    assert given[given.index("--ids") + 1] == str(tmp_path / "run/dedup/a/clean_ids.txt")
    assert train_command(task_of(flow, "train/u"))[1] == str(tmp_path / "run/dedup/b")


def test_the_control_split_is_another_list_of_ids(tmp_path: Path) -> None:
    train = {"t": {**ENTRY, "ids": "leaks", "keep": "control"}}
    flow = flow_at(tmp_path, dedup=whole_study()["dedup"], train=train)
    StepBook(Path(flow.out), "dedup/leaks").write(Record("done", {}, id="x", outputs=("dedup/a",)))
    given = train_command(task_of(flow, "train/t"))
    assert given[given.index("--ids") + 1] == str(tmp_path / "run/dedup/a/control_ids.txt")


def test_a_model_from_scratch_is_pretrained(tmp_path: Path) -> None:
    entry = {"data": "old", "scratch": {"epochs": 3}, "seed": 5, "threads": 2}
    given = train_command(task_of(flow_at(tmp_path, train={"t": entry}), "train/t"))
    assert given == [
        "pretrain", str(tmp_path / "train"), "--out", str(tmp_path / "run" / "train" / "t"),
        "--workers", "1", "--threads", "2", "--epochs", "3", "--seed", "5",
    ]  # fmt: skip
    shown = CliRunner().invoke(app, ["pretrain", "--help"], terminal_width=200).output
    assert all(word in shown for word in given if word.startswith("--"))


def test_a_model_of_another_entry_is_adapted_from_its_folder(tmp_path: Path) -> None:
    train = {"small": {"data": "old", "scratch": {}}, "t": {**ENTRY, "model": "small"}}
    given = train_command(task_of(flow_at(tmp_path, train=train), "train/t"))
    assert given[given.index("--model") + 1] == "open_clip:local-dir"
    assert given[given.index("--weights") + 1] == str(tmp_path / "run" / "train" / "small")


# --- lost workers and errors ----------------------------------------------------------------------


def losing(times: int, jobs: list[Torchrun]) -> Callable[[Torchrun], None]:
    """Loses its worker so many times, then trains."""

    def torchrun(job: Torchrun) -> None:
        jobs.append(job)
        if len(jobs) <= times:
            raise LostWorkerError(f"worker {len(jobs)} is lost")

    return torchrun


def test_training_asks_for_its_processes_and_nodes(tmp_path: Path) -> None:
    jobs: list[Torchrun] = []
    flow = flow_at(tmp_path, train={"t": {**ENTRY, "processes": 4, "nodes": 2}})
    one = task_of(flow, "train/t", losing(0, jobs))
    train_by(one)
    words = ("-m", "pipelines", *train_command(one))
    assert jobs == [Torchrun(words, one.book.log_path, processes=4, nodes=2)]


def test_training_goes_on_elsewhere_when_its_worker_is_lost(tmp_path: Path) -> None:
    jobs: list[Torchrun] = []
    flow = flow_at(tmp_path, "cluster.retries=2", train={"t": ENTRY})
    train_by(task_of(flow, "train/t", losing(2, jobs)))
    assert len(jobs) == 3
    assert jobs[0] == jobs[1] == jobs[2]
    lines = StepBook(tmp_path / "run", "train/t").log_path.read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "again: worker 1 is lost", "again: worker 2 is lost",
    ]  # fmt: skip


def test_training_that_loses_every_worker_ends(tmp_path: Path) -> None:
    jobs: list[Torchrun] = []
    flow = flow_at(tmp_path, "cluster.retries=1", train={"t": ENTRY})
    with pytest.raises(PartialRunError, match="worker 2 is lost"):
        train_by(task_of(flow, "train/t", losing(5, jobs)))
    assert len(jobs) == 2


@pytest.mark.slow
def test_a_run_that_fails_tells_the_end_of_what_it_said(tmp_path: Path) -> None:
    write_readable_sets(tmp_path)
    entry = {**ENTRY, "classes": str(tmp_path / "none.txt")}
    flow = flow_at(tmp_path, dedup={}, train={"t": entry})
    done = go(flow)
    assert "none.txt" in done.failed["train/t"]
    assert done.exit_code == 3
    assert "none.txt" in StepBook(tmp_path / "run", "train/t").log_path.read_text()


def kill_once(command: str) -> None:
    """Kill the first process below this one that runs a command of `curate`, once it is going."""
    while True:
        time.sleep(0.1)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                if command in words and "pipelines.execute.guard" not in words:
                    time.sleep(2)
                    process.kill()
                    return


@pytest.mark.slow
def test_a_training_whose_process_is_killed_is_begun_again(tmp_path: Path) -> None:
    write_readable_sets(tmp_path)
    killer = threading.Thread(target=kill_once, args=("train",), daemon=True)
    killer.start()
    done = go(flow_at(tmp_path, dedup={}, train={"t": ENTRY}))
    assert not killer.is_alive()
    assert (done.done[0], done.exit_code) == ("train/t", 0)
    assert "again: python -m pipelines train" in StepBook(done.run, "train/t").log_path.read_text()


# --- a whole study --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study from shards to the final report, with a model that was trained on the way."""
    root = write_readable_sets(tmp_path_factory.mktemp("study"))
    done = go(flow_at(root, **whole_study()))
    assert (done.failed, done.exit_code) == ({}, 0)
    return root


@pytest.mark.slow
def test_a_study_goes_from_shards_to_the_report(study: Path) -> None:
    facts = read_json(study / "run" / "report" / "report.json")
    assert [one["name"] for one in facts["trained"]] == ["tecoa"]
    assert facts["trained"][0]["updates"] == 2
    assert {one["name"] for one in facts["splits"]} == {
        "dedup/copies", "split/copies/0.9", "dedup/leaks",
    }  # fmt: skip
    assert facts["sentence"]
    assert go(flow_at(study, **whole_study())).done == []


@pytest.mark.slow
def test_training_leaves_out_what_is_a_copy_of_a_test_image(study: Path) -> None:
    used = read_json(study / "run" / "train" / "tecoa" / "train.json")["data"]["samples"]
    assert used == 20 - 5 - SHORT["held_out"]


@pytest.mark.slow
def test_a_step_trains_as_the_single_command_does(study: Path, tmp_path: Path) -> None:
    given = train_command(task_of(flow_at(study, **whole_study()), "train/tecoa"))
    given[given.index("--out") + 1] = str(tmp_path / "by-hand")
    subprocess.run([sys.executable, "-m", "pipelines", *given], check=True)
    for name in ("open_clip_model.safetensors", "metrics.parquet"):
        in_flow, by_hand = study / "run" / "train" / "tecoa" / name, tmp_path / "by-hand" / name
        assert in_flow.read_bytes() == by_hand.read_bytes()
    assert pl.read_parquet(tmp_path / "by-hand" / "metrics.parquet")["step"].max() == 2


@pytest.mark.slow
def test_another_seed_trains_and_measures_that_model_only(study: Path) -> None:
    parts = whole_study()
    parts["train"]["tecoa"]["seed"] = 1
    flow = flow_at(study, **parts)
    stale = {name for name, state in states(flow).items() if state != "done"}
    assert stale == {"train/tecoa", "eval/tecoa", "overlap", "report"}


@pytest.mark.slow
def test_a_study_on_two_workers_has_the_bytes_of_one_in_this_process(
    study: Path, tmp_path: Path
) -> None:
    write_readable_sets(tmp_path)
    flow = flow_at(tmp_path, "cluster.kind=local", "cluster.workers=2", **whole_study())
    done = go(flow)
    assert (done.failed, done.exit_code) == ({}, 0)
    here, there = results(study / "run"), results(tmp_path / "run")
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []
