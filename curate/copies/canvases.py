"""Edits that put the picture on something larger: frames, bars, collages, screens."""

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops, ImageDraw

from curate.copies.base import bounded, colour, part_of, scene, sign


def border(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """A frame of one colour, as thick as this share of the shorter side."""
    inner = bounded(image, 1 + 2 * share)
    thick = part_of(min(inner.size), share)
    canvas = Image.new("RGB", (inner.width + 2 * thick, inner.height + 2 * thick), colour(rng))
    canvas.paste(inner, (thick, thick))
    return canvas


def letterbox(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """Black bars above and below or at both sides, this share of the canvas's height or width."""
    inner = bounded(image, 1 / (1 - share))
    width, height = inner.size
    if rng.integers(2):
        height = max(height + 2, round(height / (1 - share)))
    else:
        width = max(width + 2, round(width / (1 - share)))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return canvas


def backdrop(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """Laid on another picture at a random place, taking this share of each side."""
    inner = bounded(image, 1 / share)
    width, height = round(inner.width / share), round(inner.height / share)
    canvas = scene(width, height, rng)
    x = int(rng.integers(width - inner.width + 1))
    y = int(rng.integers(height - inner.height + 1))
    canvas.paste(inner, (x, y))
    return canvas


def collage(image: Image.Image, tiles: float, rng: Generator) -> Image.Image:
    """One of 2, 4 or 9 tiles; the other tiles are other pictures."""
    across, down = {2: (2, 1), 4: (2, 2), 9: (3, 3)}[int(tiles)]
    if tiles == 2 and image.width > image.height:  # noqa: PLR2004 - two lie on top of each other
        across, down = down, across
    tile = bounded(image, math.sqrt(tiles))
    own = int(rng.integers(across * down))
    canvas = Image.new("RGB", (across * tile.width, down * tile.height))
    for at in range(across * down):
        place = (at % across * tile.width, at // across * tile.height)
        canvas.paste(tile if at == own else scene(*tile.size, rng), place)
    return canvas


def screenshot(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """In a drawn window with a title bar, margins and lines of text; this share of its width."""
    inner = bounded(image, 1.5 / share)
    width = max(inner.width + 2, round(inner.width / share))
    unit = max(1, round(0.02 * width))
    lines = int(rng.integers(3, 7))
    top = unit * int(rng.integers(5, 9))
    canvas = Image.new("RGB", (width, top + inner.height + unit * (2 * lines + 3)), _paper(rng))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, width, 3 * unit), fill=colour(rng, 40, 160))
    for button in range(3):
        left = unit * (1 + 2 * button)
        draw.ellipse((left, unit, left + unit, 2 * unit), fill=colour(rng, 90))
    x = int(rng.integers(width - inner.width + 1))
    canvas.paste(inner, (x, top))
    for line in range(lines):
        y = top + inner.height + unit * (2 * line + 2)
        end = width * rng.uniform(0.4, 0.95)
        draw.rectangle((unit, y, max(unit + 1, end), y + unit * 0.7), fill=(110, 110, 115))
    return canvas


def _paper(rng: Generator) -> tuple[int, int, int]:
    return (250, 250, 250) if rng.integers(2) else (28, 28, 32)


def photo_of_screen(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """Photographed from a screen: corners pulled in, moire, a lighter black and a cast.

    Each corner moves inwards by up to this share of the width and of the height; what that
    uncovers is dark grey. Moire and cast grow with it.
    """
    flat = bounded(image, 1)
    width, height = flat.size
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]], np.float64)
    inwards = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    moved = corners + inwards * rng.uniform(0, share, (4, 2)) * (width, height)
    seen = flat.transform(
        flat.size, Image.Transform.PERSPECTIVE, _perspective(moved, corners),
        Image.Resampling.BICUBIC, fillcolor=(40, 40, 40),
    )  # fmt: skip
    lit = ImageChops.multiply(seen, _moire(width, height, share, rng))
    gains = 1 + sign(rng) * share * np.array([1.0, 0.0, -1.0])
    lift = 255 * share / 2
    table = [
        min(255, round(lift + level * gain * (1 - share / 2)))
        for gain in gains
        for level in range(256)
    ]
    return lit.point(table)


def _perspective(target: np.ndarray, source: np.ndarray) -> list[float]:
    """The eight numbers by which PIL looks up, for a point of the result, one of the source."""
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solved, *_ = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)
    return [float(number) for number in solved]


def _moire(width: int, height: int, share: float, rng: Generator) -> Image.Image:
    """Stripes that two grids of dots make where they overlap, of about 3 to 12 pixels."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, 12)
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    x = np.arange(width, dtype=np.float32)[None] * np.float32(np.cos(angle))
    depth = min(0.5, 2 * share)
    wave = 1 - depth * (0.5 + 0.5 * np.sin((x + y) * np.float32(2 * np.pi / period)))
    return Image.fromarray(np.rint(255 * wave).astype(np.uint8)).convert("RGB")
