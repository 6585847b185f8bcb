"""Edits of the frame: size, crops, mirrors and rotations. Colours stay as they are."""

import math

from numpy.random import Generator
from PIL import Image, ImageOps

from curate.copies.base import KERNELS, bounded, part_of, resized, sign


def resize_down(image: Image.Image, factor: float, rng: Generator) -> Image.Image:
    """Made smaller with one of the usual kernels."""
    kernel = KERNELS[rng.integers(len(KERNELS))]
    return resized(image, image.width * factor, image.height * factor, kernel)


def resize_nearest(image: Image.Image, factor: float, rng: Generator) -> Image.Image:
    """Made smaller by leaving pixels out."""
    del rng  # there is one way to do it, here and below
    kernel = Image.Resampling.NEAREST
    return resized(image, image.width * factor, image.height * factor, kernel)


def resize_up(image: Image.Image, factor: float, rng: Generator) -> Image.Image:
    """Made larger with one of the usual kernels."""
    return resize_down(image, factor, rng)


def thumbnail(image: Image.Image, factor: float, rng: Generator) -> Image.Image:
    """Made smaller and brought back to its size, so that detail is lost."""
    return resized(resize_down(image, factor, rng), *image.size)


def stretch(image: Image.Image, factor: float, rng: Generator) -> Image.Image:
    """One side made shorter, so that the aspect ratio changes by a factor."""
    if rng.integers(2):
        return resized(image, image.width / factor, image.height)
    return resized(image, image.width, image.height / factor)


def crop(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """A random place kept, this share of each side."""
    return _kept(image, share, rng.random(), rng.random())


def crop_corner(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """One corner kept, this share of each side."""
    return _kept(image, share, float(rng.integers(2)), float(rng.integers(2)))


def crop_centre(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """The centre kept, this share of each side."""
    del rng
    return _kept(image, share, 0.5, 0.5)


def _kept(image: Image.Image, share: float, across: float, down: float) -> Image.Image:
    """A window; `across` and `down` say where in what it leaves free, from 0 to 1."""
    width, height = part_of(image.width, share), part_of(image.height, share)
    left = round(across * (image.width - width))
    top = round(down * (image.height - height))
    return image.crop((left, top, left + width, top + height))


def mirror(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """Left and right exchanged, and a random place kept."""
    return ImageOps.mirror(crop(image, share, rng))


def upside_down(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """Top and bottom exchanged (which is no rotation), and a random place kept."""
    return ImageOps.flip(crop(image, share, rng))


def rotate(image: Image.Image, degrees: float, rng: Generator) -> Image.Image:
    """Turned either way at its size; what the corners lose is gone, what they gain is black."""
    return image.rotate(sign(rng) * degrees, Image.Resampling.BICUBIC)


def rotate_grown(image: Image.Image, degrees: float, rng: Generator) -> Image.Image:
    """Turned either way on a black canvas that holds all of it."""
    whole = bounded(image, math.sqrt(2) if min(image.size) > 1 else 1)
    return whole.rotate(sign(rng) * degrees, Image.Resampling.BICUBIC, expand=True)


def rotate_cropped(image: Image.Image, degrees: float, rng: Generator) -> Image.Image:
    """Turned either way and cut to the largest window of its shape without black corners."""
    turned = rotate(image, degrees, rng)
    angle = math.radians(degrees)
    width, height = image.size
    ratio = max(width / height, height / width)
    share = 0.98 / (math.cos(angle) + ratio * math.sin(angle))  # pixels at the rim are mixed
    return _kept(turned, share, 0.5, 0.5)


def quarter_turn(image: Image.Image, degrees: float, rng: Generator) -> Image.Image:
    """Turned by a multiple of 90 degrees."""
    del rng
    return image.rotate(degrees, expand=True)
