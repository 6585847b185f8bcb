"""Attacks that walk along the sign of the gradient, within an L-inf ball of pixels.

| attack | threat | source |
| --- | --- | --- |
| FGSM | one step of eps from the image | Goodfellow et al. 2015 |
| BIM | several steps from the image | Kurakin et al. 2017 |
| PGD | several steps from a uniform point of the ball | Madry et al. 2018 |

All are one loop: x <- clip(x + step sign(grad loss(x))), where clip keeps x within eps of the image
and within [0, 1]. Training and evaluation share it. What it holds to:

- The gradient is taken of the image alone, by `autograd.grad`, of the summed loss, so neither the
  size of the batch nor its other images enter, and no parameter gets a `.grad`.
- The model is in evaluation mode and its parameters are frozen meanwhile (`frozen`).
- A start is drawn for each image from its own key, so order and batches do not matter.
- An image whose gradient is exactly zero cannot be attacked this way. It is counted, because it
  would pass for robust.
- A loss that is not finite raises; its image would pass for robust, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Loss = Callable[[Tensor], Tensor]

Start = Literal["zero", "uniform"]


class NotFiniteError(CurateError):
    """A loss or a gradient is NaN or infinite.

    Attributes:
        rows: places of the images in the batch that was given.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = tuple(rows)
        shown = ", ".join(str(row) for row in self.rows[:5])
        more = ", ..." if len(self.rows) > 5 else ""  # noqa: PLR2004 - enough to look at
        super().__init__(f"the loss under attack is NaN or infinite for images {shown}{more}")


@dataclass(frozen=True)
class Threat:
    """What an attacker may do, in 255ths of the pixel range.

    Attributes:
        eps: radius of the L-inf ball.
        step: length of a step.
        steps: how many, at least one.
        start: zero (at the image) or uniform (anywhere in the ball).
    """

    eps: float
    step: float
    steps: int
    start: Start

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise CurateError(f"eps {self.eps}: must be a finite number of 255ths, 0 or more")
        if not (math.isfinite(self.step) and self.step > 0):
            raise CurateError(f"step {self.step}: must be a finite number of 255ths above 0")
        if self.steps < 1:
            raise CurateError(f"steps {self.steps}: must be at least 1")
        if self.start not in get_args(Start):
            raise CurateError(f"start {self.start!r}: choose from {', '.join(get_args(Start))}")


@dataclass(frozen=True)
class Attacked:
    """What an attack made.

    Attributes:
        images: (n, 3, H, W) fp32, detached, within eps of the originals and within [0, 1].
        zero_gradient: (n,) bool, the gradient was exactly zero in some step.
    """

    images: Tensor
    zero_gradient: Tensor


@dataclass(frozen=True)
class Flags:
    """How a classifier fared on attacked images.

    Attributes:
        clean: (n,) bool, right on the image itself.
        robust: (n,) bool, right on the image, on the start, and after every step.
        zero_gradient: (n,) bool, in some step still right, with a gradient of exactly zero.
    """

    clean: Tensor
    robust: Tensor
    zero_gradient: Tensor


def perturb(loss: Loss, images: Tensor, threat: Threat, noise: Tensor | None = None) -> Attacked:
    """Maximise a loss within a threat; what is returned is the last point.

    Args:
        loss: (n, 3, H, W) -> (n,) losses, one for each image.
        images: (n, 3, H, W) fp32 in [0, 1].
        threat: radius, steps, start.
        noise: (n, 3, H, W) in [-1, 1] from `start_noise`; read for a uniform start only.

    Raises:
        NotFiniteError: a loss or gradient is NaN or infinite.
    """
    box = _box(images, threat)
    point = _start(images, threat, noise, box)
    zero = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    broken = zero.clone()
    for _ in range(threat.steps):
        gradient, is_broken = _gradient(loss, point)
        zero |= _is_zero(gradient)
        broken |= is_broken
        point = _step(point, gradient, threat, box)
    _require_finite(~broken)
    return Attacked(point, zero)


def robust_flags(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    noise: Tensor | None = None,
    *,
    early_stop: bool = True,
) -> Flags:
    """Which images a classifier still gets right, under an attack on its cross-entropy.

    The attacker keeps the best point it meets: an image counts as robust only if it is right
    everywhere on the way, not only at the end. With `early_stop` an image leaves the batch as soon
    as it is wrong, which changes no flag (last bits of a network may depend on the batch's size).

    Args:
        classifier: (n, 3, H, W) in [0, 1] -> (n, C) logits; in evaluation mode.
        images: (n, 3, H, W) fp32 in [0, 1].
        labels: (n,) int64.
        threat: radius, steps, start.
        noise: as for `perturb`.
        early_stop: spare images that are already wrong.

    Raises:
        NotFiniteError: logits or a gradient are NaN or infinite.
        CurateError: the classifier is in training mode.
    """
    with frozen(classifier):
        clean = _right(classifier, images, labels)
        robust = clean.clone()
        zero = torch.zeros_like(clean)
        low, high = _box(images, threat)
        point = _start(images, threat, noise, (low, high))
        for _ in range(threat.steps):
            rows = (robust if early_stop else torch.ones_like(robust)).nonzero()[:, 0]
            if not len(rows):
                break
            target = labels[rows]
            with torch.enable_grad():
                here = point[rows].detach().requires_grad_()
                logits = classifier(here)
                total = functional.cross_entropy(logits, target, reduction="sum")
                (gradient,) = torch.autograd.grad(total, here)
            _require_finite(_finite_rows(logits) & _finite_rows(gradient), rows)
            robust[rows] &= logits.detach().argmax(dim=1) == target
            zero[rows] |= _is_zero(gradient) & robust[rows]
            point[rows] = _step(point[rows], gradient, threat, (low[rows], high[rows]))
        rows = robust.nonzero()[:, 0]
        if len(rows):
            robust[rows] &= _right(classifier, point[rows], labels[rows], rows)
    return Flags(clean, robust, zero)


def start_noise(keys: Sequence[str], seed: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform noise in [-1, 1) for images by key, (n, *shape) fp32 on the CPU.

    Each image draws from a generator of its own, made from (seed, key): its noise is the same in
    any batch and order. A training that wants other noise in each epoch says so in the seed.
    """
    noise = np.empty((len(keys), *shape), dtype=np.float32)
    for row, key in enumerate(keys):
        digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
        noise[row] = rng.random(shape, dtype=np.float32) * 2 - 1
    return torch.from_numpy(noise)


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient inside; what did before does again afterwards.

    Raises:
        CurateError: the module or a part of it is in training mode, in which batch statistics
            would follow the attacked images and dropout would blur their gradients; or a
            parameter's `.grad` changed meanwhile, which would leak into the next update.
    """
    training = [name or "the module" for name, part in module.named_modules() if part.training]
    if training:
        raise CurateError(f"attack: {training[0]} is in training mode; call .eval() before")
    before = [
        (name, parameter, parameter.requires_grad, parameter.grad, _version(parameter.grad))
        for name, parameter in module.named_parameters()
    ]
    for _, parameter, *_ in before:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for _, parameter, is_required, *_ in before:
            parameter.requires_grad = is_required
    for name, parameter, _, gradient, version in before:
        if parameter.grad is not gradient or _version(gradient) != version:
            raise CurateError(f"attack: parameter {name} got a gradient; take it of the image only")


def _version(gradient: Tensor | None) -> int:
    return -1 if gradient is None else gradient._version  # noqa: SLF001 - torch's own counter


def _box(images: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each pixel."""
    eps = threat.eps / 255
    return (images - eps).clamp(min=0), (images + eps).clamp(max=1)


def _start(
    images: Tensor, threat: Threat, noise: Tensor | None, box: tuple[Tensor, Tensor]
) -> Tensor:
    if threat.start == "zero":
        return images.detach().clone()
    if noise is None or noise.shape != images.shape:
        raise ValueError(f"a uniform start needs noise of shape {tuple(images.shape)}")
    return torch.clamp(images + noise.to(images) * (threat.eps / 255), *box).detach()


def _gradient(loss: Loss, point: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the summed loss, and (n,) bool where it or the loss is not finite."""
    with torch.enable_grad():
        here = point.detach().requires_grad_()
        values = loss(here)
        if values.shape != (len(point),):
            raise ValueError(f"a loss under attack is (n,), not {tuple(values.shape)}")
        (gradient,) = torch.autograd.grad(values.sum(), here)
    return gradient, ~(values.detach().isfinite() & _finite_rows(gradient))


def _step(point: Tensor, gradient: Tensor, threat: Threat, box: tuple[Tensor, Tensor]) -> Tensor:
    return torch.clamp(point + gradient.sign() * (threat.step / 255), *box).detach()


def _is_zero(gradient: Tensor) -> Tensor:
    return (gradient == 0).flatten(1).all(dim=1)


def _finite_rows(values: Tensor) -> Tensor:
    return values.detach().isfinite().flatten(1).all(dim=1)


def _require_finite(is_finite: Tensor, rows: Tensor | None = None) -> None:
    places = (~is_finite).nonzero()[:, 0]
    if len(places):
        raise NotFiniteError((places if rows is None else rows[places]).tolist())


@torch.no_grad()
def _right(
    classifier: nn.Module, images: Tensor, labels: Tensor, rows: Tensor | None = None
) -> Tensor:
    logits = classifier(images)
    _require_finite(_finite_rows(logits), rows)
    is_right: Tensor = logits.argmax(dim=1) == labels
    return is_right
