"""What an attacker may do: a ball around each image, steps in it, and where the walk starts.

Radii and steps are in 255ths of the pixel range, at the size of the images that are given. An L2
radius is in the same unit: 127.5 is a distance of 0.5 between images in [0, 1].
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Sequence

Start = Literal["zero", "uniform"]
Norm = Literal["linf", "l2"]
TINY = 1e-12


@dataclass(frozen=True)
class Threat:
    """What an attacker may do, in 255ths of the pixel range.

    Attributes:
        eps: radius of the ball.
        step: length of a step, in the same norm.
        steps: how many, at least one.
        start: zero (at the image) or uniform (anywhere in the ball).
        norm: of the ball.
    """

    eps: float
    step: float
    steps: int
    start: Start
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise CurateError(f"eps {self.eps}: must be a finite number of 255ths, 0 or more")
        if not (math.isfinite(self.step) and self.step > 0):
            raise CurateError(f"step {self.step}: must be a finite number of 255ths above 0")
        if self.steps < 1:
            raise CurateError(f"steps {self.steps}: must be at least 1")
        if self.start not in get_args(Start):
            raise CurateError(f"start {self.start!r}: choose from {', '.join(get_args(Start))}")
        if self.norm not in get_args(Norm):
            raise CurateError(f"norm {self.norm!r}: choose from {', '.join(get_args(Norm))}")


class Ball:
    """The points within eps of each image, and within [0, 1].

    Attributes:
        images: (n, 3, H, W) fp32, the centres.
        eps: radius, in units of the pixel range.
        norm: of the distance.
    """

    def __init__(self, images: Tensor, eps: float, norm: Norm) -> None:
        """Eps is in 255ths here, as everywhere outside of this class."""
        self.images = images
        self.eps = eps / 255
        self.norm = norm
        reach = self.eps if norm == "linf" else 1
        self._low = (images - reach).clamp(min=0)
        self._high = (images + reach).clamp(max=1)

    def project(self, points: Tensor, rows: Tensor) -> Tensor:
        """(m, 3, H, W), one near each of the rows -> points of their balls."""
        if self.norm == "l2":
            change = points - self.images[rows]
            length = l2_norms(change)
            points = self.images[rows] + change * (self.eps / length.clamp(min=TINY)).clamp(max=1)
        return torch.clamp(points, self._low[rows], self._high[rows]).detach()

    def inside(self, noise: Tensor) -> Tensor:
        """(n, 3, H, W) points of the unit ball -> points of the balls, clipped to [0, 1]."""
        rows = torch.arange(len(self.images), device=self.images.device)
        return self.project(self.images + noise.to(self.images) * self.eps, rows)

    def ascent(self, gradient: Tensor) -> Tensor:
        """(m, 3, H, W) gradients -> steps of length 1: their sign, or their direction."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / l2_norms(gradient).clamp(min=TINY)


def start_noise(
    keys: Sequence[str],
    seed: int,
    shape: tuple[int, ...],
    norm: Norm = "linf",
    stream: str = "",
) -> Tensor:
    """Uniform points of the unit ball for images by key, (n, *shape) fp32 on the CPU.

    Each image draws from a generator of its own, made from (seed, stream, key): its noise is the
    same in any batch and order. A training that wants other noise in each epoch says so in the
    seed, an attack with several starts in the stream.
    """
    noise = np.empty((len(keys), *shape), dtype=np.float32)
    for row, key in enumerate(keys):
        rng = np.random.default_rng(entropy(key, seed, stream))
        if norm == "linf":
            noise[row] = rng.random(shape, dtype=np.float32) * 2 - 1
        else:
            direction = rng.standard_normal(shape, dtype=np.float32)
            radius = rng.random() ** (1 / direction.size)
            noise[row] = direction * (radius / np.linalg.norm(direction))
    return torch.from_numpy(noise)


def entropy(key: str, seed: int, stream: str = "") -> int:
    """128 bits for an image's own generator, from its key, a seed and what they are drawn for."""
    digest = hashlib.sha256(f"{seed}{stream}\0{key}".encode()).digest()
    return int.from_bytes(digest[:16], "little")


def l2_norms(values: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, 1, 1) lengths."""
    lengths: Tensor = values.flatten(1).norm(dim=1)
    return lengths[:, None, None, None]
