"""The network behind `builtin:copy`: small, convolutional, one vector per picture."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

SIDE = 64
"""Side of the input in pixels; the aspect ratio is ignored."""
DIM = 128
"""Length of the descriptor."""
WIDTHS = (32, 64, 128, 256)
"""Channels of the stem and of the three stages; each halves the picture."""
_LOCAL = 64
_GRID = 4


class Stage(nn.Module):
    """A residual block of two 3 x 3 convolutions that halves the picture."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, before, s, s) -> (n, after, s / 2, s / 2)."""
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.skip(x))


class CopyNet(nn.Module):
    """(n, 3, SIDE, SIDE) RGB in [-1, 1] -> (n, DIM), not normalised.

    The head sees the last map twice: as its generalised mean (Radenovic et al., 2018), which does
    not know where things are, and cell by cell.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTHS[0])
        self.stages = nn.Sequential(*(Stage(a, b) for a, b in pairwise(WIDTHS)))
        self.local = nn.Conv2d(WIDTHS[-1], _LOCAL, 1)
        self.head = nn.Linear(WIDTHS[-1] + _LOCAL * _GRID * _GRID, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, SIDE, SIDE) -> (n, DIM)."""
        maps = self.stages(torch.relu(self.stem_norm(self.stem(x))))
        mean = (maps.clamp_min(1e-3) ** 3).mean(dim=(2, 3)) ** (1 / 3)
        vectors: torch.Tensor = self.head(torch.cat([mean, self.local(maps).flatten(1)], dim=1))
        return vectors
