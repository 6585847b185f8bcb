"""Edits that put something over the picture: text, watermarks, drawings, bars."""

from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from curate.copies.base import Rgb, colour, part_of

_TEXTS = ("stock photo", "share me", "21:45", "exclusive", "© 2019", "WOW!", "www.example.org")
_SMALLEST_FONT = 4  # pixels; smaller letters are dots
_LARGEST_FONT = 400


def text(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """A line of text at the top or the bottom, as high as this share of the shorter side."""
    words = _TEXTS[rng.integers(len(_TEXTS))]
    edited = image.copy()
    draw = ImageDraw.Draw(edited)
    font = _font(share * min(image.size))
    _, _, right, bottom = draw.textbbox((0, 0), words, font=font)
    x = rng.random() * max(0.0, image.width - right)
    y = 0.97 * max(0.0, image.height - bottom) * rng.integers(2)
    shadow = max(1, round(bottom / 12))
    draw.text((x + shadow, y + shadow), words, fill=(20, 20, 20), font=font)
    draw.text((x, y), words, fill=(250, 250, 250), font=font)
    return edited


def watermark(image: Image.Image, opacity: float, rng: Generator) -> Image.Image:
    """Pale words repeated over the whole picture."""
    words = _TEXTS[rng.integers(len(_TEXTS))]
    font = _font(0.1 * min(image.size))
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    _, _, right, bottom = (round(edge) for edge in draw.textbbox((0, 0), words, font=font))
    row_height, column_width = max(4, 2 * bottom), max(8, round(1.3 * right))
    for row, y in enumerate(range(0, image.height, row_height)):
        for x in range(-(row % 2) * column_width // 2, image.width, column_width):
            draw.text((x, y), words, fill=round(255 * opacity), font=font)
    edited = image.copy()
    edited.paste((255, 255, 255), mask=mask)
    return edited


def logo(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """A drawn face, heart, star or play sign, as wide as this share of the shorter side."""
    edited = image.copy()
    side = part_of(min(image.size), share)
    x = int(rng.integers(image.width - side + 1))
    y = int(rng.integers(image.height - side + 1))
    stamp, mask = _STAMPS[rng.integers(len(_STAMPS))](4 * side if side < _FINE else side, rng)
    size = (side, side)
    edited.paste(stamp.resize(size, _SMOOTH), (x, y), mask.resize(size, _SMOOTH))
    return edited


_FINE = 500  # below this, drawings are made larger and averaged down, which smooths their edges
_SMOOTH = Image.Resampling.BOX


def bar(image: Image.Image, share: float, rng: Generator) -> Image.Image:
    """A solid bar that hides this share of the picture, from side to side or top to bottom."""
    edited = image.copy()
    width, height = image.size
    if rng.integers(2):
        thick = part_of(height, share)
        top = int(rng.integers(height - thick + 1))
        box = (0, top, width, top + thick)
    else:
        thick = part_of(width, share)
        left = int(rng.integers(width - thick + 1))
        box = (left, 0, left + thick, height)
    edited.paste(colour(rng), box)
    return edited


def _font(height: float) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(min(_LARGEST_FONT, max(_SMALLEST_FONT, height)))


# --- drawings ------------------------------------------------------------------------------------

Stamp = tuple[Image.Image, Image.Image]  # colours and the mask of where they count


def _stamp(side: int, fill: Rgb) -> Stamp:
    return Image.new("RGB", (side, side), fill), Image.new("L", (side, side))


def _points(side: int, *shares: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x * side, y * side) for x, y in shares]


def _face(side: int, rng: Generator) -> Stamp:
    stamp, mask = _stamp(side, (255, 205, 40))
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    draw = ImageDraw.Draw(stamp)
    for x in (0.32, 0.68):
        draw.ellipse(_points(side, (x - 0.07, 0.28), (x + 0.07, 0.46)), fill=(60, 40, 20))
    smile = 0 if rng.integers(2) else 180
    draw.chord(_points(side, (0.22, 0.4), (0.78, 0.82)), smile, smile + 180, fill=(60, 40, 20))
    return stamp, mask


def _heart(side: int, rng: Generator) -> Stamp:
    del rng
    stamp, mask = _stamp(side, (225, 40, 60))
    draw = ImageDraw.Draw(mask)
    draw.ellipse(_points(side, (0.0, 0.05), (0.52, 0.57)), fill=255)
    draw.ellipse(_points(side, (0.48, 0.05), (1.0, 0.57)), fill=255)
    draw.polygon(_points(side, (0.05, 0.44), (0.95, 0.44), (0.5, 0.98)), fill=255)
    return stamp, mask


def _star(side: int, rng: Generator) -> Stamp:
    stamp, mask = _stamp(side, colour(rng))
    tips = ((0.5, 0.0), (0.98, 0.36), (0.8, 0.95), (0.2, 0.95), (0.02, 0.36))
    notches = ((0.62, 0.36), (0.7, 0.6), (0.5, 0.74), (0.3, 0.6), (0.38, 0.36))
    around = [point for pair in zip(tips, notches, strict=True) for point in pair]
    ImageDraw.Draw(mask).polygon(_points(side, *around), fill=255)
    return stamp, mask


def _play(side: int, rng: Generator) -> Stamp:
    del rng
    stamp, mask = _stamp(side, (30, 30, 30))
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    triangle = _points(side, (0.36, 0.27), (0.36, 0.73), (0.76, 0.5))
    ImageDraw.Draw(stamp).polygon(triangle, fill=(245, 245, 245))
    return stamp, mask


_STAMPS = (_face, _heart, _star, _play)
