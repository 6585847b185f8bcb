"""`curate run`, `status`, `retry` and `logs`, and what holds for the help of every command."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer
from flows import COPIES, NEW, OLD, STEPS, copied, finished_small, flow_at, write_flow
from typer.testing import CliRunner

from curate import artifacts
from pipelines import cli
from pipelines.cli import app
from pipelines.flow.ledger import Failed, Record, StepBook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import click


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_small(tmp_path_factory.mktemp("flow"))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    copied(finished, tmp_path)
    flow_at(tmp_path)  # writes the file with places of the copy
    return tmp_path


@pytest.fixture
def curate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The program as a shell sees it: exit code, what it printed, and what it complained of."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["curate", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


# --- run and retry --------------------------------------------------------------------------------


def test_a_run_tells_what_was_done_and_where_the_report_is(root: Path, curate: Any) -> None:
    code, out, _ = curate("run", root / "flow.yaml")
    assert code == 0
    assert out.splitlines() == [
        "0 steps done, 6 kept",
        f"report  {root / 'run' / 'report' / 'index.html'}",
    ]


def test_a_run_is_told_to_machines(root: Path, curate: Any) -> None:
    code, out, _ = curate("run", root / "flow.yaml", "--json", "--set", "dedup.copies.threshold=.8")
    told = json.loads(out)
    assert (code, told["exit_code"], told["run"]) == (0, 0, str(root / "run"))
    assert told["done"] == ["page/copies", "report"]
    assert (told["failed"], told["waiting"], told["damaged_shards"]) == ({}, {}, {})


@pytest.mark.parametrize("name", ["other", "2024", "yes", "a: b", "null"])
def test_any_name_of_a_folder_may_be_given_as_out(
    root: Path, curate: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(root)
    (root / "run").rename(root / name)
    code, out, _ = curate("run", "flow.yaml", "--out", name, "--json")
    assert (code, json.loads(out)["run"]) == (0, str(root / name))
    assert json.loads(out)["kept"] == STEPS


def test_a_failure_is_exit_code_3_with_what_to_ask_next(root: Path, curate: Any) -> None:
    (root / "train").rename(root / "away")
    code, out, _ = curate("run", root / "flow.yaml")
    assert code == 3
    lines = out.splitlines()
    assert lines[-2].startswith(f"failed  {OLD}: {root / 'train'}: nothing is there")
    assert f"waits   dedup/copies for {OLD}" in lines
    assert lines[-1].startswith(f"curate status {root / 'run'} shows each step")
    (root / "away").rename(root / "train")
    assert curate("retry", root / "run")[0] == 0


def test_damage_is_exit_code_3_and_named(root: Path, curate: Any) -> None:
    shard = root / "train" / "00001.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    code, out, _ = curate("run", root / "flow.yaml")
    assert code == 3
    assert "damaged old/00001: not readable as tar" in out


def test_a_promise_that_does_not_hold_is_exit_code_1(root: Path, curate: Any) -> None:
    data = (root / "train" / "00000.tar").read_bytes()
    (root / "train" / "00002.tar").write_bytes(data)
    entry = {**COPIES, "threshold": 0.8, "strip": "train", "cap": 1, "write": ["clean"]}
    flow_at(root, dedup={"copies": entry})
    code, out, _ = curate("run", root / "flow.yaml")
    assert code == 1
    assert "failed  dedup/copies" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "demoo"], "demoo: no such flow"),
        (["run", "flow.yaml", "--set", "dedup.copies.cpa=3"], "dedup.copies.cpa is no setting"),
        (["run", "flow.yaml", "--set", "dedup"], "NAME=VALUE was expected"),
        (["status", "none"], "none: no flow was run there"),
        (["retry", "none"], "none: no flow was run there"),
        (["logs", "none"], "none: no flow was run there"),
        (["status", "run", "--set", "name=x"], "give --flow too"),
        (["logs", "run", "embed"], "has no step 'embed'; there are embed/new"),
    ],
)
def test_a_mistake_is_exit_code_2_in_a_sentence(
    root: Path, curate: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(root)
    code, out, err = curate(*words)
    assert (code, out) == (2, "")
    assert told in err
    assert "Traceback" not in err


def test_a_run_that_is_in_use_is_exit_code_2(root: Path, curate: Any) -> None:
    with artifacts.run_lock(root / "run"):
        code, _, err = curate("run", root / "flow.yaml")
    assert code == 2
    assert "another curate process is working there" in err


def test_a_dry_run_does_nothing(tmp_path: Path, curate: Any) -> None:
    values = {
        "name": "x", "out": str(tmp_path / "run"),
        "sets": {"new": {"demo": "test"}, "old": {"demo": "train"}}, "dedup": {"copies": COPIES},
    }  # fmt: skip
    path = write_flow(tmp_path, values)
    code, out, _ = curate("run", path, "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)
    assert [one.name for one in tmp_path.iterdir()] == ["flow.yaml"]
    assert NEW in curate("run", path, "--dry-run")[1]


# --- status and logs ------------------------------------------------------------------------------


def failed(root: Path) -> None:
    """As after a run in which a unit failed and another was put aside."""
    book = StepBook(root / "run", OLD)
    book.log("Traceback (most recent call last)")
    book._failed = {"a": Failed("a", "cut"), "b": Failed("b", "killed", quarantined=True)}
    book.keep_failures()
    book.write(Record("partial", {}, error="2 of 3 units failed"))


def test_status_has_a_line_for_each_step_with_its_reasons(root: Path, curate: Any) -> None:
    failed(root)
    code, out, _ = curate("status", root / "run")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"done        {NEW}")
    assert lines[1] == f"quarantined {OLD}"
    assert [line.strip() for line in lines[2:5]] == [
        "2 of 3 units failed", "failed: a: cut", "put aside: b: killed",
    ]  # fmt: skip
    assert lines[5].startswith("stale       dedup/copies")
    assert lines[6].strip() == f"{OLD} is not done"


def test_status_is_told_to_machines(root: Path, curate: Any) -> None:
    failed(root)
    told = json.loads(curate("status", root / "run", "--json")[1])
    assert told["run"] == str(root / "run")
    assert [one["name"] for one in told["steps"]] == STEPS
    assert told["steps"][1]["failures"][1] == {"unit": "b", "error": "killed", "quarantined": True}


def test_status_says_what_a_changed_file_would_do_again(root: Path, curate: Any) -> None:
    (root / "run").rename(root / "moved")
    words = ("status", root / "moved", "--flow", root / "flow.yaml")
    states = {one["name"]: one for one in json.loads(curate(*words, "--json")[1])["steps"]}
    assert {one["state"] for one in states.values()} == {"done"}
    words = (*words, "--set", "dedup.copies.cap=7", "--json")
    states = {one["name"]: one for one in json.loads(curate(*words)[1])["steps"]}
    assert states["dedup/copies"]["state"] == "stale"
    assert states["dedup/copies"]["reasons"] == ["cap: None -> 7"]


def test_logs_are_of_the_steps_that_failed(root: Path, curate: Any) -> None:
    assert "no step failed" in curate("logs", root / "run")[1]
    failed(root)
    lines = curate("logs", root / "run")[1].splitlines()
    assert lines[0] == f"== {OLD}"
    assert lines[-1].endswith("Traceback (most recent call last)")
    assert len(lines) == 4


def test_logs_of_a_step_are_its_last_lines(root: Path, curate: Any) -> None:
    lines = curate("logs", root / "run", NEW, "--lines", "1")[1].splitlines()
    assert lines[0] == f"== {NEW}"
    assert [line.partition(" ")[2] for line in lines[1:]] == ["done"]


# --- help -----------------------------------------------------------------------------------------


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words of every command below one."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
        return
    for name, found in inner.items():
        yield from commands(found, (*path, name))


EVERY = [" ".join(words) for words in commands(typer.main.get_command(app), ())]


def test_the_commands_of_a_study_are_among_all() -> None:
    assert {"run", "status", "retry", "logs", "eval run", "index build"} <= set(EVERY)


@pytest.mark.parametrize("command", EVERY)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=120)
    assert shown.exit_code == 0
    examples = shown.output.partition("Example")[2]
    assert f"curate {command}" in examples


def test_help_comes_at_once(tmp_path: Path) -> None:
    """Within 0.3 s of a core where its libraries alone take 0.14, and as much longer as they do.

    Compiled code is kept, as on a user's machine, also where the tests are told not to keep it.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": str(tmp_path)}

    def core_seconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    turns = [
        (core_seconds("-m", "pipelines", "--help"), core_seconds("-c", "import typer.rich_utils"))
        for _ in range(8)
    ]
    ours, libraries = map(min, zip(*turns, strict=True))
    assert ours < 0.3 * max(1, libraries / 0.14)


def test_no_help_imports_anything_heavy() -> None:
    code = (
        "import sys, pipelines.cli as c; from typer.testing import CliRunner as R\n"
        f"for words in {EVERY!r} + ['']:\n"
        "    assert R().invoke(c.app, [*words.split(), '--help']).exit_code == 0\n"
        "heavy = ('torch', 'polars', 'faiss', 'dask', 'distributed', 'numpy', 'open_clip')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
