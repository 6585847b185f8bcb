"""Losses that an attack raises, one number for each image.

z are logits, y the label, t a class that the attacker aims at, z_(1) >= z_(2) >= ... sorted.

| name | untargeted | targeted |
| --- | --- | --- |
| ce | -log softmax(z)_y | log softmax(z)_t |
| margin | -relu(z_y - max_{j != y} z_j + 50) | -relu(max_{j != t} z_j - z_t + 50) |
| dlr | -(z_y - max_{j != y} z_j) / (z_(1) - z_(3)) | -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2) |

Sources: margin, Carlini and Wagner 2017 in the form that Mao et al. 2023 (TeCoA) call CW; dlr,
Croce and Hein 2020. A dlr needs three classes, a targeted one four; with fewer it is the margin,
which has the same sign and lacks only the scaling.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

LossName = Literal["ce", "margin", "dlr"]
ROOM = 50.0
FLOOR = 1e-12
DLR_CLASSES, TARGETED_DLR_CLASSES = 3, 4


def attack_loss(
    name: LossName, logits: Tensor, labels: Tensor, targets: Tensor | None = None
) -> Tensor:
    """(n, C) logits, (n,) labels and targets -> (n,) losses, to be raised by the attacker."""
    if name == "ce":
        if targets is None:
            return functional.cross_entropy(logits, labels, reduction="none")
        return -functional.cross_entropy(logits, targets, reduction="none")
    needed = DLR_CLASSES if targets is None else TARGETED_DLR_CLASSES
    if name == "margin" or logits.shape[1] < needed:
        lead = margins(logits, labels) if targets is None else -margins(logits, targets)
        return -functional.relu(lead + ROOM)
    ranked = logits.sort(dim=1, descending=True).values
    if targets is None:
        return -margins(logits, labels) / (ranked[:, 0] - ranked[:, 2] + FLOOR)
    spread = ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
    return -(_at(logits, labels) - _at(logits, targets)) / (spread + FLOOR)


def margins(logits: Tensor, classes: Tensor) -> Tensor:
    """(n, C) logits -> (n,), that of a class minus the best of the others."""
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return _at(logits, classes) - others.amax(dim=1)


def _at(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]
