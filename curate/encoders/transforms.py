"""Evaluation transforms of torchvision's kind, with the same result to the bit and without torch.

Torch would start threads of its own in each thread that decodes, and takes longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_LEVELS = 256


def to_array(transform: Any) -> Callable[[Image.Image], NDArray[np.float32]]:
    """A function that gives what a transform gives, as an array.

    Args:
        transform: a `torchvision.transforms.Compose` whose last two steps are `ToTensor` and
            `Normalize`; others are run as they are.

    Returns:
        RGB image -> (3, height, width) float32.
    """
    from torchvision.transforms import Normalize, ToTensor

    *resizing, to_tensor, normalize = transform.transforms
    if not (isinstance(to_tensor, ToTensor) and isinstance(normalize, Normalize)):
        return lambda image: transform(image).numpy()
    ramp = np.repeat(np.arange(_LEVELS, dtype=np.uint8)[None, :, None], 3, axis=2)
    # What follows the resizing maps each byte by itself, so its answers can be looked up.
    table = np.ascontiguousarray(normalize(to_tensor(Image.fromarray(ramp))).numpy()[:, 0])

    def looked_up(image: Image.Image) -> NDArray[np.float32]:
        for step in resizing:
            image = step(image)
        pixels = np.asarray(image)
        out = np.empty((3, *pixels.shape[:2]), np.float32)
        for channel in range(3):  # no byte is out of range, but only "clip" writes without a buffer
            np.take(table[channel], pixels[..., channel], out=out[channel], mode="clip")
        return out

    return looked_up
