"""What is said of many settings at once: means of the field, and one model beside another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from sample_rows import flags, rows, split_rows

from curate.errors import CurateError
from eval.datasets.registry import TECOA
from eval.results import Result, write_result
from eval.settings import parse_setting
from eval.shifts.registry import COMMON, PERTURBATIONS, SEVERITIES
from pipelines.evaluation.overlap import overlap_of
from pipelines.evaluation.summary import summarise_all

if TYPE_CHECKING:
    from pathlib import Path


def store(root: Path, model: str, word: str, samples: pl.DataFrame) -> None:
    setting = parse_setting(word, [*TECOA, "imagenet-c", "mine"])
    write_result(root / model / word, Result(model, setting, {}, samples))


def right(share: float) -> pl.DataFrame:
    return rows(flags(round(20 * share), 20 - round(20 * share)))


def test_mean_errors_are_divided_by_those_of_the_base(tmp_path: Path) -> None:
    for model, share in (("a", 0.5), ("b", 0.8)):
        for name in COMMON:
            for severity in SEVERITIES:
                store(tmp_path, model, f"mine.{name}.{severity}", right(share))
    found = summarise_all(tmp_path, "a", None)["models"]
    assert found["b"]["corruptions"]["mine"]["mean_error"] == pytest.approx(0.2)
    assert found["b"]["corruptions"]["mine"]["mce"] == pytest.approx(0.4)
    assert found["a"]["corruptions"]["mine"]["mce"] == pytest.approx(1)
    alone = summarise_all(tmp_path, None, None)["models"]
    assert alone["b"]["corruptions"]["mine"]["mce"] is None


def test_of_the_published_corruptions_the_reference_is_alexnet(tmp_path: Path) -> None:
    for name in COMMON:
        for severity in SEVERITIES:
            store(tmp_path, "a", f"imagenet-c.{name}.{severity}", right(0))
    mce = summarise_all(tmp_path, None, None)["models"]["a"]["corruptions"]["imagenet-c"]["mce"]
    assert 1.1 < mce < 1.4  # AlexNet errs on 0.74 to 0.94 of them


def test_a_corruption_that_lacks_gives_no_mean(tmp_path: Path) -> None:
    for name in COMMON:
        for severity in SEVERITIES:
            if (name, severity) != ("fog", 3):
                store(tmp_path, "a", f"mine.{name}.{severity}", right(0.5))
    assert summarise_all(tmp_path, None, None)["models"]["a"]["corruptions"] == {}


def test_flip_rates_are_means_over_kinds(tmp_path: Path) -> None:
    for model, flips in (("a", 10), ("b", 5)):
        for kind in PERTURBATIONS:
            samples = rows(flags(4, 0), flips=[flips] * 4, comparisons=[20] * 4)
            store(tmp_path, model, f"mine.sequence-{kind}", samples)
    found = summarise_all(tmp_path, "a", None)["models"]["b"]["sequences"]["mine"]
    assert found == {"mean_flip_rate": pytest.approx(0.25), "mfr": pytest.approx(0.5)}


def test_tecoas_means_are_over_sixteen_fifteen_and_fourteen_sets(tmp_path: Path) -> None:
    for name in TECOA:
        share = {"hateful-memes": 1.0, "pcam": 0.0}.get(name, 0.5)
        store(tmp_path, "a", name, right(share))
        if name != "pcam":
            store(tmp_path, "a", f"{name}@pgd-100.eps1.native", right(share))
    means = summarise_all(tmp_path, None, None)["models"]["a"]["means"]
    assert set(means) == {"clean"}  # one set lacks under attack
    values = {count: mean["value"] for count, mean in means["clean"].items()}
    assert values == {
        "16": pytest.approx(0.5), "15": pytest.approx(7 / 15), "14": pytest.approx(0.5),
    }  # fmt: skip


def test_relative_robustness_is_that_of_the_same_images(tmp_path: Path) -> None:
    store(tmp_path, "a", "mine", right(0.5))
    store(tmp_path, "b", "mine", right(0.75))
    store(tmp_path, "b", "mine.typographic", right(0.75))
    found = summarise_all(tmp_path, "a", None)["models"]
    assert found["a"]["relative"] == {}
    assert set(found["b"]["relative"]) == {"mine"}
    change = found["b"]["relative"]["mine"]
    assert change["value"] == pytest.approx(0.25)
    assert change["low"] < 0.25 < change["high"]


def test_all_results_are_written_under_clip_benchmarks_names(tmp_path: Path) -> None:
    store(tmp_path, "open_clip:ViT-B-32/openai", "mine", right(0.5))
    summarise_all(tmp_path, None, tmp_path / "all.csv")
    (row,) = pl.read_csv(tmp_path / "all.csv").to_dicts()
    assert (row["acc1"], row["dataset"]) == (0.5, "mine")
    assert (row["model"], row["pretrained"]) == ("ViT-B-32", "openai")


def test_an_unknown_base_is_refused_with_the_nearest(tmp_path: Path) -> None:
    store(tmp_path, "tecoa", "mine", right(0.5))
    with pytest.raises(CurateError, match="did you mean 'tecoa'"):
        summarise_all(tmp_path, "tecao", None)


def test_overlap_compares_what_was_joined_with_a_split(tmp_path: Path) -> None:
    store(tmp_path, "a", "mine", split_rows((60, 40), (20, 0)))
    store(tmp_path, "a", "mine.typographic", right(0.5))
    store(tmp_path, "a", "mine#clean", split_rows((60, 40), (0, 0)))
    found = overlap_of(tmp_path)
    (row,) = found["settings"]
    assert (row["setting"], row["all"]) == ("mine", pytest.approx(80 / 120))
    assert row["change"]["value"] == pytest.approx(80 / 120 - 0.6)
    assert row["p_adjusted"] == row["p"]
    assert "accuracy is 6.67 points higher" in found["sentence"]


def test_without_a_split_there_is_nothing_to_compare(tmp_path: Path) -> None:
    store(tmp_path, "a", "mine", right(0.5))
    with pytest.raises(CurateError, match="--split NAME=FOLDER"):
        overlap_of(tmp_path)
