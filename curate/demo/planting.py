"""Copies of a picture as they turn up on the web, and files that are no pictures at all."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from curate import copies
from curate.copies import plant

if TYPE_CHECKING:
    from numpy.random import Generator

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


_EDITS = {
    "resize": ("resize_down", 2),
    "brightness": ("brightness", 1),
    "contrast": ("contrast", 1),
    "gamma": ("gamma", 1),
    "tint": ("tint", 2),
    "crop": ("crop_centre", 1),
    "blur": ("blur", 1),
    "noise": ("noise", 1),
    "mirror": ("mirror", 1),
    "text": ("text", 2),
    "grayscale": ("greyscale", 3),
}
"""Edits of the demonstration, by their names and strengths in `curate.copies`."""

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
    name, strength = _EDITS[transformation]
    stored = save_as_found(plant(image, name, strength, rng), rng)
    return Stored(stored.data, stored.extension, copies.TRANSFORMATIONS[name].text(strength))


def broken(kind: str, image: Image.Image) -> Stored:
    """What a crawler stores under .jpg when it went wrong: one of BROKEN."""
    if kind == "zero_bytes":
        return Stored(b"", "jpg", kind)
    if kind == "html":
        page = b"<!DOCTYPE html>\n<html><body><h1>403 Forbidden</h1></body></html>\n"
        return Stored(page, "jpg", kind)
    whole = save(image, "jpg", 90)
    return Stored(whole[: len(whole) * 2 // 5], "jpg", kind)
