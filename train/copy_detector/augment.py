"""Copies of pictures as a batch of tensors, made up fast enough to train on while they are made.

The edits are those by which pictures travel: cut out, framed, turned a little, recoloured, blurred,
saved again, written over, placed in another picture. All randomness comes from the generator that
is handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as nn

from curate.encoders.copy_net import SIDE

if TYPE_CHECKING:
    from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
_JPEG_BLOCK = 8


@dataclass(frozen=True)
class Strength:
    """How far a copy may be from its original.

    Attributes:
        crop: smallest share of each side that is kept.
        turn: largest rotation in degrees.
        frame: odds of bars or a frame around the picture.
        cover: odds of something laid over it.
        paste: odds of being placed inside another picture.
        tone: scale of all changes of tone.
        blur: largest blur, in pixels of the network's input.
        grey: odds of losing all colour.
    """

    crop: float
    turn: float
    frame: float
    cover: float
    paste: float
    tone: float
    blur: float
    grey: float


MILD = Strength(0.85, 4, 0.05, 0.05, 0.0, 0.5, 0.6, 0.05)
HEAVY = Strength(0.42, 20, 0.15, 0.35, 0.1, 1.0, 1.4, 0.12)


class Draws:
    """Random numbers of a batch, from one generator.

    Attributes:
        count: images in the batch.
    """

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self._generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(count, *shape) numbers between low and high."""
        draws = torch.rand((self.count, *shape), generator=self._generator)
        return low + (high - low) * draws

    def normal(self, *shape: int) -> Tensor:
        """(count, *shape) standard normal numbers."""
        return torch.randn((self.count, *shape), generator=self._generator)

    def chance(self, odds: float) -> Tensor:
        """(count,) Boolean."""
        return self.uniform(0, 1) < odds

    def log_uniform(self, factor: float, *shape: int) -> Tensor:
        """(count, *shape) numbers between 1 / factor and factor."""
        return torch.exp(self.uniform(-1, 1, *shape) * math.log(factor))


def views(images: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """Edited copies of a batch of pictures, each edited in a way of its own.

    Args:
        images: (n, 3, h, w) float32 in [0, 1], any size.
        strength: how far the copies may go.
        generator: where randomness comes from.

    Returns:
        (n, 3, SIDE, SIDE) float32 in [0, 1].
    """
    draws = Draws(len(images), generator)
    out = place(images, strength, draws)
    out = retone(out, strength, draws)
    out = soften(out, strength, draws)
    out = cover(out, strength, draws)
    out = paste(out, strength, draws)
    return degrade(out, draws)


def originals(images: Tensor) -> Tensor:
    """The pictures as the network sees them unedited: (n, 3, h, w) -> (n, 3, SIDE, SIDE)."""
    return nn.interpolate(
        images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
    )


def place(images: Tensor, strength: Strength, draws: Draws) -> Tensor:
    """Crop, stretch, turn and frame: one affine resampling on a canvas of one colour."""
    keep = draws.uniform(strength.crop, 1.0).sqrt().unsqueeze(1) * torch.ones(1, 2)
    keep = keep * draws.uniform(strength.crop, 1.0, 2).sqrt()
    shift = (1 - keep) * draws.uniform(-1, 1, 2)
    frame = torch.where(
        draws.chance(strength.frame).unsqueeze(1), draws.uniform(0.55, 1.0, 2), torch.ones(1, 2)
    )
    # one side alone for half of the frames: a letterbox
    frame = torch.where((draws.uniform(0, 1, 2) < 0.4), torch.ones(1, 2), frame)  # noqa: PLR2004
    angle = torch.deg2rad(draws.uniform(-strength.turn, strength.turn)) * draws.chance(0.5)
    cos, sin = torch.cos(angle), torch.sin(angle)
    scale = keep / frame
    rows = torch.stack(
        [
            torch.stack([cos * scale[:, 0], -sin * scale[:, 0], shift[:, 0]], dim=1),
            torch.stack([sin * scale[:, 1], cos * scale[:, 1], shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    shape = (len(images), 3, SIDE, SIDE)
    grid = nn.affine_grid(rows, list(shape), align_corners=False)
    colour = draws.uniform(0, 1, 3) * draws.chance(0.6).unsqueeze(1)
    colour = colour[:, :, None, None]
    return nn.grid_sample(images - colour, grid, padding_mode="zeros", align_corners=False) + colour


def retone(images: Tensor, strength: Strength, draws: Draws) -> Tensor:
    """Brightness, contrast, gamma, saturation, tint and loss of colour."""
    amount = strength.tone
    luma = (images * torch.tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    colourful = draws.log_uniform(1 + 0.8 * amount) * ~draws.chance(strength.grey)
    out = luma + (images - luma) * colourful[:, None, None, None]
    tint = draws.log_uniform(1 + 0.25 * amount, 3)[:, :, None, None]
    contrast = draws.log_uniform(1 + 0.6 * amount)[:, None, None, None]
    bright = draws.uniform(-0.18 * amount, 0.18 * amount)[:, None, None, None]
    out = ((out * tint - 0.5) * contrast + 0.5 + bright).clamp(0, 1)
    gamma = draws.log_uniform(1 + 0.6 * amount)[:, None, None, None]
    return (out + 1e-4) ** gamma


def soften(images: Tensor, strength: Strength, draws: Draws) -> Tensor:
    """Gaussian blur of a random width, or a sharpening of what a blur would take."""
    width = draws.uniform(0.3, strength.blur)
    taps = torch.arange(-3, 4)
    kernel = torch.exp(-0.5 * (taps / width.unsqueeze(1)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    planes = images.reshape(1, -1, SIDE, SIDE)
    across = nn.conv2d(
        nn.pad(planes, (3, 3, 0, 0), "replicate"), kernel[:, None, None], groups=len(kernel)
    )
    both = nn.conv2d(
        nn.pad(across, (0, 0, 3, 3), "replicate"), kernel[:, None, :, None], groups=len(kernel)
    )
    blurred = both.reshape(images.shape)
    share = torch.where(draws.chance(0.4), 1.0, torch.where(draws.chance(0.3), -0.8, 0.0))
    return (images + share[:, None, None, None] * (blurred - images)).clamp(0, 1)


def cover(images: Tensor, strength: Strength, draws: Draws) -> Tensor:
    """Bars, boxes and rows of marks like lettering, laid over the picture."""
    out = images
    line = torch.linspace(0, 1, SIDE)
    for _ in range(2):
        size = torch.where(
            draws.chance(0.4).unsqueeze(1),
            torch.stack([torch.ones(draws.count), draws.uniform(0.08, 0.35)], dim=1),
            draws.uniform(0.1, 0.45, 2),
        )
        size = torch.where(draws.chance(0.5).unsqueeze(1), size, size.flip(1))
        corner = draws.uniform(0, 1, 2) * (1 - size)
        # to an edge, where bars and logos are
        corner = torch.where(draws.uniform(0, 1, 2) < 0.5, corner.round(), corner) * (1 - size)  # noqa: PLR2004
        inside = (line >= corner[..., None]) & (line <= (corner + size)[..., None])
        mask = (inside[:, 0, None, :] & inside[:, 1, :, None]).unsqueeze(1)
        marks = nn.interpolate(draws.uniform(0, 1, 1, 8, 16), (SIDE, SIDE)) > 0.55  # noqa: PLR2004
        mask = mask & (marks | draws.chance(0.6)[:, None, None, None])
        mask = mask & draws.chance(strength.cover)[:, None, None, None]
        out = torch.where(mask, draws.uniform(0, 1, 3, 1, 1), out)
    return out


def paste(images: Tensor, strength: Strength, draws: Draws) -> Tensor:
    """Shrink the picture and put it inside its neighbour in the batch."""
    if strength.paste == 0:
        return images
    size = draws.uniform(0.55, 0.9)
    shift = draws.uniform(-1, 1, 2) * (1 - size).unsqueeze(1)
    zero = torch.zeros_like(size)
    rows = torch.stack(
        [
            torch.stack([1 / size, zero, -shift[:, 0] / size], dim=1),
            torch.stack([zero, 1 / size, -shift[:, 1] / size], dim=1),
        ],
        dim=1,
    )
    chosen = torch.nonzero(draws.chance(strength.paste)).flatten()
    if not len(chosen):
        return images
    grid = nn.affine_grid(rows[chosen], [len(chosen), 3, SIDE, SIDE], align_corners=False)
    small = nn.grid_sample(images[chosen], grid, padding_mode="border", align_corners=False)
    inside = (grid.abs() <= 1).all(dim=-1).unsqueeze(1)
    out = images.clone()
    out[chosen] = torch.where(inside, small, images.roll(1, dims=0)[chosen])
    return out


@lru_cache(maxsize=1)
def _dct() -> Tensor:
    """(8, 8) orthonormal DCT-II, a frequency per row."""
    k, x = torch.arange(_JPEG_BLOCK)[:, None], torch.arange(_JPEG_BLOCK)
    rows = torch.cos(math.pi * (x + 0.5) * k / _JPEG_BLOCK) * math.sqrt(2 / _JPEG_BLOCK)
    rows[0] /= math.sqrt(2)
    return rows


def degrade(images: Tensor, draws: Draws) -> Tensor:
    """Noise and coarse block-transform coding; the steps grow with the frequency, as JPEG's do."""
    sigma = draws.uniform(0, 0.06) * draws.chance(0.3)
    out = images + sigma[:, None, None, None] * draws.normal(3, SIDE, SIDE)
    chosen = torch.nonzero(draws.chance(0.3)).flatten()
    step = draws.uniform(0.01, 0.12)[chosen]
    if len(chosen):
        blocks = out[chosen].unfold(2, 8, 8).unfold(3, 8, 8)
        matrix = _dct()
        k = torch.arange(_JPEG_BLOCK)
        table = (1 + k[:, None] + k) * step[:, None, None, None, None, None]
        waves = matrix @ blocks @ matrix.T
        waves = torch.round(waves / table) * table
        blocks = matrix.T @ waves @ matrix
        out[chosen] = blocks.permute(0, 1, 2, 4, 3, 5).reshape(len(chosen), 3, SIDE, SIDE)
    return out.clamp(0, 1)
