"""The demonstration, whole, by its command."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from curate.files import read_json
from pipelines.cli import app


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "demo"


def demo(out: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["demo", "--out", str(out), "--seed", "77", *options])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def found(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(demo(out, "--json"))
    return values


@pytest.mark.slow
def test_the_default_detector_finds_what_was_planted_and_little_else(
    found: dict[str, Any],
) -> None:
    assert found["summary"]["in"] == 400
    assert found["summary"]["unknown"] == 6
    assert (found["score"]["planted"], found["score"]["found"] >= 58) == (60, True)
    assert len(found["score"]["wrongly_flagged"]) <= 5


@pytest.mark.slow
def test_both_test_sets_are_split_and_no_drawing_is_a_copy(
    found: dict[str, Any], out: Path
) -> None:
    splits = {one["name"]: one for one in read_json(out / "report" / "report.json")["splits"]}
    assert set(splits) == {"dedup/copies", "dedup/drawings", "dedup/leaks"}
    assert splits["dedup/drawings"]["in"] == 200
    assert splits["dedup/drawings"]["overlap"] <= 2
    assert splits["dedup/leaks"]["overlap"] >= 55, "most originals of the copies are taken out"


@pytest.mark.slow
def test_the_finding_is_that_of_the_numbers(found: dict[str, Any], out: Path) -> None:
    rows = read_json(out / "overlap" / "overlap.json")["settings"]
    finding = found["finding"]
    assert finding["result"] in rows
    assert finding["against"] in rows
    change = 100 * (finding["result"]["all"] - finding["result"]["clean"])
    assert f"{abs(change):.2f} points" in finding["sentence"]
    assert ("not significant" in finding["sentence"].split(";")[0]) != finding["significant"]


@pytest.mark.slow
def test_models_learn_the_classes_and_drawings_are_harder(found: dict[str, Any], out: Path) -> None:
    rows = {(row["model"], row["setting"]): row
            for row in read_json(out / "overlap" / "overlap.json")["settings"]}  # fmt: skip
    for model in ("tecoa-on-all", "tecoa-on-clean"):
        plain, drawn = rows[model, "pictures"], rows[model, "drawings"]
        attacked = rows[model, "pictures@pgd-10.eps1.input"]
        assert plain["clean"] > 0.4, "of 23 classes"
        assert drawn["clean"] < plain["clean"] - 0.1
        assert 0.2 < attacked["clean"] < plain["clean"]


@pytest.mark.slow
def test_a_second_run_does_nothing_and_says_the_same(found: dict[str, Any], out: Path) -> None:
    pages = [out / "report" / "index.html", out / "dedup" / "copies" / "report" / "index.html"]
    before = [page.stat().st_mtime_ns for page in pages]
    lines = demo(out).rstrip("\n").split("\n")
    assert [page.stat().st_mtime_ns for page in pages] == before
    assert "test images, at score of aligned pixels >= 0.5" in lines[0]
    assert lines[-2] == f"report  {out / 'report' / 'index.html'}"
    assert lines[-1] == found["finding"]["sentence"]
