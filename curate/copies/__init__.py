"""How pictures are changed when they are copied: a registry of edits, each in three strengths.

Strength 1 is mild, 2 medium, 3 strong. What a strength means is stated in words, made from the
number that the edit is given, so that a table of recall can be read without this code. An edit
depends on the picture and on the generator only. Lengths are shares of the picture's sides, so an
edit means the same for 32 x 32 pixels and for a photograph; of pictures so small that nothing
could be seen of an edit, the copy may equal the original.

Where results are larger than `curate.copies.base.MAX_PIXELS` they are scaled down to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator
from PIL import Image

from curate.copies import canvases, geometry, overlays, tones
from curate.copies.base import Edit
from curate.errors import CurateError

STRENGTHS = (1, 2, 3)
"""Mild, medium, strong."""


@dataclass(frozen=True)
class Transformation:
    """One way of changing a picture.

    Attributes:
        name: its key in the registry.
        edit: what is done.
        parameters: the number given to the edit at each strength.
        words: a template of what a number means.
        unit: the number is divided by this before it is given to the edit (100 for per cent).
    """

    name: str
    edit: Edit
    parameters: tuple[float, float, float]
    words: str
    unit: float = 1

    def text(self, strength: int) -> str:
        """What a strength means, for people."""
        return self.words.format(f"{self.parameters[strength - 1]:g}")

    def apply(self, image: Image.Image, strength: int, rng: Generator) -> Image.Image:
        """A changed copy of an RGB picture."""
        return self.edit(image, self.parameters[strength - 1] / self.unit, rng)


def _mixed(image: Image.Image, count: float, rng: Generator) -> Image.Image:
    """Several mild edits in a row, as a picture meets them on its way through the web."""
    mild = [name for name in _SINGLE if name not in _NEVER_MILD]
    for name in rng.choice(mild, int(count), replace=False):
        image = _SINGLE[str(name)].apply(image, 1, rng)
    return image


def _registry(*found: Transformation) -> dict[str, Transformation]:
    return {transformation.name: transformation for transformation in found}


_NEVER_MILD = ("invert", "upside_down", "quarter_turn", "collage")
_KEPT = "{} % of each side kept"
_SINGLE = _registry(
    Transformation("jpeg", tones.jpeg, (75, 40, 10), "quality {}"),
    Transformation("webp", tones.webp, (75, 40, 10), "quality {}"),
    Transformation("resize_down", geometry.resize_down, (75, 50, 25), "to {} % of each side", 100),
    Transformation(
        "resize_nearest", geometry.resize_nearest, (75, 50, 25), "to {} % of each side", 100
    ),
    Transformation("resize_up", geometry.resize_up, (125, 150, 200), "to {} % of each side", 100),
    Transformation(
        "thumbnail", geometry.thumbnail, (50, 25, 12.5), "to {} % of each side and back", 100
    ),
    Transformation("blur", tones.blur, (1, 2, 4), "radius {} % of the shorter side", 100),
    Transformation("sharpen", tones.sharpen, (100, 200, 400), "by {} %"),
    Transformation("noise", tones.noise, (5, 15, 30), "sigma {} of 255"),
    Transformation("brightness", tones.brightness, (1.2, 1.5, 2), "times or divided by {}"),
    Transformation("contrast", tones.contrast, (1.2, 1.5, 2), "times or divided by {}"),
    Transformation("gamma", tones.gamma, (1.2, 1.6, 2.2), "power {} or its inverse"),
    Transformation("saturation", tones.saturation, (1.3, 2, 4), "times {}"),
    Transformation("tint", tones.tint, (5, 15, 30), "channels by up to {} %", 100),
    Transformation("hue", tones.hue, (5, 15, 45), "turned by {} degrees"),
    Transformation("greyscale", tones.greyscale, (50, 80, 100), "{} % of the colour gone", 100),
    Transformation("invert", tones.invert, (192, 128, 0), "values from {} up"),
    Transformation("posterize", tones.posterize, (5, 3, 2), "{} bits per channel"),
    Transformation("crop", geometry.crop, (90, 80, 60), _KEPT, 100),
    Transformation("crop_corner", geometry.crop_corner, (90, 80, 60), _KEPT, 100),
    Transformation("crop_centre", geometry.crop_centre, (90, 80, 60), _KEPT, 100),
    Transformation("stretch", geometry.stretch, (1.15, 1.4, 2), "aspect ratio times {}"),
    Transformation("mirror", geometry.mirror, (100, 90, 80), _KEPT, 100),
    Transformation("upside_down", geometry.upside_down, (100, 90, 80), _KEPT, 100),
    Transformation("rotate", geometry.rotate, (3, 10, 20), "{} degrees, size kept"),
    Transformation("rotate_grown", geometry.rotate_grown, (3, 10, 20), "{} degrees, on black"),
    Transformation("rotate_cropped", geometry.rotate_cropped, (3, 10, 20), "{} degrees, cut"),
    Transformation("quarter_turn", geometry.quarter_turn, (90, 180, 270), "{} degrees"),
    Transformation("text", overlays.text, (5, 10, 20), "{} % of the shorter side high", 100),
    Transformation("watermark", overlays.watermark, (15, 30, 60), "{} % opaque", 100),
    Transformation("logo", overlays.logo, (15, 30, 50), "{} % of the shorter side wide", 100),
    Transformation("bar", overlays.bar, (10, 20, 30), "{} % hidden", 100),
    Transformation("border", canvases.border, (3, 8, 15), "{} % of the shorter side thick", 100),
    Transformation("letterbox", canvases.letterbox, (15, 30, 45), "{} % of the canvas", 100),
    Transformation("backdrop", canvases.backdrop, (80, 60, 40), "{} % of each side", 100),
    Transformation("collage", canvases.collage, (2, 4, 9), "one of {} tiles"),
    Transformation("screenshot", canvases.screenshot, (90, 70, 50), "{} % of the width", 100),
    Transformation(
        "photo_of_screen", canvases.photo_of_screen, (3, 7, 12), "corners in by up to {} %", 100
    ),
)
TRANSFORMATIONS = _SINGLE | _registry(
    Transformation("mixed", _mixed, (2, 3, 4), "{} mild edits in a row")
)
"""Every transformation by name, in the order of reports."""


def plant(image: Image.Image, name: str, strength: int, rng: Generator) -> Image.Image:
    """A changed copy of a picture.

    Args:
        image: mode RGB, of any size; it is not changed.
        name: key of `TRANSFORMATIONS`.
        strength: 1, 2 or 3.
        rng: decides on places, kernels, directions and colours; the same state, the same copy.

    Returns:
        A picture of its own, mode RGB, of at least one pixel.

    Raises:
        CurateError: there is no such transformation or strength.
    """
    check_names([name])
    if strength not in STRENGTHS:
        raise CurateError(f"strength {strength}: 1 (mild), 2 or 3 (strong) was expected.")
    return TRANSFORMATIONS[name].apply(image, strength, rng)


def check_names(names: Sequence[str]) -> None:
    """Check that transformations exist.

    Raises:
        CurateError: one does not.
    """
    for name in names:
        if name not in TRANSFORMATIONS:
            raise CurateError(
                f"transformation {name}: one of {', '.join(TRANSFORMATIONS)} was expected."
            )
