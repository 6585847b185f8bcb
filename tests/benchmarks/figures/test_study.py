"""What is said of the study follows its results, whichever way they point."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.figures.results import Results
from benchmarks.figures.tables import study, study_drawing


def rate(value: float, total: int) -> dict[str, Any]:
    return {"hits": round(value * total), "total": total, "value": value,
            "low": value - 0.01, "high": value + 0.01}  # fmt: skip


def row(model: str, setting: str, change: float, p: float, total: int = 1_000) -> dict[str, Any]:
    return {
        "model": model, "setting": setting, "full": rate(0.9, total),
        "clean": rate(0.9 - change, total - 60), "overlap": rate(0.95, 60),
        "control": rate(0.9, total - 60),
        "change": {"value": change, "low": change - 0.001, "high": change + 0.001},
        "p": p, "p_adjusted": p, "visible": 0.004,
        "random_removal": {"mean": 0.0, "low": -0.002, "high": 0.002, "p": p, "draws": 100},
    }  # fmt: skip


def difference(value: float, by_images: float, by_seeds: float) -> dict[str, float]:
    return {
        "value": value, "images_low": value - by_images, "images_high": value + by_images,
        "seeds_low": value - by_seeds, "seeds_high": value + by_seeds, "seeds_p": 0.5,
    }  # fmt: skip


def results(folder: Path, **changes: Any) -> Results:
    """A study with made-up figures."""
    change, p = changes.get("change", 0.006), changes.get("p", 0.001)
    apart = changes.get("apart", difference(0.03, 0.01, 0.02))
    accuracy = [
        row("builtin:tiny-clip", "cifar10", change, p),
        row("tecoa", "cifar10@pgd-20.eps4.native", change, p),
        row("builtin:tiny-clip", "cifar10.fog.5", 2 * change, p, total=100),
        row("all-seed-0", "cifar10", change, p),
    ]
    arms = {arm: {"images": 60, "seeds": [0.9, 0.91, 0.92], "mean": 0.91}
            for arm in ("all", "without", "control")}  # fmt: skip
    moved = {"value": 0.001, "low": -0.002, "high": changes.get("high", 0.002)}
    whole = {
        "command": "c", "machine": "m", "date": "d", "accuracy": accuracy,
        "detection": {
            "counts": {"copies": {"in": 1_000, "overlap": 60}, "leaks": {"overlap": 80}},
            "listed": 20,
        },
        "memory": {
            "accuracy": {"overlap": arms, "clean": arms},
            "difference": {
                name: {"overlap": apart, "clean": difference(0, 0.1, 0.1)}
                for name in ("all less without", "all less control")
            },
        },
        "effective": {"rows": [{"model": "tecoa", "setting": "cifar10.fog.3", "change": moved}]},
    }  # fmt: skip
    (folder / "cifar10-study.json").write_text(json.dumps(whole), "utf-8")
    return Results(folder)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.001, "(significant, and random removal does not move it as much)"),
        (0.4, "(not significant, and random removal does move it as much)"),
    ],
)
def test_the_finding_says_what_is_significant(tmp_path: Path, p: float, words: str) -> None:
    said = in_one_line(study.study_finding(results(tmp_path, p=p)))
    assert "60 images (6.0 %) with a near-duplicate in its training set" in said
    assert f"from 90.0 % to 89.4 % {words}" in said
    assert in_one_line(study.study_short(results(tmp_path, p=p))) == said


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        (difference(0.03, 0.01, 0.02), "is significant, with other images and with other seeds"),
        (difference(0.03, 0.01, 0.05), "is significant for these models, but not with other seeds"),
        (difference(0.003, 0.01, 0.05), "is not significant"),
    ],
)
def test_memory_is_told_by_images_and_by_seeds(
    tmp_path: Path, apart: dict[str, float], words: str
) -> None:
    said = in_one_line(study.study_memory_words(results(tmp_path, apart=apart)))
    assert f"adds {100 * apart['value']:+.2f} points" in said
    assert words in said
    assert words in in_one_line(study.study_finding(results(tmp_path, apart=apart)))


def test_models_that_gain_by_forgetting_are_said_to_gain(tmp_path: Path) -> None:
    found = results(tmp_path, apart=difference(-0.03, 0.01, 0.02))
    assert "training images gain 3.00 points" in in_one_line(study.study_finding(found))


def test_the_suite_is_counted_without_what_was_measured_whole(tmp_path: Path) -> None:
    said = in_one_line(study.study_suite_words(results(tmp_path)))
    assert said.startswith("1 results on 100 images, 60 of which overlap.")
    assert "1 of the differences is significant" in said
    assert "1 of these are further than random removal goes" in said
    quiet = in_one_line(study.study_suite_words(results(tmp_path, p=0.9)))
    assert "0 of the differences are significant" in quiet


def test_a_run_without_the_suite_says_so(tmp_path: Path) -> None:
    found = results(tmp_path)
    accuracy = found["cifar10-study"]["accuracy"]
    accuracy[:] = [row for row in accuracy if row["setting"] != "cifar10.fog.5"]
    assert study.study_suite(found) == study.study_suite_words(found)
    assert study.study_suite(found) == "The suite was left out of this run."


def test_effective_robustness_that_moves_is_told_from_what_does_not(tmp_path: Path) -> None:
    still = in_one_line(study.study_effective_words(results(tmp_path)))
    assert "none of the changes is told from zero" in still
    moved = results(tmp_path, high=-0.0005)
    assert "1 of 1 changes are told from zero" in study.study_effective_words(moved)


def test_the_picture_has_a_row_for_each_result_on_all_images(tmp_path: Path) -> None:
    drawn = ET.fromstring(study_drawing.changes(results(tmp_path)))
    texts = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("cifar10") == 1
    assert "cifar10@pgd-20.eps4.native" in texts
    assert "cifar10.fog.5" not in texts
