"""The loop of all attacks that walk uphill within a ball of pixels.

x <- project(x + step ascent(gradient)), where ascent is the sign (L-inf) or the direction (L2) and
project keeps x within eps of the image and within [0, 1]. Training and evaluation share it. What it
holds to:

- The gradient is taken of the image alone, by `autograd.grad`, of the summed loss, so neither the
  size of the batch nor its other images enter, and no parameter gets a `.grad`.
- The model is in evaluation mode and its parameters are frozen meanwhile (`guard.frozen`).
- A start is drawn for each image from its own key, so order and batches do not matter.
- An image whose gradient is exactly zero cannot be attacked this way. It is counted, because it
  would pass for robust.
- A loss that is not finite raises; its image would pass for robust, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eval.attacks.guard import finite_rows, require_finite
from eval.attacks.threat import Ball
from eval.attacks.trail import is_zero

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.attacks.threat import Threat

    Loss = Callable[[Tensor], Tensor]
    Source = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Attacked:
    """What a walk to the last point made.

    Attributes:
        images: (n, 3, H, W) fp32, detached, within eps of the originals and within [0, 1].
        zero_gradient: (n,) bool, the gradient was exactly zero in some step.
    """

    images: Tensor
    zero_gradient: Tensor


def perturb(loss: Loss, images: Tensor, threat: Threat, noise: Tensor | None = None) -> Attacked:
    """Maximise a loss within a threat; what is returned is the last point.

    Args:
        loss: (n, 3, H, W) -> (n,) losses, one for each image.
        images: (n, 3, H, W) fp32 in [0, 1].
        threat: radius, steps, start.
        noise: (n, 3, H, W) in the unit ball, from `start_noise`; read for a uniform start only.

    Raises:
        NotFiniteError: a loss or gradient is NaN or infinite.
    """
    every = torch.arange(len(images), device=images.device)
    zero = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    broken = zero.clone()

    def source(rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        values, gradient = gradient_of(loss, points)
        # collected and raised at the end: looking now would make the processor wait for the device
        broken.logical_or_(~(values.isfinite() & finite_rows(gradient)))
        zero.logical_or_(is_zero(gradient))
        return rows, gradient

    point = walk(images, threat, noise, source, lambda: every)
    require_finite(~broken)
    return Attacked(point, zero)


def walk(
    images: Tensor,
    threat: Threat,
    noise: Tensor | None,
    source: Source,
    alive: Callable[[], Tensor],
    *,
    decay: float | None = None,
) -> Tensor:
    """Walk uphill; return the last points, (n, 3, H, W), detached.

    Args:
        images: (n, 3, H, W) fp32 in [0, 1].
        threat: radius, steps, start.
        noise: as for `perturb`.
        source: (rows, their points) -> (rows that are still worth moving, their gradients).
        alive: the rows that take part in the next step.
        decay: of the momentum, or None for none. Momentum is the sum of gradients, each divided
            by its mean absolute value, image by image; a zero gradient adds nothing. Source: Dong
            et al. 2018 (MI-FGSM).

    Raises:
        ValueError: a uniform start without noise of the images' shape.
    """
    ball = Ball(images, threat.eps, threat.norm)
    point = _start(ball, threat, noise)
    momentum = None if decay is None else torch.zeros_like(point)
    for _ in range(threat.steps):
        rows = alive()
        if not len(rows):
            break
        rows, gradient = source(rows, point[rows])
        if decay is not None and momentum is not None:
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
            scaled = gradient / torch.where(size > 0, size, 1)
            gradient = momentum[rows] * decay + scaled
            momentum[rows] = gradient
        change = ball.ascent(gradient) * (threat.step / 255)
        point[rows] = ball.project(point[rows] + change, rows)
    return point


def gradient_of(loss: Loss, points: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (n,), and the gradient of their sum, (n, 3, H, W), both detached."""
    with torch.enable_grad():
        here = points.detach().requires_grad_()
        values = loss(here)
        if values.shape != (len(points),):
            raise ValueError(f"a loss under attack is (n,), not {tuple(values.shape)}")
        (gradient,) = torch.autograd.grad(values.sum(), here)
    return values.detach(), gradient


def _start(ball: Ball, threat: Threat, noise: Tensor | None) -> Tensor:
    if threat.start == "zero":
        return ball.images.detach().clone()
    if noise is None or noise.shape != ball.images.shape:
        raise ValueError(f"a uniform start needs noise of shape {tuple(ball.images.shape)}")
    return ball.inside(noise)
