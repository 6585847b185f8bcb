"""Gradients from scores: unbiased on a quadratic, and each image's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
import torch
from attacking import Plane, keys, pictures, predicted
from torch import Tensor, nn

from curate.errors import CurateError
from eval.attacks.estimate import Estimator
from eval.attacks.gradient import GradientAttack
from eval.attacks.registry import find_attack
from eval.attacks.threat import Threat

if TYPE_CHECKING:
    from eval.models.classifier import Clip, ZeroShot

Directions = Literal["gaussian", "signs"]
KINDS: tuple[Directions, ...] = ("gaussian", "signs")


def quadratic(x: Tensor) -> Tensor:
    weights = torch.linspace(0.5, 2, 12, dtype=x.dtype)
    flat = x.flatten(1)
    return (weights * flat * flat).sum(dim=1) + flat.prod(dim=1) * 0 + 3 * flat[:, 0] * flat[:, 1]


def differences(point: Tensor, width: float = 1e-4) -> Tensor:
    """The gradient by central differences, one coordinate at a time, in double precision."""
    point = point.double()
    found = torch.zeros(point.numel(), dtype=torch.float64)
    for place in range(point.numel()):
        step = torch.zeros(point.numel(), dtype=torch.float64)
        step[place] = width
        ahead, behind = ((point.flatten() + sign * step).reshape(point.shape) for sign in (1, -1))
        found[place] = (quadratic(ahead[None]) - quadratic(behind[None]))[0] / (2 * width)
    return found.reshape(point.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimate_tends_to_the_gradient_of_a_quadratic(kind: Directions) -> None:
    point = torch.linspace(0.1, 0.9, 12).reshape(3, 2, 2)
    exact = differences(point)
    errors = []
    for samples in (100, 40_000):
        estimator = Estimator(kind, samples=samples, sigma=0.01)
        found = estimator.gradient(quadratic, point, torch.Generator().manual_seed(0))
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < 0.05
    assert errors[0] > 3 * errors[1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimate_is_the_sum_it_is_said_to_be(kind: Directions) -> None:
    point = torch.linspace(0.1, 0.9, 12).reshape(3, 2, 2)
    found = Estimator(kind, 10, 0.01).gradient(quadratic, point, torch.Generator().manual_seed(3))
    drawn = torch.randn((5, 3, 2, 2), generator=torch.Generator().manual_seed(3))
    if kind == "signs":
        drawn = torch.where(drawn < 0, -1.0, 1.0)
    expected = torch.zeros_like(point)
    for direction in drawn:
        ahead, behind = (quadratic((point + s * 0.01 * direction)[None]) for s in (1, -1))
        expected += direction * float(ahead - behind) / (10 * 0.01)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_attack_breaks_images_and_counts_its_queries(kind: Directions) -> None:
    plane = Plane(5)
    images = plane.images(20)
    labels = predicted(plane, images)
    threat = Threat(0.8, 0.1, 10, "zero")
    attack = GradientAttack("scores", threat, "margin", estimator=Estimator(kind))
    found = attack.run(plane, images, labels, keys(20), 0)
    true = GradientAttack("bim", threat, "margin").run(plane, images, labels, keys(20), 0)
    assert 0 < found.robust.sum() < 20
    assert not (true.robust & ~found.robust).any()
    steps = (found.queries[found.robust] - 2) / 101
    assert set(steps.tolist()) == {10.0}
    assert found.linf.max() <= 0.8 + 1e-3


def test_a_score_attack_does_not_know_of_the_other_images(classifier: ZeroShot) -> None:
    images, names = pictures(6), keys(6)
    labels = predicted(classifier, images)
    attack = GradientAttack(
        "nes", Threat(2, 0.5, 3, "zero"), "margin", estimator=Estimator("gaussian", 20)
    )
    whole = attack.run(classifier, images, labels, names, 4)
    for row in (5, 2):
        rows = torch.tensor([row])
        alone = attack.run(classifier, images[rows], labels[rows], [names[row]], 4)
        assert torch.equal(alone.images[0], whole.images[row])
        assert alone.queries[0] == whole.queries[row]
    other = attack.run(classifier, images, labels, names, 5)
    assert not torch.equal(other.images, whole.images)


def test_a_score_attack_needs_no_gradient(classifier: ZeroShot) -> None:
    class Rounded(nn.Module):
        """Its gradient is zero everywhere; its scores are not constant."""

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = classifier(images)
            return (logits * 1e6).round() / 1e6

    blind = Rounded().eval()
    images = pictures(4)
    labels = predicted(blind, images)
    settings = {"name": "nes", "threat": Threat(2, 0.5, 4, "zero"), "loss": "margin"}
    seen = GradientAttack(**settings).run(blind, images, labels, keys(4), 0)  # type: ignore[arg-type]
    assert seen.zero_gradient.all()
    guessed = GradientAttack(**settings, estimator=Estimator("gaussian", 50))  # type: ignore[arg-type]
    found = guessed.run(blind, images, labels, keys(4), 0)
    assert not found.zero_gradient.any()
    assert (found.margin < seen.margin).all()


@pytest.mark.parametrize("name", ["nes", "spsa", "deepfool", "cw-l2", "fmn-linf", "fmn-l2"])
def test_fine_differences_refuse_bfloat16(clip: Clip, classifier: ZeroShot, name: str) -> None:
    low = clip.classifier(classifier.texts, dtype=torch.bfloat16)
    images = pictures(2)
    labels = predicted(low, images)
    with pytest.raises(CurateError, match=f"attack {name}.*bfloat16; load the model in fp32"):
        find_attack(name, eps=1).run(low, images, labels, keys(2), 0)
