"""Bytes of unknown origin -> one RGB image, by one set of rules, or an `ImageError` saying why.

Accepted formats: JPEG (and MPO, its first picture), PNG, WebP, GIF, BMP, TIFF and PNM. The format
is read from the first bytes, never from a file name, and the reader of no other format is tried.

Limits. Bytes are counted first, then the pixels that the header declares; a picture over either
limit is `too_large` and none of its pixels is decoded. PIL has a limit of its own,
2 * `PIL.Image.MAX_IMAGE_PIXELS`, which is read and never changed: the lower of the two holds.

Which picture. Of an animation (GIF, WebP, APNG) the first frame as PIL composes it on its canvas
(for an APNG with a separate still picture: that one), of a multi-page TIFF the first page.

Colour. The result is always mode "RGB", 8 bits, by these rules:
  - 1-bit, grey and palette pictures are spread over the three channels or looked up.
  - Transparency of any kind (alpha channel, palette alpha, colour key) is laid over white, each
    channel being round((c * a + 255 * (255 - a)) / 255).
  - CMYK, YCbCr and LAB use PIL's conversions; the CMYK of a JPEG is read as Adobe writes it,
    inverted. An embedded ICC profile is not applied.
  - 16 bits per channel keep their high byte (v // 256), grey as well as colour, so that a grey
    picture stored in either way gives the same result. 12-bit grey keeps its highest 8 bits.
    A 16-bit grey TIFF in which 0 means white is inverted, as PIL does for 8 bits.
  - A 16-bit PGM is brought to 0..65535 by its own maximum (PIL), then as above.
  - Numbers without a declared full scale (TIFF of 32-bit or signed integers, float TIFF, PFM): the
    first of the ranges 0..1 (floats only), 0..255 and 0..65535 that holds every value is taken for
    the full scale and rounded to 0..255 (0..65535 by its high byte); otherwise the picture's own
    minimum..maximum is. Floats that are not finite are `failed_to_decode`.

Orientation. The EXIF tag (else the XMP one) is applied; a broken one or one not in 1..8 is ignored.

Failures. A picture of which any pixel is missing because the file was cut is `failed_to_decode`,
never part grey, and so is a TIFF that lists too few strips. What PIL cannot tell from a whole file
passes as PIL reads it: a JPEG that was cut and given a new end marker, a PNG whose compressed
stream ends early in good order or whose pixel data contradict their checksum, a plain (ASCII) PNM
cut inside its last number. The statuses are
  - `zero_bytes`: no bytes at all;
  - `not_an_image`: the first bytes are those of no accepted format;
  - `too_large`: over a limit, or more than the memory of the machine;
  - `failed_to_decode`: an accepted format, but broken, cut or of a kind that PIL cannot read.

Reduced size. `read_picture` may decode a JPEG to a half, a quarter or an eighth of its sides: from
fewer coefficients of each block, which saves most of the arithmetic, though all of the file is read
and refused as above. Such pixels are not those of the whole picture made smaller, but near them.
Only what is coded by DCT is reduced; PIL's reader would write past its buffer for anything else.

Warnings of PIL are silenced for the decoding thread only, whatever the filters of the process say.
Every function may be called from several threads at once.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import numpy as np

# Imported for their registration: when one is missing, Image.open() imports every plugin it knows.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from curate.errors import CurateError

if TYPE_CHECKING:
    from types import TracebackType

GreyArray: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Status: TypeAlias = Literal["zero_bytes", "not_an_image", "too_large", "failed_to_decode"]

_MAGIC: Final = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),  # this reader hands over to MPO by itself
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WEBP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II[*+]\x00|MM\x00[*+]|II\x00\*|MM\*\x00")),
    ("PPM", re.compile(rb"P[1-6f][ \t\n\r\v\f]")),
)

_TRANSPOSITION: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ON_ITS_SIDE: Final = frozenset((5, 6, 7, 8))

# Second bytes of a JPEG's markers: frames are SOF0..SOF15; DHT, JPG and DAC stand among them.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DCT_FRAMES: Final = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
# DHT and DAC; DQT, DNL, DRI, DHP, EXP, APP0..APP15, JPG0..JPG13 and COM: each states its length.
_SEGMENTS: Final = frozenset((0xC4, 0xCC, *range(0xDB, 0xFF)))

# What PIL's readers, written in Python over unchecked fields of the file, raise on hostile bytes.
_HOSTILE: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_ORIENTATION: Final = 0x0112
_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_SAMPLE_FORMAT: Final = 339
_REASON_LENGTH: Final = 200
_BYTE: Final = 255
_SHORT: Final = 65535


class ImageError(CurateError):
    """These bytes give no image. `status` is the word for tables, `str()` a short reason."""

    def __init__(self, status: Status, reason: str) -> None:
        """Keep both as arguments, so that the error survives pickling between processes."""
        super().__init__(status, reason)
        self.status: Status = status

    def __str__(self) -> str:
        """Return the reason alone."""
        return str(self.args[1])


@dataclass(frozen=True)
class ImageLimits:
    """The most that is accepted: encoded bytes, and declared pixels (width * height)."""

    max_bytes: int = 256 * 2**20
    max_pixels: int = 2**27


_DEFAULT_LIMITS: Final = ImageLimits()


@dataclass(frozen=True)
class Picture:
    """A decoded image, and the size it is stored at.

    Attributes:
        image: mode "RGB", upright, without metadata.
        width: of the whole picture, upright.
        height: likewise.
        divisor: the sides of `image` are so many times shorter: 1, 2, 4 or 8, rounded up.
    """

    image: Image.Image
    width: int
    height: int
    divisor: int = 1


class _Here(threading.local):
    inside = False


class _Silence:
    """A warnings filter that ignores everything, in the threads that are inside of it only.

    `warnings.catch_warnings` swaps the filters of the whole process and is not thread-safe. Here
    each entry adds one filter in front, whose message pattern (an object with `match`) says yes in
    decoding threads only, and takes it away again; what may be left behind matches nothing.
    """

    def __init__(self) -> None:
        self._here = _Here()
        self._lock = threading.Lock()
        self._filter = ("ignore", self, Warning, None, 0)

    def match(self, _text: str) -> bool:
        return self._here.inside

    def __enter__(self) -> None:
        with self._lock:
            cast("list[Any]", warnings.filters).insert(0, self._filter)
        self._here.inside = True

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._here.inside = False
        # Another thread's catch_warnings may have put back a list that never held the filter.
        with self._lock, contextlib.suppress(ValueError):
            cast("list[Any]", warnings.filters).remove(self._filter)


_SILENCE: Final = _Silence()


def decode(data: bytes, limits: ImageLimits = _DEFAULT_LIMITS) -> Image.Image:
    """Decode one encoded image to mode "RGB" by the rules at the top of this module.

    Args:
        data: the file as stored.
        limits: what is accepted at most.

    Returns:
        An image of its own, without metadata, upright, 8 bits per channel.

    Raises:
        ImageError: these bytes give no image; see its `status`.
        CurateError: the process is set up so that PIL would pass cut files as whole ones.

    """
    return read_picture(data, limits).image


def read_picture(
    data: bytes, limits: ImageLimits = _DEFAULT_LIMITS, least: int | None = None
) -> Picture:
    """Decode one encoded image as `decode` does, at a reduced size where that is allowed.

    Args:
        data: the file as stored.
        limits: what is accepted at most, of the picture as it is stored.
        least: the shorter side of a JPEG may be reduced to no less than so many pixels, by the
            largest divisor that keeps to it; None: nothing is reduced.

    Raises:
        ImageError: as `decode`, for the same files whatever `least` is.
        CurateError: as `decode`.

    """
    if not data:
        raise ImageError(status="zero_bytes", reason="the file is empty")
    if len(data) > limits.max_bytes:
        raise ImageError(
            status="too_large", reason=f"{len(data)} bytes, the limit is {limits.max_bytes}"
        )
    name = next((name for name, magic in _MAGIC if magic.match(data)), None)
    if name is None:
        raise ImageError(
            status="not_an_image", reason="the first bytes are those of no accepted format"
        )
    _refuse_lenient_pil()
    try:
        with _SILENCE:
            return _decode(data, name, limits, least)
    except UnidentifiedImageError as error:  # whose text holds an address, new in every run
        raise ImageError(status="failed_to_decode", reason=f"broken {name} header") from error
    except (MemoryError, Image.DecompressionBombError) as error:
        raise ImageError(status="too_large", reason=_reason(error)) from error
    except _HOSTILE as error:
        raise ImageError(status="failed_to_decode", reason=_reason(error)) from error


def _refuse_lenient_pil() -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        message = (
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set in this process, so that a cut image would "
            "pass as a whole one with grey pixels. Set it to False before decoding."
        )
        raise CurateError(message)


def _reason(error: BaseException) -> str:
    """Name an error in one printable line: its text may quote the file."""
    text = f"{type(error).__name__}: {error}"
    return "".join(c if c.isprintable() else " " for c in text)[:_REASON_LENGTH].strip(" :")


def _decode(data: bytes, name: str, limits: ImageLimits, least: int | None) -> Picture:
    with Image.open(io.BytesIO(data), formats=(name,)) as image:
        width, height = image.size
        if width * height > limits.max_pixels:
            reason = f"{width} x {height} pixels, the limit is {limits.max_pixels}"
            raise ImageError(status="too_large", reason=reason)
        if name == "TIFF":
            _refuse_gaps(image)
        drafted = None
        if least is not None and name == "JPEG" and is_dct(data):
            drafted = image.draft(None, (least, least))
        image.load()
        rgb = _to_rgb(image)
        orientation = _orientation(image)
    rgb.info = {}
    if not drafted:
        width, height = rgb.size  # which PIL has turned for a TIFF
    divisor = round(width / drafted[1][2]) if drafted else 1
    if orientation in _TRANSPOSITION:
        rgb = rgb.transpose(_TRANSPOSITION[orientation])
    if orientation in _ON_ITS_SIDE:
        width, height = height, width
    return Picture(rgb, width, height, divisor)


def is_dct(data: bytes) -> bool:
    """True for a JPEG whose first frame is coded by DCT (ITU-T T.81, table B.1), not lossless.

    Anything out of the ordinary between start and frame makes it False.
    """
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in _FRAMES:
            return marker in _DCT_FRAMES
        if marker not in _SEGMENTS:
            return False
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _refuse_gaps(image: ImageFile.ImageFile) -> None:
    """Refuse a TIFF whose strips or tiles cannot cover it: PIL would leave the rest black."""
    boxes = [tile.extents for tile in image.tile if tile.extents is not None]
    covered = sum((right - left) * (lower - upper) for left, upper, right, lower in boxes)
    if covered < image.width * image.height:
        message = "strips or tiles are missing"
        raise ValueError(message)


def _orientation(image: ImageFile.ImageFile) -> int:
    """Return the EXIF orientation, 1 where there is none to be used (PIL turns a TIFF itself)."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except _HOSTILE:  # metadata that is broken does not spoil the pixels
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """Convert a loaded image of any mode to a new image of mode "RGB"."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return Image.fromarray(_deep_to_grey(image)).convert("RGB")
    keyed = image.mode in {"1", "L", "P", "RGB"} and image.has_transparency_data
    if keyed or image.mode in {"LA", "PA", "RGBA"}:
        layer = image.convert("RGBA")
        white = Image.new("RGB", image.size, (_BYTE, _BYTE, _BYTE))
        white.paste(layer, mask=layer)
        return white
    return image.convert("RGB")


def _deep_to_grey(image: ImageFile.ImageFile) -> GreyArray:
    """Bring one channel of more than 8 bits, (height, width), to uint8."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode in {"I", "F"} and not (image.format == "PPM" and image.mode == "I"):
        if tags.get(_SAMPLE_FORMAT, (1,)) == (1,) and image.mode == "I":
            values = values.view(np.uint32)  # PIL keeps unsigned 32-bit numbers as signed ones
        grey = _undeclared_to_byte(values)
    else:
        grey = (values >> (4 if tags.get(_BITS_PER_SAMPLE) == (12,) else 8)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:
        grey = _BYTE - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey = np.where(values == key, np.uint8(_BYTE), grey)
    return grey


def _undeclared_to_byte(values: np.ndarray[Any, np.dtype[Any]]) -> GreyArray:
    """Bring numbers without a declared full scale to uint8 by the first range that holds them."""
    low, high = values.min().item(), values.max().item()
    if not np.isfinite((low, high)).all():  # a NaN anywhere makes both NaN
        message = "not all float pixels are finite"
        raise ValueError(message)
    scaled: np.ndarray[Any, np.dtype[Any]]
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        scaled = values * np.float32(_BYTE)
    elif low >= 0 and high <= _BYTE:
        scaled = values
    elif low >= 0 and high <= _SHORT:
        scaled = values.astype(np.uint16) >> 8
    else:  # float64 holds every int32 and float32, and their differences, without overflow
        span = max(float(high) - float(low), np.finfo(np.float64).tiny)
        scaled = (values.astype(np.float64) - low) / span * _BYTE
    grey: GreyArray = np.rint(scaled).astype(np.uint8)
    return grey
