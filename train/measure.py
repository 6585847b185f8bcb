"""How good a model is on training samples that were held out: clean and under attack.

Nothing of a test set is ever looked at while training; what is chosen, is chosen by this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from eval.attacks.gradient import GradientAttack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from eval.attacks.threat import Threat
    from eval.models.classifier import ZeroShot
    from train.loader import Loaded
    from train.processes import Processes

BATCH = 128


@dataclass(frozen=True)
class Held:
    """Held-out samples in memory; none for some of more processes than there are samples.

    Attributes:
        keys: item ids.
        images: (n, 3, H, W) uint8.
        labels: (n,) int64.
    """

    keys: tuple[str, ...]
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Accuracy:
    """Shares of the held-out samples.

    Attributes:
        images: how many there are.
        clean: share that is classified rightly.
        robust: share that is classified rightly under attack, too.
        zero_gradient: share that the attack could not move, for want of a gradient.
    """

    images: int
    clean: float
    robust: float
    zero_gradient: float


def gather(loaded: Iterable[Loaded]) -> Held:
    """Join batches; every sample has a label."""
    parts = list(loaded)
    if not parts:
        return Held((), torch.empty(0, 3, 0, 0, dtype=torch.uint8), torch.empty(0).long())
    labels = [part.labels for part in parts if part.labels is not None]
    return Held(
        tuple(key for part in parts for key in part.keys),
        torch.cat([part.images for part in parts]),
        torch.cat(labels),
    )


def accuracy(
    classifier: ZeroShot, held: Held, threat: Threat, seed: int, processes: Processes
) -> Accuracy:
    """Clean and robust accuracy over the samples of all processes.

    Args:
        classifier: in evaluation mode.
        held: this process's part of the samples.
        threat: the attack.
        seed: of its start.
        processes: who has the other parts.
    """
    device = classifier.texts.device
    attack = GradientAttack("held-out", threat)
    sums = torch.tensor([len(held.keys), 0, 0, 0], device=device)
    for begin in range(0, len(held.keys), BATCH):
        rows = slice(begin, begin + BATCH)
        images = held.images[rows].to(device).float() / 255
        labels = held.labels[rows].to(device)
        found = attack.run(classifier, images, labels, held.keys[rows], seed)
        sums[1:] += torch.stack(
            [flags.sum() for flags in (found.clean, found.robust, found.zero_gradient)]
        )
    images_in_all, *counts = processes.sum(sums).tolist()
    clean, robust, zero = (count / images_in_all for count in counts)
    return Accuracy(images_in_all, clean, robust, zero)
