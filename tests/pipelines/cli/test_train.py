import json
from pathlib import Path
from typing import Any

import pytest
from pictures import encoded, picture, write_shard
from small_clips import write_clip
from typer.testing import CliRunner

from curate.errors import CurateError
from pipelines.cli import app
from train.recipe import recipe_names


def run(*words: str | Path) -> Any:
    result = CliRunner().invoke(app, ["train", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_recipes_are_listed_with_what_they_are() -> None:
    shown = run("--list").stdout
    for name in recipe_names():
        assert name in shown
    assert json.loads(run("--list", "--json").stdout) == {"recipes": recipe_names()}


def test_a_run_tells_its_figures_to_people_and_machines(tmp_path: Path) -> None:
    samples = [
        (f"s{n}", {"png": encoded(picture(n)), "cls": ("cat", "dog")[n % 2].encode()})
        for n in range(20)
    ]
    write_shard(tmp_path / "data" / "0.tar", samples)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    words: list[str | Path] = [
        tmp_path / "data", "--model", "open_clip:local-dir", "--classes", tmp_path / "classes.txt",
        "--weights", write_clip("resnet", tmp_path / "resnet"), "--out", tmp_path / "out",
        "--device", "cpu", "--workers", "0", "--set", "updates=2", "--set", "epochs=null",
        "--set", "batch=4", "--set", "held_out=8", "--set", "measured.steps=1",
        "--interpolate", "0:1:1",
    ]  # fmt: skip
    text = run(*words).stdout
    assert "2 updates on 12 samples of data" in text
    assert "(best mean)" in text
    facts = json.loads(run(*words, "--json").stdout)
    assert facts["classes"] == ["dog", "cat"]
    assert facts == json.loads((tmp_path / "out" / "train.json").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give what to train on, and --out"),
        (["x", "--out", "y", "--recipe", "tecoa"], "choose from .*tecoa_ft"),
        (["x", "--out", "y", "--set", "eps"], "NAME=VALUE was expected"),
        (["x", "--out", "y", "--set", "a=[1"], "is no value"),
        (["x", "--out", "y", "--set", "a=2020-99-99"], "is no value"),
        (["x", "--out", "y", "--classes", "nowhere.txt"], "nowhere.txt: not readable"),
        (["x", "--out", "y", "--interpolate", "2:3:1"], "FIRST:LAST:STEP"),
        (["nowhere.tar", "--out", "y"], "nowhere.tar"),
    ],
)
def test_wrong_words_are_told_with_a_remedy(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CurateError, match=said):
        run(*words, "--model", "builtin:tiny-clip")
    assert list(tmp_path.iterdir()) == [] or said == "nowhere.tar"
