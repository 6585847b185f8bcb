"""The sign-gradient family: equal to its oracles, in any batch, whatever the classifier."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from attacking import SHAPE, against, attacked, keys, pictures, predicted, slow_walk
from torch import Tensor, nn

from eval.attacks.gradient import ranked_class
from eval.attacks.guard import NotFiniteError, frozen
from eval.attacks.loop import perturb
from eval.attacks.threat import Threat, start_noise
from eval.attacks.trail import Trail

if TYPE_CHECKING:
    from eval.models.classifier import Clip, ZeroShot

PGD = Threat(4, 1, 5, "uniform")


@pytest.mark.parametrize("size", [1, 3, 16])
def test_neither_batch_nor_order_matters(classifier: ZeroShot, size: int) -> None:
    images, names = pictures(16), keys(16)
    labels = predicted(classifier, images)
    whole = attacked(classifier, images, labels, PGD, names)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    assert whole.clean.all()
    assert 0 < whole.robust.sum() < 16
    found = torch.zeros(16, dtype=torch.bool)
    for rows in order.split(size):
        own = [names[row] for row in rows]
        found[rows] = attacked(classifier, images[rows], labels[rows], PGD, own).robust
    assert torch.equal(found, whole.robust)


@pytest.mark.parametrize("threat", [PGD, Threat(2, 0.5, 8, "zero"), Threat(1, 1, 1, "zero")])
def test_verdicts_are_those_of_one_image_at_a_time_without_early_stop(
    classifier: ZeroShot, threat: Threat
) -> None:
    images, noise = pictures(8), start_noise(keys(8), 0, SHAPE)
    labels = predicted(classifier, images)
    labels[::5] = (labels[::5] + 1) % 5
    found = attacked(classifier, images, labels, threat)
    assert found.clean.tolist() == [row % 5 != 0 for row in range(8)]
    assert not (found.robust & ~found.clean).any()
    for row in range(8):
        slow = slow_walk(classifier, images[row], labels[row], threat, noise[row])
        wrong = [point for point, logits in slow if logits.argmax() != labels[row]]
        assert found.robust[row] == (not wrong)
        margins = [
            float(logits[labels[row]] - logits[torch.arange(5) != labels[row]].max())
            for _, logits in slow
        ]
        worst = wrong[0] if wrong else slow[int(np.argmin(margins))][0]
        assert ((found.images[row] - worst).abs() > 1e-6).float().mean() < 1e-3
        last = first_wrong(slow, labels[row]) if wrong else len(slow) - 1
        assert found.queries[row] == 1 + last


def first_wrong(slow: list[tuple[Tensor, Tensor]], label: Tensor) -> int:
    return next(n for n, (_, logits) in enumerate(slow) if logits.argmax() != label)


def test_early_stop_spares_forward_passes(classifier: ZeroShot) -> None:
    images = pictures(16)
    labels = predicted(classifier, images)
    labels[:12] = (labels[:12] + 1) % 5
    counts = []
    handle = classifier.register_forward_hook(lambda *seen: counts.append(len(seen[1][0])))
    try:
        attacked(classifier, images, labels, Threat(0.01, 0.01, 3, "zero"))
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
    assert not attacked(ring, images, labels, threat).robust


def test_images_without_a_gradient_are_counted(clip: Clip, classifier: ZeroShot) -> None:
    images = pictures(6)
    labels = predicted(classifier, images)
    sharp = copy.deepcopy(classifier)
    sharp.scale = 1e6  # cross-entropy is saturated
    flags = attacked(sharp, images, labels, Threat(8, 2, 3, "zero"))
    assert flags.zero_gradient.all()
    assert flags.robust.all()
    with frozen(sharp):
        moved = perturb(against(sharp, labels), images, Threat(8, 2, 3, "zero"))
    assert moved.zero_gradient.all()
    assert torch.equal(moved.images, images)
    assert not attacked(classifier, images, labels, PGD).zero_gradient.any()


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
        attacked(Rotten().eval(), images, labels, Threat(20, 4, 4, "zero"))
    assert error.value.rows == (2,)


def test_bf16_finds_nearly_the_same_flags(clip: Clip, classifier: ZeroShot) -> None:
    images = pictures(48)
    labels = predicted(classifier, images)
    low = clip.classifier(classifier.texts, dtype=torch.bfloat16)
    threat = Threat(2, 0.5, 4, "uniform")
    full = attacked(classifier, images, labels, threat)
    half = attacked(low, images, labels, threat)
    assert (full.robust != half.robust).sum() <= 5
    point = images.clone().requires_grad_()
    (exact,) = torch.autograd.grad(against(classifier, labels)(point).sum(), point)
    (rough,) = torch.autograd.grad(against(low, labels)(point).sum(), point)
    assert (exact.sign() == rough.sign()).float().mean() > 0.97


def test_a_wider_ball_breaks_everything(classifier: ZeroShot) -> None:
    images = pictures(16)
    labels = predicted(classifier, images)
    counts = [
        int(attacked(classifier, images, labels, Threat(eps, step, 10, "zero")).robust.sum())
        for eps, step in ((0, 1), (1, 0.25), (64, 16))
    ]
    assert counts[0] == 16
    assert counts[0] > counts[1] > counts[2] == 0


def test_of_equal_classes_the_first_is_aimed_at_first() -> None:
    class Tied(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1).sum(dim=1, keepdim=True) * (torch.arange(1000) % 2)

    images = pictures(3)
    trail = Trail(Tied(), images, torch.zeros(3, dtype=torch.int64))
    assert [ranked_class(trail, rank)[0] for rank in (0, 1, 499, 500)] == [1, 3, 999, 0]
