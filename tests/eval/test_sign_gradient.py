"""The sign-gradient loop: its bounds, its oracle, and nothing that leaks out of it."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from curate.errors import CurateError
from eval.sign_gradient import (
    NotFiniteError,
    Threat,
    frozen,
    perturb,
    robust_flags,
    start_noise,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.classifier import Clip, ZeroShot

PGD = Threat(4, 1, 5, "uniform")
SHAPE = (3, 32, 32)


def pictures(count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(7))


def keys(count: int) -> list[str]:
    return [f"shard.tar:{i:05d}" for i in range(count)]


def against(classifier: nn.Module, labels: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda images: functional.cross_entropy(classifier(images), labels, reduction="none")


@torch.no_grad()
def predicted(classifier: nn.Module, images: Tensor) -> Tensor:
    return classifier(images).argmax(dim=1)


def naive_pgd(
    model: nn.Module, image: Tensor, label: Tensor, threat: Threat, noise: Tensor
) -> Tensor:
    """One image, textbook form, through `.backward()` on a model of its own."""
    model = copy.deepcopy(model)
    delta = noise * threat.eps / 255 if threat.start == "uniform" else torch.zeros_like(image)
    for _ in range(threat.steps):
        here = (image + delta).clamp(0, 1).requires_grad_()
        functional.cross_entropy(model(here[None]), label[None]).backward()
        delta = here.detach() + threat.step / 255 * here.grad.sign() - image
        delta = delta.clamp(-threat.eps / 255, threat.eps / 255)
    return (image + delta).clamp(0, 1)


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


@pytest.mark.parametrize("size", [1, 3, 16])
def test_neither_batch_nor_order_matters(classifier: ZeroShot, size: int) -> None:
    images, names = pictures(16), keys(16)
    labels = predicted(classifier, images)
    noise = start_noise(names, 0, SHAPE)
    whole = robust_flags(classifier, images, labels, PGD, noise)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    assert whole.clean.all()
    assert 0 < whole.robust.sum() < 16
    found = torch.zeros(16, dtype=torch.bool)
    for rows in order.split(size):
        own = start_noise([names[row] for row in rows], 0, SHAPE)
        assert torch.equal(own, noise[rows])
        found[rows] = robust_flags(classifier, images[rows], labels[rows], PGD, own).robust
    assert torch.equal(found, whole.robust)


def test_noise_follows_seed_and_key_and_fills_the_ball() -> None:
    noise = start_noise(keys(40), 0, SHAPE)
    assert noise.shape == (40, *SHAPE)
    assert noise.min() >= -1
    assert noise.max() < 1
    assert abs(noise.mean()) < 0.01
    assert abs(noise.var() - 1 / 3) < 0.01
    assert len(noise.flatten(1).unique(dim=0)) == 40
    assert not torch.equal(start_noise(keys(1), 1, SHAPE)[0], noise[0])
    # pinned: results of a release can be had again from the next
    np.testing.assert_allclose(start_noise(["a"], 0, (2,)), [[-0.9301765, -0.4250325]], atol=1e-7)


@pytest.mark.parametrize("threat", [PGD, Threat(2, 0.5, 8, "zero"), Threat(1, 1, 1, "zero")])
def test_early_stop_changes_no_flag(classifier: ZeroShot, threat: Threat) -> None:
    images, noise = pictures(24), start_noise(keys(24), 0, SHAPE)
    labels = predicted(classifier, images)
    labels[::5] = (labels[::5] + 1) % 5
    quick = robust_flags(classifier, images, labels, threat, noise)
    slow = robust_flags(classifier, images, labels, threat, noise, early_stop=False)
    assert torch.equal(quick.clean, slow.clean)
    assert torch.equal(quick.robust, slow.robust)
    assert torch.equal(quick.zero_gradient, slow.zero_gradient)
    assert quick.clean.tolist() == [row % 5 != 0 for row in range(24)]
    assert not (quick.robust & ~quick.clean).any()


def test_early_stop_spares_forward_passes(classifier: ZeroShot) -> None:
    images = pictures(16)
    labels = predicted(classifier, images)
    labels[:12] = (labels[:12] + 1) % 5
    counts = []
    handle = classifier.register_forward_hook(lambda *seen: counts.append(len(seen[1][0])))
    try:
        robust_flags(classifier, images, labels, Threat(0.01, 0.01, 3, "zero"))
    finally:
        handle.remove()
    assert counts == [16, 4, 4, 4, 4]


def test_a_point_that_was_wrong_once_stays_counted() -> None:
    """The best point on the way counts, even where the walk leaves it again."""

    class Ring(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            value = images.mean(dim=(1, 2, 3)) * 255
            wrong = 4 - 16 * (value - 1.0) ** 2  # wrong near one 255th only, uphill everywhere
            return torch.stack([torch.zeros_like(value), wrong + 8 * value.clamp(1, 9) - 8], dim=1)

    ring = Ring().eval()
    images = torch.zeros(1, 1, 1, 1)
    labels = torch.zeros(1, dtype=torch.int64)
    threat = Threat(3, 0.5, 2, "zero")  # 0, 0.5, 1
    assert ring(images).argmax() == 0
    last = perturb(against(ring, labels), images, threat).images
    assert ring(last).argmax() == 1
    assert not robust_flags(ring, images, labels, threat).robust


def test_images_without_a_gradient_are_counted(clip: Clip, classifier: ZeroShot) -> None:
    images = pictures(6)
    labels = predicted(classifier, images)
    sharp = copy.deepcopy(classifier)
    sharp.scale = 1e6  # cross-entropy is saturated
    flags = robust_flags(sharp, images, labels, Threat(8, 2, 3, "zero"))
    assert flags.zero_gradient.all()
    assert flags.robust.all()
    with frozen(sharp):
        attacked = perturb(against(sharp, labels), images, Threat(8, 2, 3, "zero"))
    assert attacked.zero_gradient.all()
    assert torch.equal(attacked.images, images)
    assert not robust_flags(classifier, images, labels, PGD, start_noise(keys(6), 0, SHAPE)
                            ).zero_gradient.any()  # fmt: skip


def test_no_parameter_has_a_gradient_afterwards(clip: Clip, classifier: ZeroShot) -> None:
    model = copy.deepcopy(classifier)
    names = [name for name, _ in model.named_parameters()]
    for parameter in model.parameters():
        parameter.requires_grad_()
    next(model.parameters()).requires_grad_(requires_grad=False)
    images = pictures(4)
    labels = predicted(model, images)
    with frozen(model):
        perturb(against(model, labels), images, PGD, start_noise(keys(4), 0, SHAPE))
        assert not any(parameter.requires_grad for parameter in model.parameters())
    robust_flags(model, images, labels, PGD, start_noise(keys(4), 0, SHAPE))
    assert all(parameter.grad is None for parameter in model.parameters())
    required = [parameter.requires_grad for parameter in model.parameters()]
    assert required == [False] + [True] * (len(names) - 1)


def test_gradients_waiting_for_an_update_are_left_alone(classifier: ZeroShot) -> None:
    model = copy.deepcopy(classifier).requires_grad_()
    model(pictures(2)).sum().backward()
    before = [parameter.grad.clone() for parameter in model.tower.parameters()]
    robust_flags(model, pictures(2), torch.zeros(2, dtype=torch.int64), PGD, torch.zeros(2, *SHAPE))
    for parameter, gradient in zip(model.tower.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_gradient_that_leaks_into_a_parameter_is_an_error(is_first: bool) -> None:
    model = nn.Linear(2, 2).eval()
    if not is_first:
        model(torch.ones(1, 2)).sum().backward()

    def leak() -> None:
        with frozen(model):
            model.requires_grad_()
            model(torch.ones(1, 2)).sum().backward()

    with pytest.raises(CurateError, match="parameter weight got a gradient"):
        leak()
    assert model.weight.requires_grad


def test_a_failing_attack_restores_the_parameters(classifier: ZeroShot) -> None:
    model = copy.deepcopy(classifier).requires_grad_()
    with pytest.raises(KeyError), frozen(model):
        raise KeyError
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_part_in_training_mode_is_refused_and_its_statistics_do_not_move() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 2))
    model.eval()
    images, labels = pictures(3), torch.zeros(3, dtype=torch.int64)
    state = copy.deepcopy(model.state_dict())
    robust_flags(model, images, labels, Threat(1, 1, 2, "zero"))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model[1].train()
    with pytest.raises(CurateError, match="attack: 1 is in training mode"):
        robust_flags(model, images, labels, Threat(1, 1, 2, "zero"))
    model.train()
    with pytest.raises(CurateError, match="the module is in training mode"), frozen(model):
        pass


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_images(value: float) -> None:
    def loss(x: Tensor) -> Tensor:
        found = x.sum(dim=(1, 2, 3))
        return found * torch.tensor([1, value, 1, value])

    with pytest.raises(NotFiniteError, match="images 1, 3") as error:
        perturb(loss, torch.full((4, 3, 4, 4), 0.5), Threat(1, 1, 2, "zero"))
    assert error.value.rows == (1, 3)


def test_logits_that_are_not_finite_name_the_images_not_the_rest_of_the_batch() -> None:
    class Rotten(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            value = images.mean(dim=(1, 2, 3))
            logits = torch.stack([1 - value, value], dim=1)
            return torch.where(((value > 0.42) & (value < 0.44))[:, None], math.nan, logits)

    images = torch.full((3, 3, 2, 2), 0.1)
    images[0], images[2] = 0.9, 0.4  # the first one is wrong at once and leaves the batch
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(NotFiniteError) as error:
        robust_flags(Rotten().eval(), images, labels, Threat(20, 4, 4, "zero"))
    assert error.value.rows == (2,)


def test_bf16_finds_nearly_the_same_flags(clip: Clip, classifier: ZeroShot) -> None:
    images, noise = pictures(48), start_noise(keys(48), 0, SHAPE)
    labels = predicted(classifier, images)
    low = clip.classifier(classifier.texts, dtype=torch.bfloat16)
    threat = Threat(2, 0.5, 4, "uniform")
    full = robust_flags(classifier, images, labels, threat, noise)
    half = robust_flags(low, images, labels, threat, noise)
    assert (full.robust != half.robust).sum() <= 5
    point = images.clone().requires_grad_()
    (exact,) = torch.autograd.grad(against(classifier, labels)(point).sum(), point)
    (rough,) = torch.autograd.grad(against(low, labels)(point).sum(), point)
    assert (exact.sign() == rough.sign()).float().mean() > 0.97


def test_a_wider_ball_breaks_everything(classifier: ZeroShot) -> None:
    images = pictures(16)
    labels = predicted(classifier, images)
    counts = [
        int(robust_flags(classifier, images, labels, Threat(eps, step, 10, "zero")).robust.sum())
        for eps, step in ((0, 1), (1, 0.25), (64, 16))
    ]
    assert counts[0] == 16
    assert counts[0] > counts[1] > counts[2] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, 1, 1, "zero"), "eps -1"),
        ((math.nan, 1, 1, "zero"), "eps nan"),
        ((1, 0, 1, "zero"), "step 0"),
        ((1, math.inf, 1, "zero"), "step inf"),
        ((1, 1, 0, "zero"), "steps 0"),
        ((1, 1, 1, "random"), "start 'random': choose from zero, uniform"),
    ],
)
def test_senseless_threats_are_refused(arguments: Any, words: str) -> None:
    with pytest.raises(CurateError, match=words):
        Threat(*arguments)


def test_a_uniform_start_needs_noise_and_a_loss_is_per_image() -> None:
    images = pictures(2)
    with pytest.raises(ValueError, match="needs noise"):
        perturb(lambda x: x.sum(dim=(1, 2, 3)), images, PGD)
    with pytest.raises(ValueError, match="needs noise"):
        perturb(lambda x: x.sum(dim=(1, 2, 3)), images, PGD, torch.zeros(1, *SHAPE))
    with pytest.raises(ValueError, match=r"not \(\)"):
        perturb(Tensor.sum, images, Threat(1, 1, 1, "zero"))
