"""Input diversity: gradients are taken of images that were shrunk and padded at random.

With probability p an image is resized to a side drawn from [least, 1) of its own and padded with
black to its old size at a random place. Each image draws for itself in each step. Source: Xie et
al. 2019 (DI-2-FGSM); sides and places are drawn from the ranges of its published code.

A bilinear resize is a product with one matrix from the left and one from the right, and padding
only places their rows, so a whole batch with different sides is two matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


@dataclass(frozen=True)
class Diversity:
    """How images are varied.

    Attributes:
        probability: of varying an image in a step.
        least: smallest side, as a share of the old one.
    """

    probability: float = 0.5
    least: float = 0.9


@dataclass(frozen=True)
class Draw:
    """How one image is varied in one step.

    Attributes:
        height: after shrinking; `width` likewise.
        top: rows of padding above; `left` likewise.
    """

    height: int
    width: int
    top: int
    left: int


def draw(diversity: Diversity, size: tuple[int, int], rng: np.random.Generator) -> Draw | None:
    """What happens to an image of size (H, W) next, or None to leave it as it is."""
    is_varied, share, down, right = rng.random(4)
    if is_varied >= diversity.probability:
        return None
    height, width = (
        min(int(diversity.least * side + share * (1 - diversity.least) * side), side - 1)
        for side in size
    )
    return Draw(height, width, int(down * (size[0] - height)), int(right * (size[1] - width)))


def diversify(images: Tensor, draws: Sequence[Draw | None]) -> Tensor:
    """(n, 3, H, W), one draw for each -> (n, 3, H, W), differentiable."""
    height, width = images.shape[-2:]
    whole = Draw(height, width, 0, 0)
    each = [item or whole for item in draws]
    left = torch.stack([_resize(height, item.height, item.top) for item in each]).to(images)
    right = torch.stack([_resize(width, item.width, item.left) for item in each]).to(images)
    return left[:, None] @ images @ right[:, None].transpose(-1, -2)


@cache
def _resize(side: int, smaller: int, offset: int) -> Tensor:
    """(side, side) matrix: a column of pixels -> itself, resized bilinearly and padded."""
    unit = torch.eye(side)[None, None]
    rows = functional.interpolate(unit, (smaller, side), mode="bilinear", align_corners=False)
    return functional.pad(rows[0, 0], (0, 0, offset, side - smaller - offset))
