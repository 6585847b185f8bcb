"""Every setting of every suite exists, once, and can be asked for on every data set."""

from __future__ import annotations

import pytest

from curate.errors import CurateError
from eval.attacks.registry import ATTACKS, find_attack
from eval.datasets.registry import ENTRIES, TECOA
from eval.settings import Setting, parse_setting
from eval.shifts.registry import CORRUPTIONS, PERTURBATIONS
from eval.suites import SHIFTED, SUITES, find_suite, settings_of


def words(suite: str, dataset: str) -> list[str]:
    return [str(setting) for setting in settings_of(find_suite(suite), dataset)]


def attacks(suite: str, dataset: str = "cifar10") -> list[tuple[str, float, str]]:
    aims = [setting.attack for setting in settings_of(find_suite(suite), dataset)]
    return [(aim.name, aim.eps, aim.at) for aim in aims if aim is not None]


@pytest.mark.parametrize("dataset", [*ENTRIES, "mine"])
@pytest.mark.parametrize("suite", list(SUITES))
def test_settings_are_words_that_can_be_read_and_none_is_there_twice(
    suite: str, dataset: str
) -> None:
    found = words(suite, dataset)
    assert found
    assert len(set(found)) == len(found)
    for word, setting in zip(found, settings_of(find_suite(suite), dataset), strict=True):
        assert parse_setting(word, [dataset]) == setting


@pytest.mark.parametrize("suite", list(SUITES))
def test_every_attack_exists_at_its_radius_and_norm(suite: str) -> None:
    for setting in settings_of(find_suite(suite), "mine"):
        if setting.attack is not None:
            attack = find_attack(
                setting.attack.name, eps=setting.attack.eps, norm=setting.attack.norm
            )
            assert attack.facts()["eps"] == setting.attack.eps


def test_roz_has_its_eleven_attacks_at_eight_of_the_models_input() -> None:
    eleven = {
        "fgsm", "bim", "mim", "dim", "deepfool", "transfer-fgsm", "transfer-bim", "transfer-mim",
        "transfer-dim", "nes", "spsa",
    }  # fmt: skip
    assert eleven <= {name for name, eps, at in attacks("roz") if (eps, at) == (8, "input")}
    assert {"noise", "pgd-100", "autoattack"} <= {name for name, _, _ in attacks("roz")}
    assert ("cw-l2", 128, "input") in attacks("roz")


def test_shifts_are_all_corruptions_sequences_and_typographic() -> None:
    for suite in ("roz", "quick"):
        found = words(suite, "cifar10")
        assert found[0] == "cifar10"
        graded = [f"cifar10.{name}.{level}" for name in CORRUPTIONS for level in range(1, 6)]
        assert len(graded) == 95
        assert set(graded) <= set(found)
        assert {f"cifar10.sequence-{kind}" for kind in PERTURBATIONS} <= set(found)
        assert "cifar10.typographic" in found
    assert not [word for word in words("tecoa", "cifar10") if "." in word.partition("@")[0]]


def test_tecoa_attacks_at_one_and_four_of_the_stored_images() -> None:
    names = {"noise", "tecoa-pgd-100", "pgd-100", "cw-margin-100", "apgd-ce+dlr"}
    assert set(attacks("tecoa")) == {(name, eps, "native") for name in names for eps in (1, 4)}


def test_quick_is_small_and_has_every_kind_of_attack() -> None:
    assert find_suite("quick").limit == 1000
    stems = {name.partition("-")[0] for name, _, _ in attacks("quick")}
    assert {"noise", "fgsm", "bim", "mim", "dim", "deepfool", "transfer", "nes", "spsa", "pgd"} <= (
        stems
    )
    assert {"fmn", "apgd", "autoattack"} <= stems


def test_a_shift_of_imagenet_is_measured_as_it_is() -> None:
    for dataset in SHIFTED:
        for setting in settings_of(find_suite("roz"), dataset):
            assert setting.attack is None
            entry = ENTRIES[dataset]
            assert setting.variant is None or setting.variant in entry.variants
    assert words("roz", "imagenet-a") == ["imagenet-a"]
    assert "imagenet-vid-robust.pm10" in words("roz", "imagenet-vid-robust")
    assert "imagenet-c.fog.3" in words("tecoa", "imagenet-c")
    assert len(words("roz", "imagenet-c")) == 95
    assert "imagenet-p.tilt" in words("roz", "imagenet-p")


def test_imagenet_is_also_measured_on_the_classes_of_its_shifts() -> None:
    found = words("roz", "imagenet")
    assert {"imagenet.a-classes", "imagenet.r-classes", "imagenet.objectnet-classes"} <= set(found)


def test_the_sixteen_sets_are_known() -> None:
    assert len(set(TECOA)) == 16
    assert set(TECOA) <= set(ENTRIES)


def test_attacks_do_not_share_a_word_with_another_number() -> None:
    stems = [name for name in ATTACKS if name.endswith("-N")]
    for stem in stems:
        assert find_attack(stem.replace("-N", "-7"), eps=4).name == stem.replace("-N", "-7")


def test_an_unknown_suite_is_refused_with_the_nearest() -> None:
    with pytest.raises(CurateError, match="did you mean 'tecoa'"):
        find_suite("tecao")


def test_a_set_without_a_name_is_measured_like_any_other() -> None:
    assert next(settings_of(find_suite("roz"), "mine")) == Setting("mine")
    renamed = [word.replace("mine", "cifar10") for word in words("roz", "mine")]
    assert renamed == words("roz", "cifar10")
