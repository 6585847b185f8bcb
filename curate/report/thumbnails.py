"""Images of a report, re-encoded small enough to travel inside the page."""

import base64
import io
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from curate.images import ImageError, decode

if TYPE_CHECKING:
    from PIL import Image

Key = TypeVar("Key", bound=Hashable)

# (longest side in pixels, WebP quality), tried in this order until the images fit the budget.
_RUNGS = ((128, 84), (112, 76), (96, 66), (96, 45), (80, 30))
# Up to this side an image is kept pixel for pixel and the browser enlarges it.
_TINY = 64
_PREFIX = "data:image/webp;base64,"


@dataclass(frozen=True)
class Thumbnail:
    """An image as the page shows it.

    Attributes:
        uri: a `data:` address, or None where there is nothing to show.
        width: width of the stored image in pixels, None if it is not known.
        height: likewise.
        tiny: stored image of at most 64 pixels a side, to be enlarged without smoothing.
        problem: why there is no image.
    """

    uri: str | None
    width: int | None = None
    height: int | None = None
    tiny: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class _Small:
    """A decoded image at no more than the largest thumbnail size, and its stored size."""

    image: "Image.Image"
    width: int
    height: int


def thumbnails(
    keys: Sequence[Key], images: Mapping[Key, bytes], budget: int
) -> dict[Key, Thumbnail]:
    """Thumbnails of all `keys`, together at most `budget` characters of `data:` text.

    Size and quality step down together for all images, so that two tiles can be compared; when
    even the lowest step is too much, the last keys go without an image.

    Args:
        keys: one entry for every tile on the page, the ones that matter most first. A key that
            comes twice is stored twice.
        images: stored bytes by key; keys may be missing.
        budget: most characters in all addresses together.
    """
    uses = Counter(keys)
    small = {key: _shrink(images.get(key)) for key in uses}
    shown: dict[Key, Thumbnail] = {}
    for side, quality in _RUNGS:
        shown = {key: _render(found, side, quality) for key, found in small.items()}
        if sum(_size(tile) * uses[key] for key, tile in shown.items()) <= budget:
            return shown
    return _cut(shown, uses, budget)


def _size(tile: Thumbnail) -> int:
    return len(tile.uri or "")


def _shrink(data: bytes | None) -> _Small | str:
    """The image, or why there is none."""
    from PIL import Image

    if data is None:
        return "not available"
    try:
        image = decode(data)
    except ImageError as error:
        return error.status.replace("_", " ")
    width, height = image.size
    if max(width, height) > _RUNGS[0][0]:
        image.thumbnail((_RUNGS[0][0], _RUNGS[0][0]), Image.Resampling.LANCZOS)
    return _Small(image, width, height)


def _render(found: _Small | str, side: int, quality: int) -> Thumbnail:
    if isinstance(found, str):
        return Thumbnail(None, problem=found)
    tiny = max(found.width, found.height) <= _TINY
    image = found.image
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    # Enlarged pixels show every artefact, so tiny images lose less.
    image.save(buffer, "WEBP", quality=min(quality + 10, 95) if tiny else quality, method=4)
    uri = _PREFIX + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(uri, found.width, found.height, tiny)


def _cut(shown: dict[Key, Thumbnail], uses: Counter[Key], budget: int) -> dict[Key, Thumbnail]:
    """Without the images that come after the budget is spent."""
    kept: dict[Key, Thumbnail] = {}
    left = budget
    for key, tile in shown.items():
        left -= _size(tile) * uses[key]
        fits = left >= 0 or tile.uri is None
        reason = "left out to keep the page small"
        kept[key] = tile if fits else replace(tile, uri=None, problem=reason)
    return kept
