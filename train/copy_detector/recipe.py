"""The training of the copy detector: InfoNCE between two edits of a picture, and entropy.

Source of the method: Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", CVPR
2022 (SSCD): InfoNCE, a regulariser of differential entropy over the batch, heavy edits. Here the
network is small, and one of the two edits is often none, as an index holds unedited pictures.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from curate.encoders.copy_net import CopyNet
from train.copy_detector.augment import HEAVY, MILD, originals, views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from train.copy_detector.sources import Source


@dataclass(frozen=True)
class Recipe:
    """All numbers of the training.

    Attributes:
        steps: of the optimiser.
        batch: pictures per step; each is seen in two edits.
        rate: largest learning rate (AdamW; linear warm-up, then cosine).
        warm_up: steps.
        decay: weight decay of matrices.
        temperature: of InfoNCE.
        entropy: weight of the regulariser.
        memory: of the exponential mean of the weights, which is what is kept.
        seed: of weights, batches and edits.
    """

    steps: int = 1000
    batch: int = 512
    rate: float = 2e-3
    warm_up: int = 100
    decay: float = 0.02
    temperature: float = 0.05
    entropy: float = 5.0
    memory: float = 0.998
    seed: int = 0


def info_nce(vectors: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE over 2n unit rows, of which i and i + n are a pair; all others are negatives.

    Source: van den Oord et al. 2018, in the symmetric form of Chen et al. 2020 (NT-Xent).
    """
    scores = (vectors @ vectors.T).fill_diagonal_(-math.inf) / temperature
    partner = torch.arange(len(vectors)).roll(len(vectors) // 2)
    loss: torch.Tensor = functional.cross_entropy(scores, partner)
    return loss


def entropy_loss(vectors: torch.Tensor) -> torch.Tensor:
    """Mean of -log distance to the nearest row that is no partner (Kozachenko and Leonenko)."""
    half = len(vectors) // 2
    with torch.no_grad():
        scores = vectors @ vectors.T
        scores.fill_diagonal_(-math.inf)
        rows = torch.arange(len(vectors))
        scores[rows, rows.roll(half)] = -math.inf
        nearest = scores.argmax(dim=1)
    loss: torch.Tensor = -(vectors - vectors[nearest]).norm(dim=1).clamp_min(1e-4).log().mean()
    return loss


def train(
    sources: Sequence[Source], recipe: Recipe, on_step: Callable[[int, float, float], None]
) -> CopyNet:
    """Train a network.

    Args:
        sources: what it sees.
        recipe: how.
        on_step: called after each step with its number and the two losses.

    Returns:
        The exponential mean of the weights, in evaluation mode.
    """
    rng = np.random.default_rng(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    with torch.random.fork_rng(devices=[]):  # first weights know no generator but torch's own
        torch.manual_seed(recipe.seed)
        net = CopyNet().to(memory_format=torch.channels_last)
    mean = copy.deepcopy(net)
    optimiser = _optimiser(net, recipe)
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, recipe)
        pictures = _edited(sources, recipe.batch, rng, generator)
        with torch.autocast("cpu", torch.bfloat16):
            features = net(pictures.to(memory_format=torch.channels_last))
        vectors = functional.normalize(features.float(), dim=1)
        contrast = info_nce(vectors, recipe.temperature)
        spread = entropy_loss(vectors)
        (contrast + recipe.entropy * spread).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        _follow(mean, net, min(recipe.memory, step / (step + 20)))
        on_step(step + 1, contrast.item(), spread.item())
    return mean.eval()


def rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate of a step, from 0."""
    warm = min(1.0, (step + 1) / recipe.warm_up)
    return recipe.rate * (warm * (0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)) + 0.005)


def _optimiser(net: CopyNet, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [weight for weight in net.parameters() if weight.ndim > 1]
    others = [weight for weight in net.parameters() if weight.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))


@torch.no_grad()
def _edited(
    sources: Sequence[Source], batch: int, rng: np.random.Generator, generator: torch.Generator
) -> torch.Tensor:
    """(2 batch, 3, side, side) in [-1, 1]: first edits, then second ones."""
    first, second = [], []
    for source in sources:
        pictures = source.draw(round(batch * source.share), rng)
        half = len(pictures) // 2
        untouched, mild = originals(pictures[:half]), views(pictures[half:], MILD, generator)
        first += [untouched, mild]
        second.append(views(pictures, HEAVY, generator))
    return torch.cat(first + second) * 2 - 1


@torch.no_grad()
def _follow(mean: CopyNet, net: CopyNet, memory: float) -> None:
    for kept, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - memory)
        else:
            kept.copy_(new)
