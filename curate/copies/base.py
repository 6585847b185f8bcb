"""What the editing modules share: the type of an edit, chance, and sizes that never vanish."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image

Edit = Callable[[Image.Image, float, Generator], Image.Image]
"""(RGB picture, strength parameter, chance) -> a new RGB picture; the given one is not changed."""

Rgb = tuple[int, int, int]
KERNELS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
MAX_PIXELS = 1 << 25
"""No edit makes a picture larger than this; where one would, it is made that much smaller."""


def either_way(factor: float, rng: Generator) -> float:
    """The factor, or its inverse."""
    return factor if rng.integers(2) else 1 / factor


def sign(rng: Generator) -> int:
    """1 or -1."""
    return 1 if rng.integers(2) else -1


def colour(rng: Generator, low: int = 0, high: int = 255) -> Rgb:
    """A colour whose channels lie between low and high, both included."""
    red, green, blue = rng.integers(low, high + 1, 3).tolist()
    return red, green, blue


def part_of(length: int, share: float) -> int:
    """A share of a length in pixels, at least one."""
    return max(1, round(length * share))


def resized(
    image: Image.Image,
    width: float,
    height: float,
    kernel: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """The picture at another size, of at least one pixel and at most `MAX_PIXELS`."""
    scale = min(1.0, float(np.sqrt(MAX_PIXELS / (max(1.0, width) * max(1.0, height)))))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return image.resize(size, kernel)


def bounded(image: Image.Image, growth: float) -> Image.Image:
    """The picture, made small enough that both its sides may grow by a factor."""
    pixels = image.width * image.height * growth**2
    if pixels <= MAX_PIXELS:
        return image
    scale = float(np.sqrt(MAX_PIXELS / pixels))
    return resized(image, image.width * scale, image.height * scale, Image.Resampling.BOX)


def scene(width: int, height: int, rng: Generator) -> Image.Image:
    """Another picture: smooth patches around one colour, of which no two are alike."""
    light = rng.normal(0, 45, (5, 5, 1)) + rng.normal(0, 15, (5, 5, 3))
    grid = np.clip(rng.uniform(50, 205, 3) + light, 0, 255).astype(np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
