"""What is said of the study follows its results, whichever way they point."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from studying import difference, in_one_line, results

from benchmarks.figures.tables import study, study_drawing


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
    assert (
        "3 of the 5 seeds came first; with them the interval over seeds is -2.00 to +8.00" in said
    )
    assert words in said
    assert words in in_one_line(study.study_finding(results(tmp_path, apart=apart)))


def test_models_that_gain_by_forgetting_are_said_to_gain(tmp_path: Path) -> None:
    found = results(tmp_path, apart=difference(-0.03, 0.01, 0.02))
    assert "training images gain 3.00 points" in in_one_line(study.study_finding(found))


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
