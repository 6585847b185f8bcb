"""How a test image may be looked at, so that a changed copy of it is found too.

A view is a pure function, RGB image -> RGB image. A train image is embedded as it is; a test image
is embedded once per view, and a pair counts with its best view.

| view | the image | finds a train image that |
| --- | --- | --- |
| `identity` | as it is | is the same |
| `mirror` | left and right exchanged | is mirrored |
| `rot90`, `rot180`, `rot270` | turned against the clock by so many degrees | is turned |
| `trim` | without uniform borders or letterbox bars | lacks the test image's borders |
| `shift-left`, `shift-right` | without the left (right) eighth of its width | is cut there |
| `shift-up`, `shift-down` | without the upper (lower) eighth of its height | is cut there |
| `zoom` | the middle 80 % of its width and height | is cut all round |
| `grow` | reflected outwards to 125 % of its width and height | shows more all round |
| `mirror-NAME` | the view NAME, then mirrored | is changed so and mirrored |

Every view is one more draw against the threshold: it finds more copies and more that are none. A
detector's default views are those that its threshold was set with.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from curate.encoders.base import nearest
from curate.errors import CurateError

View = Callable[[Image.Image], Image.Image]

_SHIFT: Final = 8
"""A shift cuts one part in so many off."""
_ZOOM: Final = 10
"""A zoom cuts one part in so many off each side."""
_GROWTH: Final = 8
"""Growing adds one part in so many to each side."""
_TOLERANCE: Final = 16
"""Levels by which a channel of a border's pixel may be off the border's colour: the ringing of a
JPEG block stays within it unless the block holds the picture's edge as well."""
_UNIFORM: Final = 0.98
"""Share of a row's pixels that have the border's colour if the row is border."""
_ROWS: Final = 64
"""Rows of pixels that are compared at a time, which bounds memory."""
_LEAST: Final = 4
"""Of each side at least one part in so many has to remain; a speck is no picture."""


def parse_views(text: str) -> tuple[str, ...]:
    """Names of views out of a list with commas.

    Raises:
        CurateError: a name is unknown or given twice, or `identity` does not come first.
    """
    names = tuple(name.strip() for name in text.split(","))
    check_views(names)
    return names


def check_views(names: tuple[str, ...]) -> None:
    """Check that these views can be used together, the first as the image itself.

    Raises:
        CurateError: a name is unknown or given twice, or `identity` does not come first.
    """
    for name in names:
        if name not in VIEWS:
            raise CurateError(
                f"--views: {name!r} is no view{nearest(name, VIEWS)}; views: {', '.join(VIEWS)}."
            )
    if len(set(names)) < len(names):
        raise CurateError(f"--views {','.join(names)}: one is given twice.")
    if names[:1] != ("identity",):
        raise CurateError(f"--views {','.join(names)}: the first has to be identity.")


def trim(image: Image.Image) -> Image.Image:
    """Cut off borders of one colour each: bars above and below, left and right, or frames.

    A row is border while nearly all of its pixels have the colour of the outermost one, as the
    median of each channel, within a tolerance that covers JPEG noise. Without a border, or when
    next to nothing would remain (a picture of one colour), the image comes back as it is.
    """
    pixels = np.asarray(image)
    top, left, bottom, right = 0, 0, image.height, image.width
    while True:
        before = (top, left, bottom, right)
        inner = pixels[top:bottom, left:right]
        above, below = _bars(inner)
        top, bottom = top + above, bottom - below
        first, last = _bars(pixels[top:bottom, left:right].transpose(1, 0, 2))
        left, right = left + first, right - last
        if (bottom - top) * _LEAST < image.height or (right - left) * _LEAST < image.width:
            return image
        if (top, left, bottom, right) == before:
            break
    if (right - left, bottom - top) == image.size:
        return image
    return image.crop((left, top, right, bottom))


def _bars(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """Rows of border at the top and at the bottom of (h, w, 3); all of them if it is one border."""
    if not pixels.size:
        return 0, 0
    above = _bar(pixels)
    return above, 0 if above == len(pixels) else _bar(pixels[::-1])


def _bar(pixels: NDArray[np.uint8]) -> int:
    colour = np.median(pixels[0], axis=0).astype(np.int16)
    for at in range(0, len(pixels), _ROWS):
        off = np.abs(pixels[at : at + _ROWS].astype(np.int16) - colour)
        is_picture = (off <= _TOLERANCE).all(axis=2).mean(axis=1) < _UNIFORM
        if is_picture.any():
            return at + int(is_picture.argmax())
    return len(pixels)


def _without(left: int, up: int, right: int, down: int) -> View:
    """A view that cuts off so many eighths (0 or 1) at each side."""

    def view(image: Image.Image) -> Image.Image:
        width, height = image.size
        across, along = width // _SHIFT, height // _SHIFT
        return image.crop(
            (left * across, up * along, width - right * across, height - down * along)
        )

    return view


def _zoom(image: Image.Image) -> Image.Image:
    width, height = image.size
    across, along = width // _ZOOM, height // _ZOOM
    return image.crop((across, along, width - across, height - along))


def _grow(image: Image.Image) -> Image.Image:
    across, along = (side // _GROWTH for side in image.size)
    padded = np.pad(np.asarray(image), ((along, along), (across, across), (0, 0)), "reflect")
    return Image.fromarray(padded)


def _turn(how: Image.Transpose) -> View:
    return lambda image: image.transpose(how)


def _mirrored(view: View) -> View:
    return lambda image: ImageOps.mirror(view(image))


_PLAIN: Final[dict[str, View]] = {
    "rot90": _turn(Image.Transpose.ROTATE_90),
    "rot180": _turn(Image.Transpose.ROTATE_180),
    "rot270": _turn(Image.Transpose.ROTATE_270),
    "trim": trim,
    "shift-left": _without(1, 0, 0, 0),
    "shift-up": _without(0, 1, 0, 0),
    "shift-right": _without(0, 0, 1, 0),
    "shift-down": _without(0, 0, 0, 1),
    "zoom": _zoom,
    "grow": _grow,
}

VIEWS: Final[dict[str, View]] = {
    "identity": lambda image: image,
    "mirror": ImageOps.mirror,
    **_PLAIN,
    **{f"mirror-{name}": _mirrored(view) for name, view in _PLAIN.items()},
}
"""All views by name."""
