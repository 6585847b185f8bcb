"""Visual prompts: an image tower that stays as it is, with something learned beside the image.

Source of both: Mao et al., ICLR 2023, section 3.2, after Jia et al., ECCV 2022 (tokens) and Bahng
et al., 2022 (pixels).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from curate.errors import CurateError
from train.towers import token_site, tower_name


class TokenPrompt(nn.Module):
    """A ViT whose sequence carries learned tokens behind the patches, through all blocks.

    They join after the position embedding, before the norm in front of the blocks, and leave after
    the last block, so pooling sees what it always saw. Forward hooks on the tower do it; while this
    module lives, the tower is prompted however it is called.

    Attributes:
        tower: the ViT.
        tokens: (length, width), drawn from a standard normal distribution: equal tokens would stay
            equal, as they would have equal gradients.
    """

    def __init__(self, tower: nn.Module, length: int, seed: int) -> None:
        super().__init__()
        site = token_site(tower)
        if site is None:
            raise CurateError(
                f"adapter token-prompt: tokens need a ViT, and the image tower is "
                f"{tower_name(tower)}; choose a ViT, or adapter pixel-prompt"
            )
        entry, exit_, width = site
        self.tower = tower
        drawn = torch.randn(length, width, generator=torch.Generator().manual_seed(seed))
        self.tokens = nn.Parameter(drawn.to(next(tower.parameters()).device))
        # Bound methods, so that a deep copy has hooks of its own.
        entry.register_forward_pre_hook(self._append)
        exit_.register_forward_hook(self._strip)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) normalised images -> (n, d) features."""
        features: Tensor = self.tower(images)
        return features

    def _append(self, _module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        sequence, *others = arguments
        tokens = self.tokens.to(sequence.dtype).expand(len(sequence), -1, -1)
        return torch.cat([sequence, tokens], dim=1), *others

    def _strip(self, _module: nn.Module, _arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        return output[:, : -len(self.tokens)]


class PixelPrompt(nn.Module):
    """A tower that sees a learned frame added to the outermost pixels of the normalised image.

    Attributes:
        tower: of any family.
        frame: (3, pixels of the frame), row by row; zero at first, which is the tower itself.
    """

    places: Tensor

    def __init__(self, tower: nn.Module, width: int, size: int) -> None:
        super().__init__()
        if not 0 < 2 * width < size:
            raise CurateError(
                f"width {width} of a pixel prompt: images have {size} pixels; give 1 to "
                f"{(size - 1) // 2}"
            )
        self.tower = tower
        self.size = size
        device = next(tower.parameters()).device
        is_frame = torch.ones(size, size, dtype=torch.bool, device=device)
        is_frame[width:-width, width:-width] = False
        self.register_buffer("places", is_frame.flatten().nonzero()[:, 0], persistent=False)
        self.frame = nn.Parameter(torch.zeros(3, len(self.places), device=device))

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) normalised images -> (n, d) features."""
        canvas = self.frame.new_zeros(3, self.size**2).index_copy(1, self.places, self.frame)
        features: Tensor = self.tower(images + canvas.view(3, self.size, self.size))
        return features
