"""`curate eval`: help that shows the way, figures for people and machines, remedies in refusals."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from evaluating import write_deduplicated, write_test_set
from small_clips import write_clip
from typer.testing import CliRunner

from curate.errors import CurateError
from eval.attacks.registry import ATTACKS
from eval.datasets.registry import ENTRIES, open_evalset
from eval.shifts.registry import CORRUPTIONS
from eval.suites import SUITES, find_suite, settings_of
from pipelines import cli
from pipelines.cli import app, evaluate

SETTINGS = ("mine", "mine.fog.3", "mine@fgsm.eps2.native")


def run(*words: str | Path) -> Any:
    result = CliRunner().invoke(app, ["eval", *map(str, words)], terminal_width=120)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def words_of(place: Path, out: Path, *more: str | Path) -> list[str | Path]:
    return [
        "run", "open_clip:local-dir", "--weights", place / "vit", "--data", f"mine={place}/set",
        "--out", out, "--device", "cpu", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    write_deduplicated(root)
    write_clip("vit", root / "vit")
    return root


@pytest.fixture(scope="module")
def split(place: Path) -> str:
    return f"mine={next((place / 'run' / 'splits').iterdir())}"


@pytest.fixture(scope="module")
def finished(place: Path, split: str) -> Path:
    settings = [part for word in SETTINGS for part in ("--setting", word)]
    run(*words_of(place, place / "eval" / "vit", *settings, "--split", split))
    return place / "eval"


def test_a_summary_of_single_settings_says_where_they_are_shown(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "vit" / "mine", tmp_path / "vit" / "mine")
    _, line = run("summary", tmp_path).output.splitlines()
    assert line == "  nothing over many settings; curate eval overlap shows each of them"


@pytest.mark.parametrize("command", ["run", "ls", "report", "overlap", "fit", "prompts"])
def test_every_command_shows_an_example(command: str) -> None:
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert f"curate eval {command}" in re.sub(r"\s+", " ", shown.output)


def test_every_example_of_a_setting_is_one() -> None:
    from eval.settings import parse_setting

    found = re.findall(r"cifar10[.@][a-z0-9.@#-]+", Path(evaluate.__file__).read_text())
    assert len(found) > 2
    for word in found:
        assert parse_setting(word.rstrip("."), ["cifar10"])


def test_a_run_tells_figures_with_intervals_for_every_split(
    place: Path, split: str, finished: Path
) -> None:
    more = [part for word in SETTINGS for part in ("--setting", word)]
    shown = run(*words_of(place, finished / "vit", *more, "--split", split)).stdout
    for word in SETTINGS:
        (line,) = (line for line in shown.splitlines() if line.startswith(f"{word} "))
        for part in ("full", "clean", "overlap", "control"):
            assert re.search(rf"{part} \d+\.\d% \(\d+\.\d% to \d+\.\d%\)", line)
    assert shown.endswith(f"results {finished / 'vit'}\n")


def test_a_run_is_json_alone_for_machines(place: Path, split: str, finished: Path) -> None:
    more = [part for word in SETTINGS for part in ("--setting", word)]
    done = run(*words_of(place, finished / "vit", *more, "--split", split, "--json"))
    said = json.loads(done.stdout)
    assert [row["word"] for row in said["results"]] == list(SETTINGS)
    assert said["left_out"] == []
    for row in said["results"]:
        stored = finished / "vit" / row["word"] / "summary.json"
        assert row == json.loads(stored.read_text())


def test_attacks_of_a_suite_that_need_a_surrogate_are_named_as_left_out(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.evaluation import run as stage

    asked: list[Any] = []

    def noted(request: Any, *_: Any) -> list[dict[str, Any]]:
        asked.append(request)
        return []

    monkeypatch.setattr(stage, "run_eval", noted)
    said = json.loads(run(*words_of(place, tmp_path / "m", "--suite", "quick", "--json")).stdout)
    members = map(str, settings_of(find_suite("quick"), "mine"))
    transfers = [word for word in members if "@transfer-" in word]
    assert len(transfers) == 4
    assert said["left_out"] == transfers
    assert asked[0].limit == 1000
    assert not set(transfers) & set(asked[0].settings)
    text = run(*words_of(place, tmp_path / "m", "--suite", "quick", "--limit", "7")).stdout
    assert text.count("not measured: give a --surrogate") == 4
    assert asked[1].limit == 7
    more = ("--suite", "quick", "--surrogate", "builtin:tiny-clip", "--json")
    assert json.loads(run(*words_of(place, tmp_path / "m", *more)).stdout)["left_out"] == []
    assert set(transfers) <= set(asked[2].settings)
    assert asked[2].surrogate.name == "builtin:tiny-clip"


def test_what_settings_are_made_of_is_listed() -> None:
    text = run("ls").stdout
    said = json.loads(run("ls", "--json").stdout)
    assert set(said["datasets"]) == set(ENTRIES)
    assert set(said["attacks"]) == set(ATTACKS)
    assert set(said["suites"]) == set(SUITES)
    assert set(CORRUPTIONS) < set(said["shifts"])
    for name in (*ENTRIES, *ATTACKS, *SUITES, *said["shifts"]):
        assert name in text


def test_overlap_says_each_setting_and_closes_with_a_sentence(finished: Path) -> None:
    said = json.loads(run("overlap", finished, "--json").stdout)
    assert [row["setting"] for row in said["settings"]] == sorted(SETTINGS)
    for row in said["settings"]:
        assert row["images"] == {"all": 16, "clean": 11, "overlap": 5, "control": 11}
    text = run("overlap", finished, "--adjust", "bonferroni").stdout
    assert len(text.splitlines()) == len(SETTINGS) + 1
    assert text.splitlines()[-1].endswith(".")
    assert "all - clean" in text


def test_overlap_without_a_split_says_what_to_do(place: Path, tmp_path: Path) -> None:
    run(*words_of(place, tmp_path / "m", "--setting", "mine"))
    with pytest.raises(CurateError, match="run the evaluation again with --split"):
        run("overlap", tmp_path)


def test_the_report_is_one_page_of_all_results(place: Path, split: str, finished: Path) -> None:
    page = json.loads(run("report", finished, "--split", split, "--json").stdout)["report"]
    text = (finished / "report" / "index.html").read_text()
    assert page == str(finished / "report" / "index.html")
    for word in SETTINGS:
        assert word in text
    assert "<img" in text  # adversarial examples
    assert 'src="http' not in text
    assert run("report", finished).stdout.strip() == page


def test_results_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    for command in ("report", "overlap"):
        with pytest.raises(CurateError, match="holds no results"):
            run(command, tmp_path)


def test_lines_are_fitted_to_a_table(tmp_path: Path) -> None:
    rows = "".join(f"m{n},{x},{x * 0.8 - 0.1}\n" for n, x in enumerate((0.5, 0.6, 0.7, 0.8)))
    (tmp_path / "table.csv").write_text(f"model,a,b\n{rows}")
    words: list[str | Path] = ["fit", tmp_path / "table.csv", "--pair", "a=b", "--out"]
    text = run(*words, tmp_path / "lines.json").stdout
    assert re.match(r"a -> b: slope \d\.\d{4} intercept \d\.\d{4} R2 [01]\.\d{3} n 4\n", text)
    said = json.loads(run(*words, tmp_path / "again.json", "--json").stdout)
    assert said["out"] == str(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "lines.json").read_bytes()
    with pytest.raises(CurateError, match="a=: X=Y was"):
        run("fit", tmp_path / "table.csv", "--pair", "a=", "--out", tmp_path / "x.json")


def test_prompts_are_found_and_measured_with(place: Path, tmp_path: Path) -> None:
    found = tmp_path / "prefixes.txt"
    words: list[str | Path] = [
        "prompts", "open_clip:local-dir", "--weights", place / "vit", "--data",
        f"mine={place}/set", "--steps", "6", "--candidates", "8", "--device", "cpu", "--json",
    ]  # fmt: skip
    said = json.loads(run(*words, "--out", found).stdout)
    assert said["accepted"]
    assert said["images"] == 16
    assert len(found.read_text().splitlines()) == len(said["accepted"])
    losses = [row["loss"] for row in said["accepted"]]
    assert all(loss > 0 for loss in losses)
    plain = words_of(place, tmp_path / "eval" / "plain", "--setting", "mine")
    auto = words_of(place, tmp_path / "eval" / "auto", "--setting", "mine", "--prefixes", found)
    run(*plain)
    for more in ((), ("--top", "1")):
        run(*auto[:-4], "--setting", "mine", "--prefixes", found, *more)
    run("report", tmp_path / "eval")  # the models have names of their own
    names = {
        json.loads(path.read_text())["model"] for path in (tmp_path / "eval").rglob("summary.json")
    }
    assert names == {"open_clip:local-dir (vit)", "open_clip:local-dir (vit) + prefixes.txt (1)"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--setting", "mein"], "did you mean 'mine'"),
        (["--setting", "mine@fgms"], "did you mean 'fgsm'"),
        (["--suite", "qick"], "did you mean 'quick'"),
        ([], "give --suite NAME or --setting WORD"),
        (["--setting", "mine@transfer-fgsm"], "name one with --surrogate"),
        (["--setting", "mine", "--split", "other=x"], "no --data of that name"),
        (["--setting", "mine", "--split", "mine"], "NAME=FOLDER was expected"),
        (["--setting", "mine", "--data", "mine=other"], "--data mine=other: mine was given before"),
        (["--setting", "mine", "--prefixes", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_wrong_words_are_told_with_a_remedy(
    place: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    with pytest.raises(CurateError, match=said):
        run(*words_of(place, tmp_path / "m", *more))


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--data", "none={place}/nowhere", "--setting", "none"], 2, "no such folder"),
        (["--data", "torn={place}/torn", "--setting", "torn"], 3, "is no image that can be used"),
        (["--setting", "mine", "--batch", "0"], 2, "equal to 1"),
        (["--setting", "mine", "--limit", "0"], 2, "equal to 1"),
    ],
)
def test_refusals_have_the_exit_codes_of_the_house(  # noqa: PLR0917
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    said: str,
) -> None:
    from evaluating import write_one

    if not (place / "torn").exists():
        write_one(place / "torn", {"torn": b"no picture"})
    words = words_of(place, tmp_path / "m", *(part.format(place=place) for part in more))
    monkeypatch.setattr(sys, "argv", ["curate", "eval", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == code
    assert said in capsys.readouterr().err


def test_export_writes_what_run_reads(tmp_path: Path) -> None:
    write_test_set(tmp_path / "set", 5)
    run("export", f"mine={tmp_path / 'set'}", "--out", tmp_path / "wds")
    first, again = (open_evalset("mine", tmp_path / name) for name in ("set", "wds"))
    assert again.classes == first.classes
    assert again.items["label"].to_list() == first.items["label"].to_list()
