"""Pictures of attacked images, as PNG inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eval.report.inputs import Example

TIMES = 50
_SIDE = 160
_TINY = 64
_PREFIX = "data:image/png;base64,"


@dataclass(frozen=True)
class Tiles:
    """The three pictures of an example, as `data:` addresses.

    Attributes:
        clean: before the attack.
        perturbation: grey plus fifty times the difference, cut off at black and white.
        attacked: after it.
        tiny: they are of at most 64 pixels a side, to be enlarged without smoothing.
        largest: the largest difference of a pixel, in 255ths.
    """

    clean: str
    perturbation: str
    attacked: str
    tiny: bool
    largest: float


def tiles(example: Example) -> Tiles:
    """The pictures of an example; larger ones are shrunk to 160 pixels a side."""
    difference = example.attacked.astype(np.float64) - example.clean
    return Tiles(
        clean=_png(example.clean),
        perturbation=_png(np.clip(0.5 + TIMES * difference, 0, 1)),
        attacked=_png(example.attacked),
        tiny=max(example.clean.shape[:2]) <= _TINY,
        largest=float(255 * np.abs(difference).max()),
    )


def _png(pixels: NDArray[np.floating]) -> str:
    from PIL import Image

    image = Image.fromarray(np.rint(255 * pixels).astype(np.uint8))
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return _PREFIX + base64.b64encode(buffer.getvalue()).decode("ascii")
