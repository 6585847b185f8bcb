"""Gradients from forward passes alone, for attackers who see scores only.

    g = 1 / (samples sigma) sum_i d_i (L(x + sigma d_i) - L(x - sigma d_i)),  i = 1 .. samples / 2

with Gaussian directions d (NES: Ilyas et al. 2018) or random signs (SPSA: Spall 1992, Uesato et al.
2018; the sign is its own inverse). Both are unbiased for a quadratic loss. Points may leave [0, 1]
by sigma; the classifier takes them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Estimator:
    """How a gradient is estimated.

    Attributes:
        directions: gaussian (NES) or signs (SPSA).
        samples: forward passes, an even number: each direction is tried both ways.
        sigma: length of the difference, in units of the pixel range.
    """

    directions: Literal["gaussian", "signs"]
    samples: int = 100
    sigma: float = 0.001

    def gradient(
        self, loss: Callable[[Tensor], Tensor], point: Tensor, generator: torch.Generator
    ) -> Tensor:
        """One image's gradient.

        All samples of an image are one batch, so that its estimate does not know of other images.

        Args:
            loss: (samples, 3, H, W) -> (samples,).
            point: (3, H, W).
            generator: the image's own, on the device of the point.
        """
        shape = (self.samples // 2, *point.shape)
        directions = torch.randn(shape, generator=generator, device=point.device)
        if self.directions == "signs":
            directions = torch.where(directions < 0, -1.0, 1.0)
        with torch.inference_mode():
            ahead, behind = loss(
                torch.cat([point + self.sigma * directions, point - self.sigma * directions])
            ).chunk(2)
            weights = (ahead - behind) / (self.samples * self.sigma)
            return torch.einsum("i,i...->...", weights, directions).clone()
