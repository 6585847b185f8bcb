"""Least perturbations: of a linear classifier they are known, and nothing leaks out of foolbox."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from attacking import Plane, keys, predicted
from torch import Tensor, nn

from eval.attacks.least import LeastAttack
from eval.attacks.registry import find_attack

NAMES = ("deepfool", "fmn-linf", "fmn-l2", "cw-l2-3")


def least(plane: Plane, images: Tensor, labels: Tensor, dual: float) -> Tensor:
    """Distance to the nearest boundary of a linear classifier: min margin / dual norm."""
    logits, weight = plane(images).detach(), plane.weight.detach()
    found = torch.full((len(images),), torch.inf)
    for row, label in enumerate(labels.tolist()):
        for other in range(logits.shape[1]):
            if other != label:
                normal = weight[label] - weight[other]
                gap = logits[row, label] - logits[row, other]
                found[row] = min(found[row], float(gap / normal.norm(dual)))
    return found


@pytest.mark.parametrize("name", [*NAMES[:3], "cw-l2-9"])
def test_the_distances_of_a_linear_classifier_are_found(name: str) -> None:
    plane = Plane(5)
    images = plane.images(12)
    labels = predicted(plane, images)
    labels[3] = (labels[3] + 1) % 5
    attack = find_attack(name, eps=1)
    found = attack.run(plane, images, labels, keys(12), 0)
    linf = attack.facts()["norm"] == "linf"
    exact = least(plane, images, labels, 1 if linf else 2) * (255 if linf else 1)
    length = found.linf if linf else found.l2
    right = found.clean
    assert right.tolist() == [row != 3 for row in range(12)]
    assert length[3] == 0
    assert (length[right] > 0.999 * exact[right]).all()
    # steps of 0.01 are coarse for Carlini and Wagner beside distances of 0.03
    assert (length[right] < (2.5 if name == "cw-l2-9" else 1.15) * exact[right]).all()
    assert (predicted(plane, found.images)[right] != labels[right]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_at_eps_follows_from_the_distance(name: str) -> None:
    plane = Plane(5)
    images = plane.images(12)
    labels = predicted(plane, images)
    free = find_attack(name, eps=255 * 8).run(plane, images, labels, keys(12), 0)
    assert not free.robust.any()
    length = free.linf if find_attack(name, eps=1).facts()["norm"] == "linf" else free.l2 * 255
    eps = float(length.median()) + 1e-3
    found = find_attack(name, eps=eps).run(plane, images, labels, keys(12), 0)
    assert torch.equal(found.robust, length > eps)
    assert 0 < found.robust.sum() < 12
    assert torch.equal(found.linf, free.linf)
    assert torch.equal(found.images, free.images)
    assert torch.equal(found.pred == labels, found.robust)
    assert torch.equal(found.margin > 0, found.robust)


@pytest.mark.parametrize("name", NAMES)
def test_neither_batch_nor_order_matters(name: str) -> None:
    plane = Plane(4)
    images, names = plane.images(7), keys(7)
    labels = predicted(plane, images)
    attack = find_attack(name, eps=1)
    whole = attack.run(plane, images, labels, names, 0)
    for rows in torch.tensor([6, 2, 0, 1, 5, 4, 3]).split(2):
        part = attack.run(plane, images[rows], labels[rows], [names[row] for row in rows], 1)
        torch.testing.assert_close(part.images, whole.images[rows], atol=1e-5, rtol=0)
        assert torch.equal(part.robust, whole.robust[rows])


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_leaks_into_weights(name: str) -> None:
    plane = Plane(3)
    images = plane.images(3)
    assert plane.weight.requires_grad
    found = find_attack(name, eps=1).run(plane, images, predicted(plane, images), keys(3), 0)
    assert plane.weight.grad is None
    assert plane.weight.requires_grad
    assert found.queries.min() > 2
    assert not found.images.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_broken_is_infinitely_far(name: str) -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0, -1.0]) + 0 * images.sum(dim=(1, 2, 3))[:, None]

    images = torch.full((2, 3, 8, 8), 0.5)
    attack = find_attack(name, eps=8)
    found = attack.run(Constant().eval(), images, torch.tensor([0, 2]), keys(2), 0)
    assert found.clean.tolist() == [True, False]
    assert found.robust.tolist() == [True, False]
    assert found.linf.tolist() == [torch.inf, 0]
    assert found.l2.tolist() == [torch.inf, 0]
    assert torch.equal(found.images, images)
    assert found.zero_gradient.tolist() == [True, False]


def test_all_wrong_images_need_no_search() -> None:
    plane = Plane(3)
    images = plane.images(4)
    found = find_attack("deepfool", eps=1).run(
        plane, images, (predicted(plane, images) + 1) % 3, keys(4), 0
    )
    assert not found.robust.any()
    assert found.queries.tolist() == [1] * 4
    assert torch.equal(found.images, images)


def test_binary_searches_are_stated_and_can_be_chosen() -> None:
    nine, three = find_attack("cw-l2", eps=128), find_attack("cw-l2-3", eps=128)
    assert nine.facts()["binary_search_steps"] == 9
    assert three.facts()["binary_search_steps"] == 3
    assert nine.facts()["library"].startswith("foolbox 3")
    assert isinstance(three, LeastAttack)
    assert dataclasses.replace(three, name="x").facts()["attack"] == "x"


def test_where_nothing_is_found_the_classifier_is_not_asked_about_no_images() -> None:
    class Sure(nn.Module):
        """No pixel changes its mind, and it cannot be asked about no images, as a ViT."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)

        def forward(self, images: Tensor) -> Tensor:
            assert len(images)
            first = images.mean(dim=(1, 2, 3)) * 1e-4 + self.weight
            return torch.stack([first + 1, first], dim=1)

    images = torch.full((3, 3, 8, 8), 0.5)
    labels = torch.zeros(3, dtype=torch.long)
    found = find_attack("cw-l2-1", eps=64).run(Sure().eval(), images, labels, keys(3), 0)
    assert found.robust.all()
    assert found.l2.isinf().all()
