"""The suite is told by kinds, and counted without what was measured on all images."""

from pathlib import Path

from studying import in_one_line, results, row

from benchmarks.figures.results import Results
from benchmarks.figures.tables import study_suite


def with_suite(folder: Path) -> Results:
    """Both models with two corruptions of a severity, a sequence and an attack."""
    found = results(folder)
    settings = {"fog.5": 0.02, "snow.5": 0.04, "sequence-tilt": 0.0, "fgsm": -0.01}
    found["cifar10-study"]["accuracy"][:] = [
        row(model, f"cifar10@{name}" if name == "fgsm" else f"cifar10.{name}", change, 0.9)
        for model in ("builtin:tiny-clip", "tecoa")
        for name, change in settings.items()
    ]
    return found


def test_settings_of_a_kind_are_one_row_with_their_mean(tmp_path: Path) -> None:
    lines = study_suite.study_suite(with_suite(tmp_path)).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:2] for row in cells] == [
        ["corruptions, severity 5", "2"],
        ["sequences", "1"],
        ["`cifar10@fgsm`", "1"],
    ]
    assert cells[0][2:] == ["90.0 %", "87.0 %", "+3.00"] * 2
    assert cells[2][2:] == ["90.0 %", "91.0 %", "-1.00"] * 2


def test_the_suite_is_counted_without_what_was_measured_whole(tmp_path: Path) -> None:
    said = in_one_line(study_suite.study_suite_words(results(tmp_path)))
    assert said.startswith("1 results on 100 images, 60 of which overlap.")
    assert "1 of the differences is significant" in said
    assert "all of these are further than random removal goes" in said
    quiet = in_one_line(study_suite.study_suite_words(results(tmp_path, p=0.9)))
    assert "0 of the differences are significant" in quiet


def test_the_largest_moves_are_of_either_sign(tmp_path: Path) -> None:
    found = results(tmp_path)
    accuracy = found["cifar10-study"]["accuracy"]
    accuracy.append(row("tecoa", "cifar10.snow.5", -0.05, 0.9, total=100))
    first, second = study_suite.study_suite_largest(found).splitlines()[2:]
    assert "`cifar10.snow.5`" in first
    assert "`cifar10.fog.5`" in second
