"""Images, keys and slow twins for tests of attacks."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.attacks.gradient import GradientAttack

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.attacks.threat import Threat
    from eval.attacks.trail import Verdict

SHAPE = (3, 32, 32)


class Plane(nn.Module):
    """Linear logits of small images, for which the least perturbations are known."""

    def __init__(self, classes: int, side: int = 8, scale: float = 1.0) -> None:
        super().__init__()
        drawn = torch.randn(classes, 3 * side * side, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(drawn * scale)
        self.side = side
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.5).flatten(1) @ self.weight.T

    def images(self, count: int) -> Tensor:
        """Away from the edges of the range."""
        generator = torch.Generator().manual_seed(2)
        drawn = torch.rand(count, 3, self.side, self.side, generator=generator)
        return 0.3 + 0.4 * drawn


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


@torch.no_grad()
def slow_walk(
    model: nn.Module, image: Tensor, label: Tensor, threat: Threat, noise: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """All points of a walk and their logits: the image itself, the start, and each step's."""
    points = [image]
    for steps in range(threat.steps + 1):
        if steps == 0:
            start = noise if threat.start == "uniform" else torch.zeros_like(noise)
            points.append((image + start * threat.eps / 255).clamp(0, 1))
        else:
            with torch.enable_grad():
                walked = replace(threat, steps=steps)
                points.append(naive_pgd(model, image, label, walked, noise))
    return [(point, model(point[None])[0]) for point in points]


def attacked(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    names: list[str] | None = None,
) -> Verdict:
    """An attack on the cross-entropy, seed 0."""
    names = keys(len(images)) if names is None else names
    return GradientAttack("test", threat).run(classifier, images, labels, names, 0)
