import pytest

from eval.settings import parse_setting
from eval.suites import SUITES, settings_of
from pipelines.planning.effort import Stamina, passes

TIRELESS = Stamina(half=1e9, fall=0.1)
"""Images of such a model withstand everything."""


def of(word: str, stamina: Stamina = TIRELESS) -> float:
    return passes(parse_setting(f"photos{word}", ["photos"]), stamina)


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
    assert of(word) == pytest.approx(expected)


def test_half_of_the_images_withstand_their_radius() -> None:
    stamina = Stamina(half=4, fall=0.1)
    assert stamina.withstand(4) == 0.5
    assert stamina.withstand(0) == 1
    assert stamina.withstand(1) > 0.8
    assert stamina.withstand(8) < 0.3
    assert stamina.share(4) == pytest.approx(0.5 + 0.5 * 0.1)


def test_images_that_do_not_withstand_leave_an_attack_that_sees_gradients() -> None:
    weak = Stamina(half=0.1, fall=0.1)
    assert of("@pgd-20.eps8", weak) == pytest.approx(1 + 6)
    assert of("@autoattack.eps8", weak) == pytest.approx(1 + 30)  # nothing is left for the others


@pytest.mark.parametrize("word", ["@fgsm", "@noise", "@transfer-bim", "@nes-5", "@deepfool"])
def test_other_attacks_are_counted_in_full(word: str) -> None:
    assert of(word, Stamina(half=0.1, fall=0.1)) == pytest.approx(of(word))


def test_an_estimated_gradient_takes_a_pass_for_each_score() -> None:
    assert of("@nes-5") < of("@nes")
    assert (of("@nes") - 1) % 100 == 0


def test_every_setting_of_every_suite_has_a_number_of_passes() -> None:
    for suite in SUITES.values():
        for setting in settings_of(suite, "imagenet"):
            assert passes(setting, TIRELESS) >= 1
