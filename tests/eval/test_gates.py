"""What must hold of attacks on a real model and real images, or no figure is to be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from eval.attacks.gradient import GradientAttack
from eval.attacks.registry import find_attack
from eval.datasets.registry import open_evalset
from eval.engine import attacked_rows, plain_rows
from eval.figures.health import Attacked, examine
from eval.models.model import ZeroShotModel, dtype_of, load_model
from eval.models.subject import Subject
from eval.models.wrappers import Steady
from eval.pictures import Pictures, read_pictures
from eval.settings import Aim, Setting
from train.measure import Held, accuracy
from train.processes import Processes

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    from torch import Tensor

    from eval.datasets.evalset import EvalSet
    from eval.models.classifier import ZeroShot

FEW = 32
BATCH = 128


@pytest.fixture(scope="module")
def subject(shared_data: Path) -> EvalSet:
    return open_evalset("cifar10", shared_data / "cifar10" / "test")


@pytest.fixture(scope="module")
def few(subject: EvalSet) -> Pictures:
    return read_pictures(subject, range(FEW), None)


@pytest.fixture(scope="module")
def model() -> ZeroShotModel:
    model = load_model("builtin:tiny-clip", device="cpu")
    assert isinstance(model, ZeroShotModel)
    return model


def classifier(model: ZeroShotModel, subject: EvalSet, precision: str = "fp32") -> Steady:
    seen = Subject(subject.name, subject.classes, subject.templates, None)
    made = Steady(model.classifier(seen, dtype_of(precision)))
    made.eval()
    return made


def attacked(asked: Steady, name: str, eps: float, given: Pictures) -> tuple[pl.DataFrame, Tensor]:
    return attacked_rows(asked, find_attack(name, eps=eps), given, seed=0, batch=BATCH)


def run(asked: Steady, name: str, eps: float, given: Pictures) -> Attacked:
    rows, _ = attacked(asked, name, eps, given)
    return Attacked("tiny", Setting("cifar10", attack=Aim(name, eps, "native")), "linf", rows)


def test_the_built_in_model_knows_the_images(model: ZeroShotModel, subject: EvalSet) -> None:
    many = read_pictures(subject, range(500), None)
    rows = plain_rows(classifier(model, subject), many, BATCH)
    # 88.6 % of all 10,000; three standard errors of 500
    assert rows["correct"].mean() == pytest.approx(0.886, abs=0.043)


def test_stronger_attacks_leave_less(model: ZeroShotModel, subject: EvalSet, few: Pictures) -> None:
    names = ("noise", "fgsm", "pgd-10", "pgd-20")
    runs = [run(classifier(model, subject), name, 1, few) for name in names]
    left = [one.right for one in runs]
    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0]
    assert [found.unreliable for found in examine(runs)] == [None] * len(runs)


@pytest.mark.parametrize("name", ["pgd-10", "fgsm", "deepfool"])
def test_worst_points_are_within_the_ball_and_come_out_as_stated(
    model: ZeroShotModel, subject: EvalSet, few: Pictures, name: str
) -> None:
    asked = classifier(model, subject)
    rows, worst = attacked(asked, name, 1, few)
    moved = (worst - few.images.float() / 255).abs().flatten(1).amax(dim=1)
    assert worst.min() >= 0
    assert worst.max() <= 1
    if name != "deepfool":  # whose points are the nearest wrong ones, within the ball or not
        assert float(moved.max()) <= 1 / 255 + 1e-6
        with torch.no_grad():
            again = asked(worst)
        assert again.argmax(dim=1).tolist() == rows["pred"].to_list()
        assert (again.argmax(dim=1) == few.labels).tolist() == rows["correct"].to_list()
    stated = torch.tensor(rows["linf"].fill_null(float("inf")).to_list())
    found = torch.isfinite(stated)
    torch.testing.assert_close(255 * moved[found], stated[found], atol=1e-3, rtol=0)


def test_an_attack_lowers_every_margin(
    model: ZeroShotModel, subject: EvalSet, few: Pictures
) -> None:
    asked = classifier(model, subject)
    clean = plain_rows(asked, few, BATCH)
    rows, _ = attacked(asked, "pgd-10", 1, few)
    right = clean["correct"]
    assert (rows["margin"].filter(right) < clean["margin"].filter(right)).all()
    assert not (rows["correct"] & ~right).any()
    assert rows["clean_pred"].equals(clean["pred"].rename("clean_pred"))
    assert rows["zero_gradient"].sum() == 0


def test_a_huge_radius_breaks_everything(
    model: ZeroShotModel, subject: EvalSet, few: Pictures
) -> None:
    assert run(classifier(model, subject), "pgd-10", 64, few).right == 0


def test_training_measures_what_an_evaluation_measures(
    model: ZeroShotModel, subject: EvalSet, few: Pictures
) -> None:
    made: ZeroShot = model.clip.classifier(
        classifier(model, subject).classifier.get_buffer("texts")
    )
    attack = find_attack("tecoa-pgd-2", eps=1)
    assert isinstance(attack, GradientAttack)
    held = Held(few.ids, few.images, few.labels)
    trained = accuracy(made, held, attack.threat, 3, Processes())
    rows, _ = attacked_rows(made, attack, few, seed=3, batch=BATCH)
    assert trained.robust == rows["correct"].mean()
    assert trained.clean == (rows["clean_pred"] == rows["label"]).mean()
    assert trained.robust < trained.clean
    one = GradientAttack("held-out", attack.threat)
    again, _ = attacked_rows(made, one, few, seed=3, batch=BATCH)
    assert again.equals(rows)


@pytest.mark.slow
def test_no_attack_leaves_more_than_a_weaker_one(model: ZeroShotModel, subject: EvalSet) -> None:
    few = read_pictures(subject, range(FEW // 2), None)
    names = ("noise", "fgsm", "pgd-10", "pgd-100", "apgd-ce", "apgd-ce+dlr", "autoattack")
    asked = classifier(model, subject)
    runs = [run(asked, name, 2, few) for name in (*names, "nes-10", "pgd-dlr-20", "pgd-20")]
    left = [one.right for one in runs[: len(names)]]
    # one image in a thousand is none of a few
    assert left == sorted(left, reverse=True)
    blind = next(one for one in runs if one.name == "nes-10")
    assert blind.right >= min(left)
    assert [found.unreliable for found in examine(runs)] == [None] * len(runs)


@pytest.mark.slow
def test_low_precision_changes_less_than_a_point(model: ZeroShotModel, subject: EvalSet) -> None:
    many = read_pictures(subject, range(500), None)
    left = {
        precision: run(classifier(model, subject, precision), "pgd-10", 1, many).right
        for precision in ("fp32", "bf16")
    }
    assert abs(left["fp32"] - left["bf16"]) < 5


@pytest.mark.slow
def test_a_huge_radius_leaves_less_than_a_hundredth(model: ZeroShotModel, subject: EvalSet) -> None:
    many = read_pictures(subject, range(200), None)
    for name in ("pgd-20", "bim", "apgd-ce"):
        assert run(classifier(model, subject), name, 64, many).right < 2
