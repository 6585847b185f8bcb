import pytest

from eval.settings import parse_setting
from eval.suites import SUITES, settings_of
from pipelines.planning.effort import passes


def of(word: str) -> float:
    return passes(parse_setting(f"photos{word}", ["photos"]))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", 1),
        (".fog.3", 1),
        (".sequence-tilt", 32),
        ("@pgd-20", 1 + 20 * 3),
        ("@pgd-20x5", 1 + 5 * 20 * 3),
        ("@pgd-targeted-10", 1 + 9 * 10 * 3),
        ("@fgsm", 1 + 3),
        ("@noise", 1 + 10),
        ("@apgd-ce", 1 + 300),
        ("@autoattack", 1 + 300 + 2700 + 2700 + 5000),
    ],
)
def test_passes_of_an_image(word: str, expected: float) -> None:
    assert of(word) == expected


def test_an_estimated_gradient_takes_a_pass_for_each_score() -> None:
    assert of("@nes-5") < of("@nes")
    assert (of("@nes") - 1) % 100 == 0


def test_every_setting_of_every_suite_has_a_number_of_passes() -> None:
    for suite in SUITES.values():
        for setting in settings_of(suite, "imagenet"):
            assert passes(setting) >= 1
