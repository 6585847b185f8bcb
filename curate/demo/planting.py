"""Copies of a picture as they turn up on the web, and files that are no pictures at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Edited = tuple[Image.Image, str]  # the changed picture, and how strongly it was changed
Edit = Callable[[Image.Image, Generator], Edited]
KERNELS = ("BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS")
BROKEN = ("truncated", "zero_bytes", "html")


@dataclass(frozen=True)
class Stored:
    """An image file: its bytes, its extension, and what was done to make it."""

    data: bytes
    extension: str
    parameters: str


def save(image: Image.Image, extension: str, quality: int) -> bytes:
    """Encode as "jpg", "png" or "webp"; `quality` is that of JPEG and WebP."""
    buffer = io.BytesIO()
    if extension == "jpg":
        image.save(buffer, "JPEG", quality=quality)
    elif extension == "webp":
        image.save(buffer, "WEBP", quality=quality, method=2)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def save_as_found(image: Image.Image, rng: Generator) -> Stored:
    """Encode the way files are mixed on the web: mostly JPEG, some PNG and WebP."""
    extension = str(rng.choice(["jpg", "png", "webp"], p=[0.7, 0.15, 0.15]))
    return Stored(save(image, extension, int(rng.integers(85, 96))), extension, "")


def _resize(image: Image.Image, rng: Generator) -> Edited:
    factor = float(rng.choice([0.5, 0.6, 0.75, 0.9, 1.25, 1.5]))
    kernel = str(rng.choice(KERNELS))
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling[kernel]), f"{kernel.lower()} x{factor}"


def _strength(rng: Generator, low: float, high: float) -> float:
    """A factor between low and high, above or (as its inverse) below 1."""
    factor = rng.uniform(low, high)
    return float(round(factor if rng.integers(2) else 1 / factor, 3))


def _brightness(image: Image.Image, rng: Generator) -> Edited:
    factor = _strength(rng, 1.1, 1.35)
    return ImageEnhance.Brightness(image).enhance(factor), f"x{factor}"


def _contrast(image: Image.Image, rng: Generator) -> Edited:
    factor = _strength(rng, 1.15, 1.5)
    return ImageEnhance.Contrast(image).enhance(factor), f"x{factor}"


def _gamma(image: Image.Image, rng: Generator) -> Edited:
    power = _strength(rng, 1.15, 1.5)
    table = [round(255 * (level / 255) ** power) for level in range(256)]
    return image.point(table * 3), f"power {power}"


def _tint(image: Image.Image, rng: Generator) -> Edited:
    gains = [_strength(rng, 1.02, 1.18) for _ in range(3)]
    table = [min(255, round(level * gain)) for gain in gains for level in range(256)]
    return image.point(table), "rgb " + " ".join(f"x{gain}" for gain in gains)


def _crop(image: Image.Image, rng: Generator) -> Edited:
    """Cut at most 5 % of the width and of the height, and at least one pixel of one of them."""
    width, height = image.size
    cut_x = int(rng.integers(0, int(width * 0.05) + 1))
    cut_y = int(rng.integers(0 if cut_x else 1, int(height * 0.05) + 1))
    left, top = int(rng.integers(cut_x + 1)), int(rng.integers(cut_y + 1))
    box = (left, top, width - cut_x + left, height - cut_y + top)
    return image.crop(box), f"-{cut_x} x -{cut_y} pixels"


def _blur(image: Image.Image, rng: Generator) -> Edited:
    radius = round(rng.uniform(0.6, 1.6), 2)
    return image.filter(ImageFilter.GaussianBlur(radius)), f"radius {radius}"


def _noise(image: Image.Image, rng: Generator) -> Edited:
    sigma = round(rng.uniform(4, 14), 1)
    pixels = np.asarray(image, np.float64)
    noisy = np.clip(pixels + rng.normal(0.0, sigma, pixels.shape), 0, 255)
    return Image.fromarray(noisy.round().astype(np.uint8)), f"sigma {sigma}"


def _mirror(image: Image.Image, rng: Generator) -> Edited:
    del rng  # there is one way to mirror
    return ImageOps.mirror(image), ""


def _overlay(image: Image.Image, rng: Generator) -> Edited:
    text = str(rng.choice(["© demo", "stock photo", "share me", "21:45", "exclusive"]))
    edited = image.copy()
    draw = ImageDraw.Draw(edited)
    font = ImageFont.load_default(image.height * rng.uniform(0.055, 0.09))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x = rng.uniform(2, max(3.0, image.width - (right - left) - 4))
    y = rng.choice([2.0, image.height - (bottom - top) - 6])
    draw.text((x + 1, y + 1), text, fill=(20, 20, 20), font=font)
    draw.text((x, y), text, fill=(250, 250, 250), font=font)
    return edited, text


def _grayscale(image: Image.Image, rng: Generator) -> Edited:
    del rng  # there is one luma
    return ImageOps.grayscale(image).convert("RGB"), ""


_EDITS: dict[str, Edit] = {
    "resize": _resize,
    "brightness": _brightness,
    "contrast": _contrast,
    "gamma": _gamma,
    "tint": _tint,
    "crop": _crop,
    "blur": _blur,
    "noise": _noise,
    "mirror": _mirror,
    "text": _overlay,
    "grayscale": _grayscale,
}
TRANSFORMATIONS = ("exact", "jpeg", *_EDITS)


def copy_of(original: Stored, transformation: str, rng: Generator) -> Stored:
    """A copy of a stored image. "exact" keeps the bytes; all others change them.

    "jpeg" re-encodes at quality 30 to 90; the edits change the pixels and are then stored as any
    other picture is.
    """
    if transformation == "exact":
        return Stored(original.data, original.extension, "")
    image = Image.open(io.BytesIO(original.data)).convert("RGB")
    if transformation == "jpeg":
        quality = int(rng.integers(30, 91))
        return Stored(save(image, "jpg", quality), "jpg", f"quality {quality}")
    edited, parameters = _EDITS[transformation](image, rng)
    stored = save_as_found(edited, rng)
    return Stored(stored.data, stored.extension, parameters)


def broken(kind: str, image: Image.Image) -> Stored:
    """What a crawler stores under .jpg when it went wrong: one of BROKEN."""
    if kind == "zero_bytes":
        return Stored(b"", "jpg", kind)
    if kind == "html":
        page = b"<!DOCTYPE html>\n<html><body><h1>403 Forbidden</h1></body></html>\n"
        return Stored(page, "jpg", kind)
    whole = save(image, "jpg", 90)
    return Stored(whole[: len(whole) * 2 // 5], "jpg", kind)
