import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.flow.reading import shipped_flows


def curate(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def out(tmp_path: Path) -> str:
    return f"out={tmp_path / 'study'}"


def test_the_demo_is_planned_before_it_is_drawn(tmp_path: Path) -> None:
    text = curate("plan", "demo", "--set", out(tmp_path))
    assert "set pictures-train: 1,500 samples" in text
    assert "dedup/copies" in text
    assert "on this process" in text
    assert not list(tmp_path.iterdir())


def test_a_dry_run_prints_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "study"
    text = curate("run", "demo", "--out", str(path), "--dry-run")
    assert text == curate("plan", "demo", "--set", f"out={path}")
    assert not path.exists()


def test_the_full_study_is_planned_without_its_data(tmp_path: Path) -> None:
    words = ["plan", "imagenet-laion", "--price", "gpu-hour=2", "--json", "--set", out(tmp_path)]
    found = json.loads(curate(*words))
    steps = {one["name"]: one for one in found["steps"]}
    assert steps["dedup/web"]["units"] >= 41_408
    assert steps["dedup/web"]["read_bytes"] >= 11e12
    assert found["money"]["held"] > 0
    assert {"gpu.peak", "gpu.utilisation"} <= set(found["assumed"])
    assert found["critical_path"][-1] == "report"


def test_more_machines_take_less_time(tmp_path: Path) -> None:
    few, many = (
        json.loads(curate("plan", "imagenet-laion", "--workers", str(n), "--gpus", str(n),
                          "--json", "--set", out(tmp_path)))["seconds"]
        for n in (8, 64)
    )  # fmt: skip
    assert few > 2 * many


def test_rates_of_a_file_count_more_than_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    path.write_text('{"step.report": 1e6}')
    words = ["plan", "demo", "--json", "--set", out(tmp_path)]
    assert json.loads(curate(*words, "--rates", str(path)))["seconds"] > 1e6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--price", "gpu=1"], "--price gpu=1"),
        (["--rates", "nowhere.json"], "nowhere.json"),
        (["--measured", "nowhere"], "no flow was run there"),
        (["--gpus", "3", "--workers", "2"], "--gpus 3"),
    ],
)
def test_wrong_words_are_named(tmp_path: Path, words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["plan", "demo", "--set", out(tmp_path), *words])
    assert message in str(result.exception)


def test_all_shipped_flows_can_be_read() -> None:
    assert shipped_flows() == ["cifar10", "demo", "imagenet-laion"]
