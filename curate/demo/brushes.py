"""What pictures are painted with: colours, gradients, smooth noise, glows and outlines."""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

Rgb = tuple[int, int, int]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def rgb(hue: float, saturation: float, value: float) -> Rgb:
    """A colour from hue, saturation and value, each 0 to 1; hues go round."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """`first` where share is 0, `second` where it is 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def palette(rng: Generator, count: int, spread: float = 0.5) -> list[Rgb]:
    """`count` colours around a random hue; `spread` is the width of the arc of hues."""
    start = rng.random()
    return [
        rgb(start + spread * rng.random(), rng.uniform(0.35, 0.95), rng.uniform(0.35, 1.0))
        for _ in range(count)
    ]


def gradient(size: tuple[int, int], top: Rgb, bottom: Rgb) -> Image.Image:
    """A picture of (width, height) that goes from one colour to another, row by row."""
    rows = np.linspace(top, bottom, size[1]).round().astype(np.uint8)[:, None, :]
    return Image.fromarray(rows).resize(size, Image.Resampling.NEAREST)


def smooth(rng: Generator, size: tuple[int, int], cells: int, octaves: int = 3) -> Floats:
    """Smooth noise in [0, 1], shape (height, width): coarse random grids enlarged and summed."""
    total = np.zeros((size[1], size[0]), np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        grid = rng.random((count + 1, count + 1), dtype=np.float32)
        enlarged = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(enlarged, np.float32) * np.float32(0.5**octave)
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / (high - low), np.float32)


def ridge(rng: Generator, width: int, points: int = 4, octaves: int = 5) -> Floats:
    """A mountain profile in [0, 1], shape (width,)."""
    at = np.linspace(0.0, 1.0, width)
    line = np.zeros(width)
    for octave in range(octaves):
        count = points * 2**octave + 1
        line += np.interp(at, np.linspace(0, 1, count), rng.random(count)) * 0.5**octave
    line -= line.min()
    return np.asarray(line / line.max(), np.float32)


def colourise(field: Floats, colours: Sequence[Rgb]) -> Image.Image:
    """Numbers in [0, 1] -> a picture, through colours at equal distances."""
    stops = np.linspace(0, 255, len(colours))
    table = np.stack(
        [np.interp(np.arange(256), stops, [c[band] for c in colours]) for band in range(3)], axis=1
    )
    return Image.fromarray(table.round().astype(np.uint8)[(field * 255).astype(np.uint8)])


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Image.Image:
    """A soft glowing disc as an 8-bit mask: full inside the radius, fading around it."""
    y, x = np.ogrid[: size[1], : size[0]]
    distance = np.hypot(x - centre[0], y - centre[1]) / radius
    light = np.where(distance < 1, 1.0, 0.55 * np.exp(-(distance - 1) / 0.9))
    return Image.fromarray((light * 255).astype(np.uint8))


def glow(
    image: Image.Image, centre: tuple[float, float], radius: float, colour: Rgb
) -> Image.Image:
    """The picture with a light in it."""
    return Image.composite(
        Image.new("RGB", image.size, colour), image, disc(image.size, centre, radius)
    )


def turned(points: np.ndarray, angle: float, at: tuple[float, float]) -> list[tuple[float, float]]:
    """Points (n, 2) turned by `angle` radians and moved, as Pillow takes them."""
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = points @ np.array([[cosine, sine], [-sine, cosine]]) + np.asarray(at)
    return [(float(x), float(y)) for x, y in turned]


def clouds(image: Image.Image, rng: Generator, strength: float) -> Image.Image:
    """The picture behind clouds of an opacity up to `strength`, 0 to 1."""
    field = np.clip(smooth(rng, image.size, 3, 4) * 2.2 - 1.1, 0, 1) * strength
    mask = Image.fromarray((field * 255).astype(np.uint8))
    return Image.composite(Image.new("RGB", image.size, (250, 246, 240)), image, mask)
