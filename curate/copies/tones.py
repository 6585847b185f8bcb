"""Edits of pixel values: compression, detail, light and colour. The frame stays as it is."""

import io

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from curate.copies.base import either_way, resized, sign

_WEBP_SIDE = 16383  # more than that the format cannot hold
_JPEG_SIDE = 65500


def jpeg(image: Image.Image, quality: float, rng: Generator) -> Image.Image:
    """Stored as JPEG and read again."""
    del rng  # there is one way to store it
    return _stored(image, "JPEG", int(quality), _JPEG_SIDE)


def webp(image: Image.Image, quality: float, rng: Generator) -> Image.Image:
    """Stored as WebP and read again."""
    del rng
    return _stored(image, "WEBP", int(quality), _WEBP_SIDE)


def _stored(image: Image.Image, kind: str, quality: int, side: int) -> Image.Image:
    longest = max(image.size)
    if longest > side:
        image = resized(image, image.width * side / longest, image.height * side / longest)
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return Image.open(buffer, formats=(kind,)).convert("RGB")


def blur(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """Gaussian blur with a radius of this share of the shorter side."""
    del rng
    return image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def sharpen(image: Image.Image, percent: float, rng: Generator) -> Image.Image:
    """Unsharp mask."""
    del rng
    radius = max(1.0, 0.01 * min(image.size))
    return image.filter(ImageFilter.UnsharpMask(radius, int(percent), 2))


def noise(image: Image.Image, sigma: float, rng: Generator) -> Image.Image:
    """Gaussian noise, alike in no two channels."""
    pixels = np.asarray(image, np.float32)
    noisy = pixels + np.float32(sigma) * rng.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.rint(np.clip(noisy, 0, 255)).astype(np.uint8))


def brightness(image: Image.Image, factor: float, rng: Generator) -> Image.Image:
    """Brighter or darker."""
    return ImageEnhance.Brightness(image).enhance(either_way(factor, rng))


def contrast(image: Image.Image, factor: float, rng: Generator) -> Image.Image:
    """More or less contrast."""
    return ImageEnhance.Contrast(image).enhance(either_way(factor, rng))


def gamma(image: Image.Image, power: float, rng: Generator) -> Image.Image:
    """Darker or lighter midtones."""
    chosen = either_way(power, rng)
    return image.point([round(255 * (level / 255) ** chosen) for level in range(256)] * 3)


def saturation(image: Image.Image, factor: float, rng: Generator) -> Image.Image:
    """Stronger colours."""
    del rng
    return ImageEnhance.Color(image).enhance(factor)


def tint(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """Each channel multiplied by up to this share more or less, one of them by all of it."""
    gains = rng.uniform(-share, share, 3)
    gains[rng.integers(3)] = sign(rng) * share
    table = [min(255, round(level * (1 + gain))) for gain in gains for level in range(256)]
    return image.point(table)


def hue(image: Image.Image, degrees: float, rng: Generator) -> Image.Image:
    """All hues turned around the colour wheel."""
    turn = sign(rng) * round(degrees * 256 / 360)
    tones, saturations, values = image.convert("HSV").split()
    turned = tones.point([(level + turn) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturations, values)).convert("RGB")


def greyscale(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """This share of the colour taken out."""
    del rng
    return ImageEnhance.Color(image).enhance(1 - share)


def invert(image: Image.Image, level: float, rng: Generator) -> Image.Image:
    """All values at or above a level inverted; level 0 gives the negative."""
    del rng
    return ImageOps.solarize(image, int(level))


def posterize(image: Image.Image, bits: float, rng: Generator) -> Image.Image:
    """Only the highest bits of each value kept."""
    del rng
    return ImageOps.posterize(image, int(bits))
