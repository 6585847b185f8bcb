"""The walk that training and evaluation share: its bounds, its oracle, and nothing that leaks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from attacking import SHAPE, against, keys, naive_pgd, pictures, predicted
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eval.attacks.guard import NotFiniteError, frozen
from eval.attacks.loop import perturb
from eval.attacks.threat import Threat, start_noise

if TYPE_CHECKING:
    from eval.models.classifier import ZeroShot

PGD = Threat(4, 1, 5, "uniform")


@pytest.mark.parametrize("threat", [PGD, Threat(2, 1, 3, "zero"), Threat(1, 1, 2, "uniform")])
def test_the_loop_is_the_textbook_attack(classifier: ZeroShot, threat: Threat) -> None:
    images, noise = pictures(6), start_noise(keys(6), 0, SHAPE)
    labels = predicted(classifier, images)
    with frozen(classifier):
        got = perturb(against(classifier, labels), images, threat, noise).images
    expected = torch.stack(
        [
            naive_pgd(classifier, image, label, threat, own)
            for image, label, own in zip(images, labels, noise, strict=True)
        ]
    )
    # A gradient within rounding of zero may have either sign; such pixels are rare.
    assert ((got - expected).abs() > 1e-6).float().mean() < 1e-3


def test_one_step_from_the_image_is_fgsm(classifier: ZeroShot) -> None:
    images = pictures(4)
    labels = predicted(classifier, images)
    point = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(against(classifier, labels)(point).sum(), point)
    expected = (images + 8 / 255 * gradient.sign()).clamp(0, 1)
    with frozen(classifier):
        got = perturb(against(classifier, labels), images, Threat(8, 8, 1, "zero")).images
    torch.testing.assert_close(got, expected, atol=1e-7, rtol=0)


def test_the_attack_raises_the_loss(classifier: ZeroShot) -> None:
    images = pictures(8)
    loss = against(classifier, predicted(classifier, images))
    with frozen(classifier):
        attacked = perturb(loss, images, PGD, start_noise(keys(8), 0, SHAPE))
    assert (loss(attacked.images) > loss(images)).all()
    assert not attacked.zero_gradient.any()
    assert not attacked.images.requires_grad


@settings(max_examples=40)
@given(st.floats(0, 300), st.floats(0.01, 300), st.integers(1, 4),
       st.sampled_from(["zero", "uniform"]), st.integers(0, 99))  # fmt: skip
def test_points_stay_in_the_ball_and_in_the_range(
    eps: float, step: float, steps: int, start: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 1, 0.5, 1e-3, 0.999], (3, 3, 4, 4))  # many at the edges
    images = torch.from_numpy(values.astype(np.float32))
    weights = torch.from_numpy(rng.normal(size=(3, 4, 4)).astype(np.float32))
    noise = start_noise(keys(3), seed, (3, 4, 4))

    def loss(x: Tensor) -> Tensor:
        return ((x * weights).sum(dim=(1, 2, 3)) * 3).sin()

    before = images.clone()
    got = perturb(loss, images, Threat(eps, step, steps, start), noise).images
    assert torch.equal(images, before)
    assert got.dtype == torch.float32
    assert (got - images).abs().max() <= eps / 255 + 1e-6
    assert got.min() >= 0
    assert got.max() <= 1


def test_the_loss_is_summed_so_no_gradient_is_lost_to_the_size_of_the_batch() -> None:
    images = torch.full((64, 1, 1, 1), 0.5)
    smallest = 1.401298464324817e-45  # of fp32; a mean over 64 images would round it to zero
    got = perturb(lambda x: x.sum(dim=(1, 2, 3)) * smallest, images, Threat(1, 1, 1, "zero"))
    assert not got.zero_gradient.any()
    torch.testing.assert_close(got.images, images + 1 / 255)


def test_a_caller_without_gradients_can_attack(classifier: ZeroShot) -> None:
    images = pictures(2)
    labels = predicted(classifier, images)
    threat = Threat(1, 1, 2, "zero")
    with frozen(classifier):
        expected = perturb(against(classifier, labels), images, threat).images
        with torch.no_grad():
            got = perturb(against(classifier, labels), images, threat).images
    assert torch.equal(got, expected)


def test_pixels_at_the_edge_of_the_range_stay_there_or_move_inwards() -> None:
    images = torch.zeros(1, 1, 1, 2)
    images[..., 1] = 1
    got = perturb(lambda x: x.sum(dim=(1, 2, 3)), images, Threat(2, 1, 4, "zero")).images
    torch.testing.assert_close(got, torch.tensor([[[[2 / 255, 1.0]]]]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_images(value: float) -> None:
    def loss(x: Tensor) -> Tensor:
        found = x.sum(dim=(1, 2, 3))
        return found * torch.tensor([1, value, 1, value])

    with pytest.raises(NotFiniteError, match="images 1, 3") as error:
        perturb(loss, torch.full((4, 3, 4, 4), 0.5), Threat(1, 1, 2, "zero"))
    assert error.value.rows == (1, 3)


def test_a_uniform_start_needs_noise_and_a_loss_is_per_image() -> None:
    images = pictures(2)
    with pytest.raises(ValueError, match="needs noise"):
        perturb(lambda x: x.sum(dim=(1, 2, 3)), images, PGD)
    with pytest.raises(ValueError, match="needs noise"):
        perturb(lambda x: x.sum(dim=(1, 2, 3)), images, PGD, torch.zeros(1, *SHAPE))
    with pytest.raises(ValueError, match=r"not \(\)"):
        perturb(Tensor.sum, images, Threat(1, 1, 1, "zero"))
