"""A setting's folder: rows and figures are written whole, and read as they were."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sample_rows import rows

from curate.errors import CurateError
from eval.figures import metrics
from eval.records import read_samples
from eval.results import (
    ROWS,
    Result,
    read_result,
    read_results,
    summarise,
    summary_rows,
    write_result,
)
from eval.settings import Aim, Setting

if TYPE_CHECKING:
    from pathlib import Path

ATTACKED = Setting("cifar10", "fog", 3, Aim("pgd-20", 4, "native"))


def result(setting: Setting = ATTACKED, model: str = "open_clip:ViT-B-32/openai") -> Result:
    frame = rows(
        [True, False], clean_pred=[0, 0], split=["clean", "overlap"], control=[True, False]
    )
    return Result(model, setting, {"norm": "linf", "seed": 0}, frame)


def test_a_result_comes_back_from_its_folder(tmp_path: Path) -> None:
    write_result(tmp_path / "x", result())
    again = read_result(tmp_path / "x")
    assert (again.model, again.setting, again.facts) == (
        "open_clip:ViT-B-32/openai", ATTACKED, {"norm": "linf", "seed": 0},
    )  # fmt: skip
    assert again.samples.equals(result().samples)
    assert again.norm == "linf"


def test_a_summary_has_figures_of_every_split() -> None:
    said = summarise(result())
    assert said["word"] == "cifar10.fog.3@pgd-20.eps4.native"
    accuracies = {name: row["accuracy"]["value"] for name, row in said["numbers"].items()}
    assert accuracies == {"full": 0.5, "clean": 1.0, "overlap": 0.0, "control": 1.0}
    assert said["numbers"]["full"]["attack_success"]["hits"] == 1
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_what_does_not_apply_is_left_out() -> None:
    plain = Result("net", Setting("cifar10"), {}, rows([True]))
    assert set(summarise(plain)["numbers"]) == {"full"}
    assert set(summarise(plain)["numbers"]["full"]) == {"accuracy", "mean_per_class_recall"}
    typed = Result("net", Setting("cifar10", "typographic"), {}, rows([True], word=[3]))
    assert "typed_word" in summarise(typed)["numbers"]["full"]
    frames = Result("net", Setting("p", "tilt"), {}, rows([True], comparisons=[30], flips=[3]))
    assert summarise(frames)["numbers"]["full"]["flip_rate"]["value"] == pytest.approx(0.1)


def test_medians_are_those_of_attacks_for_the_least_perturbation() -> None:
    frame = rows([True, False], clean_pred=[0, 0], linf=[float("inf"), 2.0], l2=[float("inf"), 0.1])
    found = Result("net", Setting("a", attack=Aim("deepfool", 4, "native")), {}, frame)
    median = summarise(found)["numbers"]["full"]["median"]["linf"]
    assert (median["value"], median["unbroken"]) == (None, 1)
    assert "median" not in summarise(result())["numbers"]["full"]


def test_a_setting_of_one_split_has_figures_of_its_rows_alone() -> None:
    only = result(Setting("cifar10", split="clean"))
    assert set(summarise(only)["numbers"]) == {"full"}


def test_a_split_without_control_has_no_figures_of_one() -> None:
    frame = rows([True, False], split=["clean", "overlap"])
    assert set(summarise(Result("net", Setting("a"), {}, frame))["numbers"]) == {
        "full", "clean", "overlap",
    }  # fmt: skip


def test_all_results_below_a_folder_are_found_in_order(tmp_path: Path) -> None:
    for name, setting in (("b", Setting("stl10")), ("a", ATTACKED)):
        write_result(tmp_path / "net" / name, result(setting))
    (tmp_path / "net" / "unfinished").mkdir()
    assert [str(found.setting) for found in read_results(tmp_path)] == [str(ATTACKED), "stl10"]
    chosen = [tmp_path / "net" / name for name in ("b", "a", "unfinished")]
    assert [str(found.setting) for found in read_results(tmp_path, chosen)] == [
        "stl10", str(ATTACKED),
    ]  # fmt: skip
    write_result(tmp_path / "again", result(Setting("stl10")))
    with pytest.raises(CurateError, match="two results of open_clip:ViT-B-32/openai on stl10"):
        read_results(tmp_path)


def test_folders_that_hold_no_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="holds no results"):
        read_results(tmp_path)
    write_result(tmp_path, result())
    path = tmp_path / "summary.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "format": 2}))
    with pytest.raises(CurateError, match="format 2, not 1"):
        read_result(tmp_path)
    path.write_text(json.dumps({**said, "setting": {"colour": "red", "attack": None}}))
    with pytest.raises(CurateError, match=r"summary\.json: not the summary of a setting"):
        read_result(tmp_path)


def test_columns_are_those_of_clip_benchmark() -> None:
    (row,) = summary_rows([result()])
    stated = ["acc1", "acc5", "mean_per_class_recall", "dataset", "model", "pretrained", "task"]
    assert list(row)[:7] == stated
    assert row["model_fullname"] == "ViT-B-32 openai"
    assert (row["dataset"], row["attack"], row["eps"]) == ("cifar10.fog.3", "pgd-20", 4)
    assert (row["acc1"], row["acc5"], row["n"]) == (0.5, None, 2)
    (other,) = summary_rows([result(Setting("cifar10", split="clean"), "builtin:tiny-clip")])
    assert (other["model"], other["pretrained"]) == ("builtin:tiny-clip", "")
    assert (other["dataset"], other["attack"], other["norm"]) == ("cifar10#clean", "none", None)


def test_anchors_of_pm10_count_with_their_worst_frame(tmp_path: Path) -> None:
    samples = rows([True, True, True, False], group=["a", "a", "b", "b"])
    for variant, right in (("pm10", 0.5), ("pm0", 0.75)):
        result = Result("m", Setting("imagenet-vid-robust", variant), {}, samples)
        assert summarise(result)["numbers"]["full"]["accuracy"]["value"] == right
        write_result(tmp_path / variant, result)
        assert metrics.accuracy(read_result(tmp_path / variant).samples).value == right
        assert read_samples(tmp_path / variant / ROWS).height == 4
