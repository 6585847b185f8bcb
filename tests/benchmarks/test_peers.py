"""The command that runs all contestants of the comparison."""

import json
import os
import platform
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import peers
from side_by_side import environments
from side_by_side.session import Contestant, Finding, Session


def test_tasks_and_rows_are_chosen_by_name_in_the_order_of_the_comparison() -> None:
    chosen = peers.select(["zero-shot", "fastdup"])
    assert list(chosen) == ["fastdup", "curate eval", "clip-benchmark", "clip-benchmark --no_amp"]
    assert peers.select([]) == peers.CONTESTANTS


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SystemExit, match=r"--only fastdupe: tasks are .*'copies'.* rows .*fastdup"):
        peers.select(["fastdupe"])


def test_every_contestant_has_an_environment_that_is_known() -> None:
    used = {contestant.environment for contestant in peers.CONTESTANTS.values()} - {None}
    assert used == set(environments.ENVIRONMENTS)


def test_a_tool_that_cannot_be_installed_is_a_row_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Path:
        raise environments.CannotInstallError("ERROR: no such version")

    monkeypatch.setattr(peers, "make", refuse)
    session = Session(tmp_path, tmp_path, tmp_path, None, None)
    assert peers.row("fastdup", peers.CONTESTANTS["fastdup"], session) == {
        "task": "copies", "name": "fastdup", "environment": "fastdup",
        "failed": "ERROR: no such version",
    }  # fmt: skip


def test_an_answer_that_cannot_be_read_is_a_row_too(tmp_path: Path) -> None:
    def measure(session: Session, python: Path) -> Finding:
        raise FileNotFoundError(2, "No such file", str(session.work / python.name / "a.csv"))

    session = Session(tmp_path, tmp_path, tmp_path, None, None)
    failed = peers.row("a", Contestant("made up", None, measure), session)["failed"]
    assert failed.startswith("its answer cannot be read: FileNotFoundError(2, 'No such file'")


def test_a_tool_that_fails_is_a_row_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(session: Session, python: Path, *, text: str) -> Finding:
        words = ["-c", text]
        cost = session.run(python, words)
        return Finding({"found": 1}, cost, session.shown(python, words), "none")

    fails = partial(measure, text="import sys; sys.exit('out of memory')")
    works = partial(measure, text="pass")
    made_up = {name: Contestant("made up", None, run) for name, run in (("a", fails), ("b", works))}
    monkeypatch.setattr(peers, "CONTESTANTS", made_up)
    out = tmp_path / "peers.json"
    words = ["--data", str(tmp_path), "--env-root", str(tmp_path / "environments")]
    chosen = ["--images", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmarks/peers.py", *words, *chosen])
    peers.main()
    result = json.loads(out.read_text())
    assert (result["images"], result["cores"]) == (2, len(os.sched_getaffinity(0)))
    failed, done = result["rows"]
    assert failed == {
        "task": "made up", "name": "a", "environment": None,
        "failed": "exit code 1: out of memory",
    }  # fmt: skip
    assert (done["name"], done["figures"], done["command"]) == ("b", {"found": 1}, "python -c pass")
    assert done["versions"]["python"] == platform.python_version()
    assert done["cost"]["wall_s"] > 0
