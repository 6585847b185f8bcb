"""The same scenes by another hand: drawn in ink on tinted paper, after no picture of the others."""
# ruff: noqa: PLR2004 - proportions of a drawing read best where they are used

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from curate.demo.brushes import Floats, Rgb, colourise, mix, smooth

if TYPE_CHECKING:
    from numpy.random import Generator

_PAPERS: tuple[Rgb, ...] = ((246, 240, 224), (238, 232, 220), (226, 230, 226), (240, 226, 208))
_INKS: tuple[Rgb, ...] = ((28, 26, 30), (64, 38, 22), (24, 36, 74), (110, 40, 26))
_FINER = 2  # lines are drawn in pixels half as large and averaged down


def drawn(image: Image.Image, rng: Generator) -> Image.Image:
    """A picture (RGB) as an ink drawing of the same size: outlines, hatching, paper.

    Tone becomes up to three layers of hatching whose lines swell where it is darker, edges become
    outlines, and the sheet stays empty along its borders. Colours are lost but those of ink and
    paper, which are chosen once for a drawing.
    """
    size = (image.width * _FINER, image.height * _FINER)
    large = image.resize(size, Image.Resampling.BICUBIC)
    ink = np.maximum(_hatched(large, rng), _outlined(large)) * _sheet(rng, size)
    paper = _PAPERS[int(rng.integers(len(_PAPERS)))]
    colour = _INKS[int(rng.integers(len(_INKS)))]
    grain = colourise(smooth(rng, size, 40, 2), [mix(paper, (120, 100, 80), 0.12), paper])
    mask = Image.fromarray((np.clip(ink, 0, 1) * 235).astype(np.uint8))
    return Image.composite(Image.new("RGB", size, colour), grain, mask).reduce(_FINER)


def _hatched(image: Image.Image, rng: Generator) -> Floats:
    """Ink of the hatching, shape (height, width), 0 to 1."""
    width, height = image.size
    grey = ImageOps.autocontrast(image.convert("L"), cutoff=2).filter(ImageFilter.GaussianBlur(2))
    dark = 1 - np.asarray(grey, np.float32) / 255
    y, x = np.mgrid[:height, :width].astype(np.float32)
    hand = smooth(rng, image.size, 4, 2) * 9  # no line is straight
    spacing, angle = rng.uniform(6.0, 8.5), rng.uniform(0.5, 1.1)
    ink = np.zeros((height, width), np.float32)
    for least, turn in ((0.22, 0.0), (0.48, 1.35), (0.72, 0.6)):
        along = x * math.cos(angle + turn) + y * math.sin(angle + turn) + hand
        wave = 0.5 + 0.5 * np.cos(along * np.float32(2 * math.pi / spacing))
        share = np.clip((dark - least) / 0.5, 0, 1) * 0.55  # of the paper that a layer covers
        line = np.clip((wave - np.cos(share * math.pi / 2) ** 2) * 5, 0, 1)
        ink = np.maximum(ink, np.where(share > 0.02, line, 0))
    return np.asarray(ink, np.float32)


def _outlined(image: Image.Image) -> Floats:
    """Ink of the outlines, shape (height, width), 0 to 1: where any colour changes quickly."""
    steepest = np.zeros((image.height, image.width), np.float32)
    for band in image.filter(ImageFilter.GaussianBlur(2.2)).split():
        tone = np.asarray(band, np.float32)
        down = np.diff(tone, axis=0, prepend=tone[:1])
        across = np.diff(tone, axis=1, prepend=tone[:, :1])
        np.maximum(steepest, down * down + across * across, out=steepest)
    return np.asarray(np.clip((np.sqrt(steepest) - 6) / 9, 0, 1), np.float32)


def _sheet(rng: Generator, size: tuple[int, int]) -> Floats:
    """Where the sheet is drawn on, shape (height, width), 0 to 1; its edge is uneven."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    to_edge = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    uneven = to_edge / min(size) - 0.03 - 0.05 * smooth(rng, size, 7, 2)
    return np.asarray(np.clip(uneven * 40, 0, 1), np.float32)
