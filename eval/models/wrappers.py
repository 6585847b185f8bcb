"""Classifiers around classifiers: what stands between pixels, a model's input and the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

STEADY = 16
"""Fewest images with which kernels were seen to answer as they do for many (oneDNN, fp32)."""


class Resized(nn.Module):
    """A classifier that takes square images of any size and resizes them inside the gradient.

    An attack at the size in which a data set is stored (32 px of CIFAR, 96 px of STL) is another
    threat than one at the size of the model's input. Bicubic with anti-aliasing, as open_clip
    resizes, without its rounding to 255 levels; clipped to [0, 1], which bicubic leaves.

    Attributes:
        classifier: (n, 3, size, size) -> (n, C).
        size: of its input.
    """

    def __init__(self, classifier: nn.Module, size: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, s, s) fp32 in [0, 1] -> (n, C) logits."""
        if images.shape[-1] != self.size:
            images = functional.interpolate(
                images, (self.size, self.size), mode="bicubic", antialias=True
            ).clamp(0, 1)
        logits: Tensor = self.classifier(images)
        return logits


class Grouped(nn.Module):
    """A classifier over labels that stand for several classes each; the best class speaks.

    Source: the testbed's rule for ObjectNet and the video sets (Taori et al. 2020).

    Attributes:
        classifier: (n, 3, H, W) -> (n, C).
        rows: (labels, widest group) int64 places among the C classes, filled up by repetition.
    """

    rows: Tensor

    def __init__(self, classifier: nn.Module, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.classifier = classifier
        width = max(len(group) for group in groups)
        filled = [[*group, *[group[0]] * (width - len(group))] for group in groups]
        self.register_buffer("rows", torch.tensor(filled), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) fp32 in [0, 1] -> (n, labels) logits."""
        logits: Tensor = self.classifier(images)
        best: Tensor = logits[:, self.rows].amax(dim=2)
        return best


class Steady(nn.Module):
    """A classifier whose answer to an image does not depend on how many others are asked with it.

    Small batches are filled up to `STEADY` images, because kernels sum in another order for a few
    rows than for many, and an attack turns a last bit into another walk. Seen to be bit for bit on
    CPUs; a GPU may choose its kernels by more than that.

    Attributes:
        classifier: (n, 3, H, W) -> (n, C).
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) fp32 in [0, 1] -> (n, C) logits."""
        count = len(images)
        if 0 < count < STEADY:
            fill = images[:1].detach().expand(STEADY - count, -1, -1, -1)
            images = torch.cat([images, fill])
        logits: Tensor = self.classifier(images)
        return logits[:count]
