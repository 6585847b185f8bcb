from __future__ import annotations

from typing import TYPE_CHECKING

from sample_rows import flags, rows

from eval.figures.health import HEALTH, Attacked, examine, table, unreliable
from eval.settings import Aim, Setting

if TYPE_CHECKING:
    import polars as pl

IMAGES = 1000


def attack(
    name: str,
    left: int,
    *,
    eps: float = 4,
    norm: str = "linf",
    model: str = "net",
    dataset: str = "cifar10",
    **columns: list[object],
) -> Attacked:
    """A run that leaves so many of a thousand images right; 900 are right before it."""
    frame = rows(
        flags(left, IMAGES - left),
        **{
            "clean_pred": [0] * 900 + [5] * 100,
            "linf": [eps] * IMAGES,
            "l2": [0.5] * IMAGES,
            **columns,
        },
    )
    setting = Setting(dataset, attack=Aim(name, eps, "native"))
    return Attacked(model, setting, norm, frame)


def reasons(*runs: Attacked) -> dict[str, str | None]:
    return {item.run.name: item.unreliable for item in examine(runs)}


def test_a_suite_in_order_has_nothing_against_it() -> None:
    names = {
        "noise": 880, "fgsm": 500, "pgd-10": 400, "pgd-100": 390, "cw-margin-100": 385,
        "apgd-ce+dlr": 380, "autoattack": 370, "transfer-fgsm": 800, "nes": 500, "spsa": 600,
    }  # fmt: skip
    found = reasons(*(attack(name, left) for name, left in names.items()))
    assert set(found.values()) == {None}


def test_vanished_gradients_are_counted_among_images_that_were_right() -> None:
    vanished: list[object] = [True] * 10 + [False] * 990
    (item,) = examine([attack("pgd-10", 500, zero_gradient=vanished)])
    assert item.zero_gradient is not None
    assert (item.zero_gradient.hits, item.zero_gradient.total) == (10, 900)
    assert item.unreliable is not None
    assert "vanished on 1.1 % of the images" in item.unreliable
    fewer: list[object] = [True] * 9 + [False] * 991
    assert reasons(attack("pgd-10", 500, zero_gradient=fewer)) == {"pgd-10": None}


def test_an_attack_that_says_nothing_of_gradients_has_no_share() -> None:
    (item,) = examine([attack("square", 500)])
    assert (item.zero_gradient, item.largest) == (None, 4.0)


def test_a_perturbation_beyond_the_radius_is_found() -> None:
    too_large: list[object] = [4.0] * 999 + [4.1]
    assert "4.1 is larger than the radius of 4" in str(
        reasons(attack("fgsm", 5, linf=too_large))["fgsm"]
    )
    rounded: list[object] = [4.0005] * 1000
    assert reasons(attack("fgsm", 5, linf=rounded)) == {"fgsm": None}


def test_the_radius_of_an_l2_attack_is_that_of_its_norm() -> None:
    fine = attack("fmn-l2", 5, eps=127.5, norm="l2", linf=[90.0] * 1000)
    far = attack("fmn-l2", 5, eps=127, norm="l2")
    assert reasons(fine) == {"fmn-l2": None}
    assert "127.5 is larger than the radius of 127" in str(reasons(far)["fmn-l2"])


def test_the_least_perturbation_may_lie_beyond_the_radius_where_the_image_counts_as_right() -> None:
    right_beyond: list[object] = [float("inf")] + [9.0] * 9 + [1.0] * 990
    assert reasons(attack("deepfool", 10, linf=right_beyond)) == {"deepfool": None}
    assert "9 is larger" in str(reasons(attack("deepfool", 9, linf=right_beyond))["deepfool"])


def test_an_attack_mends_no_image() -> None:
    found = reasons(attack("fgsm", 903))
    assert "3 images are wrong before the attack and right after it" in str(found["fgsm"])


def test_a_stronger_attack_that_leaves_more_is_not_trusted() -> None:
    found = reasons(attack("pgd-10", 400), attack("pgd-100", 402), attack("fgsm", 450))
    assert found["pgd-100"] == "leaves 2 more images right than pgd-10, which is weaker"
    assert found["pgd-10"] is None
    assert found["fgsm"] is None


def test_one_image_in_a_thousand_is_no_sign() -> None:
    found = reasons(attack("pgd-10", 400), attack("pgd-100", 401))
    assert set(found.values()) == {None}


def test_orders_are_those_of_one_model_set_radius_and_size() -> None:
    strong = attack("pgd-100", 500)
    for other in (
        attack("pgd-10", 400, model="other"),
        attack("pgd-10", 400, dataset="stl10"),
        attack("pgd-10", 400, eps=8),
        attack("pgd-10", 400, norm="l2", l2=[0.01] * 1000),
    ):
        assert [item.unreliable for item in examine([strong, other])] == [None, None]


def test_a_transferred_attack_does_not_beat_the_same_with_its_own_gradients() -> None:
    found = reasons(attack("mim", 500), attack("transfer-mim", 400), attack("transfer-bim", 300))
    assert found["mim"] == "leaves 100 more images right than transfer-mim"
    assert found["transfer-mim"] is None


def test_a_black_box_that_wins_speaks_against_all_gradients() -> None:
    found = reasons(attack("fgsm", 600), attack("pgd-10", 500), attack("nes", 497))
    said = "nes without gradients leaves 49.7 % right, attacks with gradients 50.0 %"
    assert found == {"fgsm": said, "pgd-10": said, "nes": None}
    assert reasons(attack("pgd-10", 500), attack("nes", 498))["pgd-10"] is None


def test_saturated_cross_entropy_shows_beside_a_margin_loss() -> None:
    found = reasons(attack("pgd-20", 870), attack("pgd-margin-20", 600))
    assert "leaves 27.0 points more than pgd-margin-20" in str(found["pgd-20"])
    assert found["pgd-margin-20"] is None
    assert reasons(attack("tecoa-pgd-20", 870), attack("cw-margin-20", 600))["tecoa-pgd-20"]
    assert set(reasons(attack("pgd-20", 620), attack("pgd-dlr-20", 600)).values()) == {None}
    assert set(reasons(attack("pgd-20", 870), attack("pgd-margin-10", 600)).values()) == {None}


def test_images_that_survive_any_change_speak_against_the_attack_at_every_radius() -> None:
    found = examine(
        [attack("pgd-20", 500), attack("pgd-20", 10, eps=64), attack("fgsm", 300, eps=64)]
    )
    said = [item.unreliable for item in found]
    assert said == ["at a radius of 64/255 it still leaves 1.0 % right"] * 2 + [None]
    broken = examine([attack("pgd-20", 500), attack("pgd-20", 9, eps=64)])
    assert [item.unreliable for item in broken] == [None, None]


def test_the_table_has_a_row_for_each_run_in_order() -> None:
    found = examine([attack("pgd-100", 500), attack("pgd-10", 400)])
    frame: pl.DataFrame = table(found)
    assert dict(frame.schema) == dict(HEALTH)
    assert frame["setting"].to_list() == [
        "cifar10@pgd-100.eps4.native",
        "cifar10@pgd-10.eps4.native",
    ]
    assert frame["left"].to_list() == [0.5, 0.4]
    assert frame["unreliable"].is_not_null().to_list() == [True, False]
    assert unreliable(found) == {
        (
            "net",
            "cifar10@pgd-100.eps4.native",
        ): "leaves 100 more images right than pgd-10, which is weaker"
    }
    assert table([]).height == 0
