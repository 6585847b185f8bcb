"""docs/tutorial.md from its first command to its last, and what that leaves."""

import re
from pathlib import Path

import polars as pl
import pytest
from markdown import ROOT
from tutorial import Step, differs, played, steps

SCORES, POINTS = 0.02, 6.0
"""How far scores, and accuracies of a model that was trained meanwhile, may be from what is shown;
another processor gives other last bits."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def told(folder: Path) -> list[tuple[Step, str]]:
    pytest.importorskip("img2dataset")
    return list(played(folder))


def test_the_page_goes_the_whole_way() -> None:
    words = [" ".join(step.command.split()[:2]) for step in steps()]
    way = ("download", "dedup", "calibrate", "review", "split", "verify", "train", "eval")
    assert [word for word in words if word == "curate dedup"] == ["curate dedup"] * 2
    places = [words.index(f"curate {name}") for name in way]
    assert places == sorted(places)


def test_what_is_told_otherwise_is_seen() -> None:
    assert differs("20 of 100", "20 of 100", 0) is None
    assert differs("at 0.075 found", "at 0.08 found", SCORES) is None
    assert differs("20 of 100", "19 of 100", SCORES)
    assert differs("split a", "split b", POINTS)
    assert differs("one line", "one line\nand more", POINTS)


@pytest.mark.slow
def test_every_command_prints_what_the_page_shows(told: list[tuple[Step, str]]) -> None:
    for step, now in told:
        is_measured = step.command.startswith("curate eval")
        shown = step.shown
        if step.command.startswith("curate eval overlap"):  # the sentence hangs on all of it
            shown, now = (text.rpartition("\n")[0] for text in (shown, now))  # noqa: PLW2901
        assert differs(shown, now, POINTS if is_measured else SCORES) is None, step.command


@pytest.mark.slow
def test_just_the_planted_copies_are_removed(folder: Path, told: list[tuple[Step, str]]) -> None:
    assert told
    planted = set(pl.read_csv(folder / "practice" / "answer.csv")["test_id"])
    for split in sorted((folder / "run" / "splits").glob("patterns-at-*")):
        assert set((split / "overlap_ids.txt").read_text().split()) == planted


@pytest.mark.slow
def test_every_file_that_is_left_is_documented(folder: Path, told: list[tuple[Step, str]]) -> None:
    assert told
    page = re.sub(r"\d+", "0", (ROOT / "docs" / "formats.md").read_text("utf-8"))
    left = [*(folder / "photos").rglob("*"), *(folder / "run").rglob("*")]
    members = re.compile(r"/splits/[^/]+/clean/|\.lock$|events\.out")
    names = {path.name for path in left if path.is_file() and not members.search(str(path))}
    assert len(names) > 40
    for name in sorted(names):
        assert re.sub(r"\d+", "0", name.replace("anna", "REVIEWER")) in page, name
