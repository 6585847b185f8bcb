"""Images as a model is trained on them, before normalisation: resized, cut, perhaps augmented.

What chance there is in an augmentation comes from a generator of its own for each (seed, epoch,
sample), so that it depends on no order, batch or process.
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from PIL import Image

from curate.encoders.base import nearest
from curate.errors import CurateError
from eval.geometry import Geometry, Pixels, as_pixels

AUGMENTATIONS = ("none", "crop-flip", "resized-crop")
"""What may be done to a picture before it is attacked.

`none`: the evaluation transform. `crop-flip`, for small pictures: that, then an eighth of the side
is added in black all around, a random part of the old size is cut out, and mirrored half of the
time (4 of 32 pixels, as is usual for CIFAR). `resized-crop`: instead of the evaluation transform a
random part with 0.9 to 1 of the area and an aspect ratio of 3/4 to 4/3 is resized, as CLIP models
are trained in open_clip.
"""
_ADDED = 8
_AREA = (0.9, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10


def check_augmentation(name: str) -> None:
    """Check the name of an augmentation.

    Raises:
        CurateError: there is none of that name.
    """
    if name not in AUGMENTATIONS:
        raise CurateError(
            f"augmentation {name!r}: one of {', '.join(AUGMENTATIONS)} was expected"
            f"{nearest(name, AUGMENTATIONS)}"
        )


@dataclass(frozen=True)
class Chance:
    """What decides on the augmentation of one sample."""

    seed: int
    epoch: int
    id: str

    def generator(self) -> np.random.Generator:
        """A generator that nothing else draws from."""
        number = int.from_bytes(sha256(self.id.encode()).digest()[:8])
        words = (self.seed, self.epoch, number)
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def augmented(name: str, image: Image.Image, evaluate: Geometry, chance: Chance) -> Pixels:
    """One RGB image -> (3, height, width) uint8 in the model's size.

    Args:
        name: of `AUGMENTATIONS`.
        image: as it is decoded.
        evaluate: the model's `geometry`.
        chance: what the augmentation is drawn from.
    """
    if name == "resized-crop":
        part = _part(image, chance.generator())
        return as_pixels(part.resize(evaluate(image).size, Image.Resampling.BICUBIC))
    pixels = as_pixels(evaluate(image))
    return _shifted(pixels, chance.generator()) if name == "crop-flip" else pixels


def _shifted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    _, height, width = pixels.shape
    down, right = height // _ADDED, width // _ADDED
    wide = np.pad(pixels, ((0, 0), (down, down), (right, right)))
    top, left = rng.integers(0, 2 * down + 1), rng.integers(0, 2 * right + 1)
    part = wide[:, top : top + height, left : left + width]
    return part[:, :, ::-1] if rng.random() < 0.5 else part  # noqa: PLR2004  # half of the time


def _part(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random part; the whole image where none of the allowed shapes fits into it."""
    width, height = image.size
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*_AREA)
        aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
        w, h = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return image.crop((left, top, left + w, top + h))
    return image
