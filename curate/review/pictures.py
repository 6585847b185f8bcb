"""Images of pairs as a page shows them: decoded under limits, always encoded anew.

No stored byte reaches a browser. Small images stay as they are to the pixel.
"""

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from curate.errors import CurateError
from curate.images import ImageError, decode
from curate.lookup import Samples
from curate.samples import Failure, Sample, image_member
from curate.views import VIEWS

if TYPE_CHECKING:
    from PIL import Image

Side = Literal["test", "train"]
Size = Literal["view", "full"]

SIDES: Final[tuple[Side, Side]] = ("test", "train")
LONGEST: Final[dict[Size, int]] = {"view": 1024, "full": 4096}
"""Longest side in pixels; `full` is for looking closely."""
IDENTITY: Final = "identity"
_LOSSLESS: Final = 512
"""Up to this longest side pixels are kept exactly."""
_QUALITY: Final = 95
_CACHE: Final = 64 << 20
"""Bytes of encoded images that are kept."""


class PictureError(CurateError):
    """There is nothing to show; the text says why, in a few words."""


@dataclass(frozen=True)
class Picture:
    """An encoded image, and what is known of the stored one.

    Attributes:
        data: PNG or JPEG.
        kind: its media type.
        width: of the stored image in pixels.
        height: likewise.
        stored: bytes of the stored image.
        sha256: of these (hex).
        label: class name or number, if the sample has one.
        caption: likewise.
    """

    data: bytes
    kind: str
    width: int
    height: int
    stored: int
    sha256: str
    label: str | None
    caption: str | None


_Key = tuple[Side, str, str, Size]


class Pictures:
    """The images of both sides; may be used by several threads.

    Args:
        sides: the samples of each side, or in a few words why there are none.
    """

    def __init__(self, sides: Mapping[Side, Samples | str]) -> None:
        self._sides = sides
        self._kept: OrderedDict[_Key, Picture] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, side: Side, id_: str, view: str = IDENTITY, size: Size = "view") -> Picture:
        """An image, under the view that a pair was found by.

        Raises:
            PictureError: there is no image, or none that can be shown.
        """
        key = (side, id_, view, size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        picture = _picture(self._sample(side, id_), view, size)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = picture
                self._bytes += len(picture.data)
            while self._bytes > _CACHE and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1].data)
        return picture

    def _sample(self, side: Side, id_: str) -> Sample:
        samples = self._sides[side]
        if isinstance(samples, str):
            raise PictureError(samples)
        try:
            found = samples.read(id_)
        except CurateError as error:
            raise PictureError("its shard cannot be read") from error
        if found is None:
            raise PictureError("not in its shard any more")
        return found


def _picture(sample: Sample, view: str, size: Size) -> Picture:
    member = image_member(sample)
    if isinstance(member, Failure):
        raise PictureError(member.status.replace("_", " "))
    data = member.data or b""
    try:
        image = decode(data)
    except ImageError as error:
        raise PictureError(error.status.replace("_", " ")) from error
    width, height = image.size
    encoded, kind = _encoded(VIEWS[view](image) if view in VIEWS else image, LONGEST[size])
    digest = hashlib.sha256(data).hexdigest()
    return Picture(
        encoded, kind, width, height, len(data), digest, sample.label, sample.caption
    )  # fmt: skip


def _encoded(image: "Image.Image", longest: int) -> tuple[bytes, str]:
    from PIL import Image

    if max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(image.size) <= _LOSSLESS:
        image.save(buffer, "PNG", compress_level=3)
        return buffer.getvalue(), "image/png"
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue(), "image/jpeg"
