"""What a verdict says, and what an attack refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from attacking import Plane, attacked, keys, predicted
from torch import Tensor, nn

from curate.errors import CurateError
from eval.attacks.ensemble import Ensemble
from eval.attacks.guard import NotFiniteError
from eval.attacks.registry import find_attack
from eval.attacks.threat import Threat
from eval.attacks.trail import Trail, is_within

STEPS = Threat(0.5, 0.1, 5, "uniform")


def test_a_trail_keeps_the_first_wrong_point_or_the_one_of_least_margin() -> None:
    logits = {0.1: [5.0, 1.0], 0.2: [3.0, 1.0], 0.3: [4.0, 1.0], 0.4: [1.0, 2.0], 0.5: [0.0, 9.0]}

    class Table(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            values = images[:, 0, 0, 0].tolist()
            return torch.tensor([logits[round(value, 1)] for value in values])

    def at(*values: float) -> Tensor:
        return torch.tensor(values)[:, None, None, None].expand(-1, 3, 1, 1).contiguous()

    trail = Trail(Table().eval(), at(0.1, 0.1), torch.tensor([0, 0]))
    both = torch.tensor([0, 1])
    trail.look(both, at(0.2, 0.2))
    trail.look(both, at(0.3, 0.4))
    trail.look(trail.alive(), at(0.3))
    found = trail.verdict()
    assert found.robust.tolist() == [True, False]
    assert found.pred.tolist() == [0, 1]
    assert found.clean_pred.tolist() == [0, 0]
    assert found.margin.tolist() == [2, -1]
    assert found.queries.tolist() == [4, 3]
    torch.testing.assert_close(found.images, at(0.2, 0.4))
    torch.testing.assert_close(found.linf, torch.tensor([25.5, 76.5]))
    torch.testing.assert_close(found.l2, torch.tensor([0.1, 0.3]) * math.sqrt(3))


def test_within_eps_is_but_for_rounding_in_either_norm() -> None:
    images = torch.full((3, 3, 2, 2), 0.5)
    points = images.clone()
    points[:, 0, 0, 0] += torch.tensor([4.0, 4.00005, 4.001]) / 255
    for norm in ("linf", "l2"):
        assert is_within(points, images, 4, norm).tolist() == [True, True, False]
    points = images + 4 / 255  # in all twelve values
    assert is_within(points, images, 4, "linf").all()
    assert not is_within(points, images, 4, "l2").any()


@pytest.mark.parametrize("name", ["noise", "bim", "pgd-5", "mim", "dim", "apgd-ce+t", "autoattack"])
def test_the_worst_images_make_the_flags_again(name: str) -> None:
    plane = Plane(5)
    images = plane.images(24)
    labels = predicted(plane, images)
    labels[::6] = (labels[::6] + 1) % 5
    attack = find_attack(name, eps=0.6)
    if isinstance(attack, Ensemble):
        attack = replace(attack, steps=20, queries=50)
    found = attack.run(plane, images, labels, keys(24), 0)
    assert torch.equal(predicted(plane, found.images), found.pred)
    assert torch.equal(found.pred == labels, found.robust)
    assert torch.equal(found.margin > 0, found.robust)
    assert found.clean.tolist() == [row % 6 != 0 for row in range(24)]
    assert torch.equal(found.clean_pred, predicted(plane, images))
    assert not (found.robust & ~found.clean).any()
    assert found.linf.max() <= 0.6 + 1e-3
    assert found.linf[0] == 0
    assert found.queries[0] == 1
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert 0 < found.robust.sum() < 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 255, r"pixels from .* to .*; give them in \[0, 1\]"),
        (lambda x: x * 2 - 1, r"pixels from .* to"),
        (lambda x: x.half(), "images are torch.float16; give fp32"),
        (lambda x: x * math.nan, r"pixels from nan to nan"),
    ],
)
def test_pixels_of_another_space_are_refused(change: Any, words: str) -> None:
    plane = Plane(3)
    images = plane.images(2)
    with pytest.raises(CurateError, match=words):
        attacked(plane, change(images), torch.zeros(2, dtype=torch.int64), STEPS)


def test_labels_that_are_no_classes_are_refused() -> None:
    plane = Plane(3)
    images = plane.images(2)
    with pytest.raises(CurateError, match=r"labels from 0 to 3.*classes 0 to 2"):
        attacked(plane, images, torch.tensor([0, 3]), STEPS)
    with pytest.raises(CurateError, match="has 1 class"):
        attacked(Plane(1), images, torch.tensor([0, 0]), STEPS)
    with pytest.raises(ValueError, match="1 keys for 2 images"):
        attacked(plane, images, torch.tensor([0, 0]), STEPS, ["a"])
    with pytest.raises(ValueError, match=r"labels of shape \(1,\) for 2 images"):
        attacked(plane, images, torch.tensor([0]), STEPS)


@pytest.mark.parametrize("name", ["noise", "fgsm", "apgd-ce", "autoattack", "deepfool", "nes"])
def test_a_classifier_that_answers_nan_is_an_error_that_names_the_images(name: str) -> None:
    plane = Plane(4)
    images = plane.images(3)
    labels = predicted(plane, images)

    class Rotten(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            logits: Tensor = plane(given)
            return torch.where((given[:, :1, 0, 0] == images[1, 0, 0, 0]), math.nan, logits)

    with pytest.raises(NotFiniteError, match="images 1"):
        find_attack(name, eps=1).run(Rotten().eval(), images, labels, keys(3), 0)


@pytest.mark.parametrize(
    "name", ["noise", "fgsm", "mim", "pgd-3", "apgd-ce+dlr", "autoattack", "nes"]
)
def test_a_constant_classifier_is_robust_and_its_gradients_are_counted(name: str) -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([2.0, 1, 0, -1, -2]) + 0 * images.sum(dim=(1, 2, 3))[:, None]

    images = torch.full((3, 3, 8, 8), 0.5)
    labels = torch.tensor([0, 1, 0])
    attack = find_attack(name, eps=1)
    if name == "autoattack":
        assert isinstance(attack, Ensemble)
        attack = replace(attack, steps=5, queries=10)
    found = attack.run(Constant().eval(), images, labels, keys(3), 0)
    assert found.robust.tolist() == [True, False, True]
    assert found.zero_gradient.tolist() == [name != "noise", False, name != "noise"]
    assert found.images.isfinite().all()
    assert found.margin.tolist() == [1, -1, 1]


def test_saturated_logits_are_counted_for_the_cross_entropy_but_broken_by_the_margin() -> None:
    sharp = Plane(5, scale=300.0)
    images = sharp.images(30)
    labels = predicted(sharp, images)
    by_entropy, by_margin, by_dlr = (
        find_attack(name, eps=0.6).run(sharp, images, labels, keys(30), 0)
        for name in ("pgd-10", "pgd-dlr-10", "apgd-ce+dlr")
    )
    assert by_entropy.zero_gradient.float().mean() > 0.5
    assert by_entropy.robust.sum() > by_margin.robust.sum()
    assert not by_margin.zero_gradient.any()
    assert torch.equal(by_dlr.robust, by_margin.robust)


def test_an_empty_batch_has_an_empty_verdict() -> None:
    plane = Plane(3)
    none = torch.zeros(0, dtype=torch.int64)
    for name in ("noise", "pgd-3", "autoattack", "deepfool"):
        found = find_attack(name, eps=1).run(plane, torch.zeros(0, 3, 8, 8), none, [], 0)
        assert found.images.shape == (0, 3, 8, 8)
        assert found.robust.shape == (0,)
