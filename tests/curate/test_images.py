"""Every rule of curate.images against pictures made here, pixel by pixel where it can be."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import threading
import warnings
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from curate.errors import CurateError
from curate.images import (
    _SILENCE,
    ImageError,
    ImageLimits,
    _reason,
    decode,
    is_dct,
    read_picture,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ORIENTATION = 0x0112
PNG = b"\x89PNG\r\n\x1a\n"
# The EXIF standard's words for tag 0x0112: where row 0 and column 0 of the stored picture belong.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def noise(width: int = 13, height: int = 9, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def smooth() -> Image.Image:
    ramp = Image.radial_gradient("L").resize((32, 24))
    return Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180)))


def pixels(data: bytes) -> list[tuple[int, int, int]]:
    image = decode(data)
    assert image.mode == "RGB"
    raw = image.tobytes()
    return [(raw[i], raw[i + 1], raw[i + 2]) for i in range(0, len(raw), 3)]


def greys(data: bytes) -> list[int]:
    found = pixels(data)
    assert all(r == g == b for r, g, b in found)
    return [r for r, _, _ in found]


def status(data: bytes, limits: ImageLimits = ImageLimits()) -> str:  # noqa: B008 - frozen
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    assert str(caught.value).isprintable()
    assert 0 < len(str(caught.value)) <= 200
    assert " at 0x" not in str(caught.value)
    return caught.value.status


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, body: bytes, *extra: bytes) -> bytes:
    """Write a PNG from raw rows (filter bytes included); `extra` chunks stand before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return (
        PNG + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    )


def tiff(
    width: int,
    height: int,
    bits: int,
    data: bytes,
    extra: Mapping[int, tuple[int, Sequence[int]]] = MappingProxyType({}),
) -> bytes:
    """Write a one-strip, one-channel little-endian TIFF; `extra` is {tag: (type, values)}."""
    tags: dict[int, tuple[int, Sequence[int]]]
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits]), 259: (3, [1]), 262: (3, [1])}
    tags |= {273: (4, [0]), 277: (3, [1]), 278: (4, [height]), 279: (4, [len(data)])} | dict(extra)
    heap_at = 8 + 2 + 12 * len(tags) + 4
    entries, heap = b"", b""
    for tag, (kind, values) in sorted(tags.items(), key=lambda item: (item[0] == 273, item[0])):
        size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}[kind]
        body = b"".join(value.to_bytes(size, "little") for value in values)
        if tag == 273 and tag not in extra:  # written last, when the place of the strip is known
            body = struct.pack("<I", heap_at + len(heap))
        if len(body) > 4:
            body, heap = struct.pack("<I", heap_at + len(heap)), heap + body
        entries += struct.pack("<HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + heap + data


def laid_over_white(value: int, alpha: int) -> int:
    """The slow twin of compositing: exact integers, nearest."""
    return (2 * (value * alpha + 255 * (255 - alpha)) + 255) // 510


# --- what is accepted, and the words for what is not ---


def test_each_accepted_format_is_read_from_its_content() -> None:
    image = noise()
    for name in ("PNG", "BMP", "TIFF", "PPM"):
        assert decode(encoded(image, name)).tobytes() == image.tobytes(), name
    assert decode(encoded(image, "WEBP", lossless=True)).tobytes() == image.tobytes()
    assert decode(encoded(image.convert("L"), "GIF")).tobytes() == (
        image.convert("L").convert("RGB").tobytes()
    )
    found = decode(encoded(smooth(), "JPEG", quality=100, subsampling=0))
    assert np.abs(np.asarray(found, np.float32) - np.asarray(smooth(), np.float32)).max() <= 4


def test_an_mpo_gives_its_first_picture() -> None:
    other = smooth().rotate(180)
    data = encoded(smooth(), "MPO", save_all=True, append_images=[other], quality=95)
    with Image.open(io.BytesIO(data)) as check:
        assert check.format == "MPO"
    assert decode(data).tobytes() == decode(encoded(smooth(), "JPEG", quality=95)).tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"Not found",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"P7\nWIDTH 1\n",
        b"PyRGBA 1 1 255 abcd",
        b"\0" * 100,
        b"RIFF\x04\0\0\0WAVE",
        encoded(noise(), "TGA"),
        encoded(noise(), "ICO"),
        encoded(noise(), "JPEG2000"),
    ],
)
def test_everything_else_is_not_an_image(data: bytes) -> None:
    assert status(data) == "not_an_image"


def test_no_bytes_at_all_have_their_own_word() -> None:
    assert status(b"") == "zero_bytes"


def test_the_reader_of_one_format_alone_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Sequence[str]] = []
    image_open = Image.open

    def spy(file: io.BytesIO, *, formats: tuple[str, ...]) -> ImageFile.ImageFile:
        tried.append(formats)
        return image_open(file, formats=formats)

    monkeypatch.setattr(Image, "open", spy)
    for name in ("GIF", "TIFF", "JPEG"):
        decode(encoded(noise(), name))
    assert tried == [("GIF",), ("TIFF",), ("JPEG",)]


def test_reasons_are_short_and_printable_whatever_the_file_puts_into_them() -> None:
    with pytest.raises(ImageError, match=r"^broken PNG header$"):
        decode(png(0, 5, 8, 2, b""))
    assert _reason(ValueError("a\n\x1b[31mb" + "x" * 999)).startswith("ValueError: a  [31mbxx")
    assert len(_reason(ValueError("x" * 999))) == 200


def test_more_bytes_than_the_limit_are_too_large() -> None:
    data = encoded(noise(), "PNG")
    assert status(data, ImageLimits(max_bytes=len(data) - 1)) == "too_large"
    assert decode(data, ImageLimits(max_bytes=len(data))).size == (13, 9)


def test_pixels_are_counted_before_any_is_decoded() -> None:
    undecodable = png(10, 10, 8, 2, b"")
    assert status(undecodable, ImageLimits(max_pixels=99)) == "too_large"
    whole = encoded(noise(10, 10), "PNG")
    assert status(whole, ImageLimits(max_pixels=99)) == "too_large"
    assert decode(whole, ImageLimits(max_pixels=100)).size == (10, 10)
    broken = whole.replace(b"IDAT", b"IDAT\xff\xff")
    assert status(broken, ImageLimits(max_pixels=99)) == "too_large"
    assert status(broken, ImageLimits(max_pixels=100)) == "failed_to_decode"


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_decompression_bombs_are_too_large_without_touching_the_limit_of_pil(side: int) -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert status(png(side, side, 8, 2, b"")) == "too_large"
    assert status(tiff(side, side, 8, b"abc")) == "too_large"
    assert status(b"P6 %d %d 255 abc" % (side, side)) == "too_large"
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_lower_of_our_limit_and_that_of_pil_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(encoded(noise(5, 4), "PNG")).size == (5, 4)
    assert status(encoded(noise(7, 3), "PNG")) == "too_large"


@pytest.mark.parametrize(
    "data",
    [
        png(0, 5, 8, 2, b""),
        png(5, 0, 8, 2, b""),
        tiff(0, 8, 8, b"abc"),
        b"P6 0 4 255 abc",
        b"BM" + bytes(100),
        b"GIF89a" + bytes(7) + b";",
        b"\xff\xd8\xff",
        b"RIFF\x04\0\0\0WEBP",
        tiff(8, 8, 8, bytes(64), {277: (3, [60000])}),
        tiff(8, 8, 8, bytes(64), {259: (3, [999])}),
        tiff(8, 8, 8, bytes(16), {278: (4, [2])}),
    ],
)
def test_absurd_headers_of_accepted_formats_fail_to_decode(data: bytes) -> None:
    assert status(data) == "failed_to_decode"


@pytest.mark.parametrize("before", [True, False])
def test_a_png_with_a_text_bomb_fails_and_one_with_much_text_does_not(*, before: bool) -> None:
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70 * 2**20)))
    text = chunk(b"tEXt", b"a\0" + b"x" * 2**20)
    rows = (b"\0" + bytes(24)) * 8
    if before:
        assert status(png(8, 8, 8, 2, rows, bomb)) == "failed_to_decode"
        assert decode(png(8, 8, 8, 2, rows, text)).info == {}
    else:
        body = png(8, 8, 8, 2, rows)
        assert status(body[:-12] + bomb + body[-12:]) == "failed_to_decode"
        assert decode(body[:-12] + text + body[-12:]).info == {}


def test_a_tiff_with_strange_tags_keeps_its_pixels() -> None:
    strange = {
        274: (2, [65, 66, 0]),  # an orientation in letters
        282: (5, [1]),  # a resolution of 1/0
        305: (7, [1, 2, 255]),
        34665: (4, [2**32 - 1]),  # an EXIF directory beyond the end
        60000: (3, [1] * 50),
    }
    assert greys(tiff(3, 2, 8, bytes(range(6)), strange)) == list(range(6))


# --- cut files ---


def cut_subjects() -> dict[str, bytes]:
    image, palette = smooth(), smooth().quantize(30)
    return {
        "jpeg": encoded(image, "JPEG"),
        "progressive": encoded(image, "JPEG", progressive=True),
        "png": encoded(image, "PNG"),
        "palette png": encoded(palette, "PNG"),
        "webp": encoded(image, "WEBP"),
        "lossless webp": encoded(image, "WEBP", lossless=True),
        "gif": encoded(palette, "GIF"),
        "bmp": encoded(palette, "BMP"),
        "ppm": encoded(image.convert("L"), "PPM"),
        "raw tiff": encoded(palette, "TIFF"),
        "lzw tiff": encoded(palette, "TIFF", compression="tiff_lzw"),
        "deflate tiff": encoded(palette, "TIFF", compression="tiff_adobe_deflate"),
    }


def pixels_or_status(data: bytes) -> bytes | str:
    try:
        return decode(data).tobytes()
    except ImageError as error:
        return error.status


@pytest.mark.parametrize("name", cut_subjects())
def test_a_cut_file_fails_or_has_every_pixel_of_the_whole_one(name: str) -> None:
    data = cut_subjects()[name]
    whole = decode(data).tobytes()
    found = [pixels_or_status(data[:length]) for length in range(1, len(data))]
    assert set(found) <= {whole, "failed_to_decode", "not_an_image"}
    assert found.count(whole) < 0.1 * len(data)


def test_the_leniency_switch_of_pil_is_refused_and_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(smooth(), "JPEG")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(CurateError, match="LOAD_TRUNCATED_IMAGES") as caught:
        decode(data[:-100])
    assert not isinstance(caught.value, ImageError)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


# --- colour ---


def test_one_bit_and_grey_are_spread_over_the_channels() -> None:
    assert greys(png(4, 1, 1, 0, b"\0\xa0")) == [255, 0, 255, 0]
    assert greys(png(4, 1, 2, 0, b"\0\x1b")) == [0, 85, 170, 255]
    assert greys(b"P5 3 1 255 \x00\x07\xff") == [0, 7, 255]


def test_palettes_are_looked_up() -> None:
    colours = chunk(b"PLTE", bytes([1, 2, 3, 250, 128, 0]))
    assert pixels(png(2, 1, 8, 3, b"\0\x01\x00", colours)) == [(250, 128, 0), (1, 2, 3)]


def test_an_alpha_channel_is_laid_over_white_exactly() -> None:
    values, alphas = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    layer = np.stack([values, 255 - values, values // 2, alphas], axis=-1)
    expected = [
        tuple(laid_over_white(int(c), int(p[3])) for c in p[:3]) for p in layer.reshape(-1, 4)
    ]
    assert pixels(encoded(Image.fromarray(layer), "PNG")) == expected
    assert pixels(encoded(Image.fromarray(layer), "WEBP", lossless=True, exact=True)) == expected


def test_grey_with_alpha_is_laid_over_white() -> None:
    assert greys(png(3, 1, 8, 4, b"\0\x00\x00\x64\x80\x64\xff")) == [
        255,
        laid_over_white(100, 128),
        100,
    ]


def test_a_palette_with_an_alpha_channel_is_laid_over_white() -> None:
    assert set(pixels(encoded(Image.new("PA", (2, 2)), "TIFF"))) == {(255, 255, 255)}


def test_palette_alpha_and_colour_keys_are_laid_over_white() -> None:
    colours = chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 0]))
    half = chunk(b"tRNS", bytes([128]))
    over = tuple(laid_over_white(c, 128) for c in (10, 20, 30))
    assert pixels(png(2, 1, 8, 3, b"\0\x00\x01", colours, half)) == [over, (200, 100, 0)]
    key = chunk(b"tRNS", struct.pack(">H", 9))
    assert greys(png(2, 1, 8, 0, b"\0\x09\x0a", key)) == [255, 10]
    key = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    assert pixels(png(2, 1, 8, 2, b"\0\1\2\3\1\2\4", key)) == [(255, 255, 255), (1, 2, 4)]


def test_cmyk_is_read_as_ink_and_as_adobe_inverts_it() -> None:
    inks = {(255, 0, 0, 0): (0, 255, 255), (0, 0, 255, 0): (255, 255, 0), (0, 0, 0, 255): (0, 0, 0)}
    for ink, colour in inks.items():
        image = Image.new("CMYK", (16, 16), ink)
        jpeg = encoded(image, "JPEG", quality=95)
        assert b"Adobe" in jpeg
        assert np.abs(np.subtract(pixels(jpeg), colour)).max() <= 3
        assert set(pixels(encoded(image, "TIFF"))) == {colour}


def test_ycbcr_and_lab_tiffs_become_rgb() -> None:
    (found,) = set(pixels(encoded(Image.new("YCbCr", (2, 2), (76, 85, 255)), "TIFF")))
    assert np.abs(np.subtract(found, (254, 0, 0))).max() <= 1  # BT.601 red
    for lab, colour in {(255, 128, 128): (255, 255, 255), (138, 167, 169): (200, 100, 60)}.items():
        (found,) = set(pixels(encoded(Image.new("LAB", (2, 2), lab), "TIFF")))
        assert np.abs(np.subtract(found, colour)).max() <= 2  # by the CIE formulas, under D50


# --- more than 8 bits ---


def test_sixteen_bits_keep_their_high_byte_in_every_container() -> None:
    values = [0, 1, 255, 256, 257, 32767, 32768, 65279, 65280, 65535]
    expected = [value // 256 for value in values]
    big, little = struct.pack(">10H", *values), struct.pack("<10H", *values)
    assert greys(png(10, 1, 16, 0, b"\0" + big)) == expected
    assert (
        greys(png(10, 1, 16, 2, b"\0" + b"".join(struct.pack(">H", v) * 3 for v in values)))
        == expected
    )
    assert greys(b"P5 10 1 65535 " + big) == expected
    assert greys(tiff(10, 1, 16, little)) == expected
    big_endian = Image.frombytes("I;16B", (10, 1), big)
    assert greys(encoded(big_endian, "TIFF")) == expected
    assert greys(encoded(big_endian, "TIFF", compression="tiff_lzw")) == expected


def test_a_colour_key_in_sixteen_bits_matches_all_sixteen() -> None:
    key = chunk(b"tRNS", struct.pack(">H", 513))
    assert greys(png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 513, 514), key)) == [255, 2]


def test_twelve_bits_keep_their_highest_eight_and_white_is_zero_is_inverted() -> None:
    assert greys(tiff(2, 1, 12, bytes([0xFF, 0xF0, 0x80]))) == [255, 8]
    inverted = {262: (3, [0])}
    assert greys(tiff(2, 1, 8, bytes([0, 200]), inverted)) == [255, 55]
    assert greys(tiff(2, 1, 16, struct.pack("<2H", 0, 51200), inverted)) == [255, 55]


def test_a_pgm_with_an_odd_maximum_is_scaled_by_it() -> None:
    assert greys(b"P2 3 1 700 0 350 700") == [0, 128, 255]
    assert greys(b"P2 3 1 7 0 1 7") == [0, 36, 255]
    assert greys(b"P2 2 1 65535 0 200") == [0, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 7, 255], [0, 7, 255]),
        ([0, 511, 65535], [0, 1, 255]),
        ([0, 2**31, 2**32 - 1], [0, 128, 255]),
        ([65536, 65536, 65536], [0, 0, 0]),
    ],
)
def test_unsigned_integers_take_the_first_range_that_holds_them(
    values: list[int], expected: list[int]
) -> None:
    assert greys(tiff(3, 1, 32, struct.pack("<3I", *values))) == expected


def test_signed_integers_below_zero_are_stretched() -> None:
    signed = {339: (3, [2])}
    assert greys(tiff(3, 1, 16, struct.pack("<3h", -100, 0, 100), signed)) == [0, 128, 255]
    assert greys(tiff(3, 1, 32, struct.pack("<3i", -(2**31), 0, 2**31 - 1), signed)) == [
        0,
        128,
        255,
    ]
    assert greys(tiff(3, 1, 16, struct.pack("<3h", 0, 50, 100), signed)) == [0, 50, 100]


FLOATS = [
    ([0.0, 0.5, 1.0], [0, 128, 255]),
    ([0.0, 99.6, 255.0], [0, 100, 255]),
    ([0.0, 512.0, 65535.0], [0, 2, 255]),
    ([-1.0, 0.0, 1.0], [0, 128, 255]),
    ([-3e38, 0.0, 3e38], [0, 128, 255]),
    ([-5.0, -5.0, -5.0], [0, 0, 0]),
]


@pytest.mark.parametrize(("values", "expected"), FLOATS)
def test_floats_take_the_first_range_that_holds_them(
    values: list[float], expected: list[int]
) -> None:
    body = struct.pack("<3f", *values)
    assert greys(tiff(3, 1, 32, body, {339: (3, [3])})) == expected
    assert greys(b"Pf\n3 1\n-1.0\n" + body) == expected


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_floats_that_are_not_finite_fail(odd: float) -> None:
    body = struct.pack("<3f", 0, odd, 1)
    assert status(tiff(3, 1, 32, body, {339: (3, [3])})) == "failed_to_decode"


# --- frames and orientation ---


def test_animations_give_their_first_frame() -> None:
    first, second = noise(seed=1), noise(seed=2)
    film = {"save_all": True, "append_images": [second]}
    assert decode(encoded(first, "PNG", **film)).tobytes() == first.tobytes()
    assert decode(encoded(first, "TIFF", **film)).tobytes() == first.tobytes()
    webp = encoded(first, "WEBP", lossless=True, **film)
    assert decode(webp).tobytes() == first.tobytes()
    grey = {"save_all": True, "append_images": [second.convert("L")]}
    gif = encoded(first.convert("L"), "GIF", **grey)
    assert decode(gif).tobytes() == first.convert("L").convert("RGB").tobytes()


def stored_for(upright: Image.Image, orientation: int) -> Image.Image:
    """Store a picture as a turned camera does: the slow twin, from the words of the standard."""
    width, height = upright.size
    place = {
        "top": lambda i: i, "bottom": lambda i: height - 1 - i,
        "left": lambda i: i, "right": lambda i: width - 1 - i,
    }  # fmt: skip
    row, column = SIDES[orientation]
    on_its_side = row in {"left", "right"}
    stored = Image.new("RGB", (height, width) if on_its_side else (width, height))
    for r in range(stored.height):
        for c in range(stored.width):
            a, b = place[row](r), place[column](c)
            pixel = upright.getpixel((a, b) if on_its_side else (b, a))
            stored.putpixel((c, r), cast("tuple[int, ...]", pixel))
    return stored


@pytest.mark.parametrize("orientation", SIDES)
def test_each_orientation_is_turned_upright(orientation: int) -> None:
    upright = noise(7, 4)
    stored = stored_for(upright, orientation)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for name, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        found = decode(encoded(stored, name, exif=exif, **options))
        assert found.size == (7, 4), name
        assert found.tobytes() == upright.tobytes(), name
        assert ORIENTATION not in found.getexif()
    plain = decode(encoded(stored, "JPEG"))
    turned = decode(encoded(stored, "JPEG", exif=exif))
    assert turned.tobytes() == stored_for_inverse(plain, orientation).tobytes()


def stored_for_inverse(stored: Image.Image, orientation: int) -> Image.Image:
    """Turn upright: the two quarter turns undo each other, every other turn undoes itself."""
    return stored_for(stored, {6: 8, 8: 6}.get(orientation, orientation))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_out_of_range_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    assert decode(encoded(noise(), "PNG", exif=exif)).tobytes() == noise().tobytes()


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0I",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
        b"Exif\0\0nonsense" * 9,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0",
    ],
)
def test_broken_exif_does_not_spoil_the_pixels(exif: bytes) -> None:
    for name in ("JPEG", "PNG", "WEBP"):
        plain, odd = encoded(smooth(), name), encoded(smooth(), name, exif=exif)
        assert odd != plain
        assert decode(odd).tobytes() == decode(plain).tobytes(), name


# --- the process around it ---


def noisy_tiff() -> bytes:
    """Two values where one belongs: PIL warns of it and goes on."""
    return tiff(3, 2, 8, bytes(range(6)), {282: (5, [1, 1])})


def test_warnings_of_pil_neither_leak_nor_become_failures() -> None:
    with pytest.warns(UserWarning, match="282"), Image.open(io.BytesIO(noisy_tiff())) as image:
        image.load()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert greys(noisy_tiff()) == list(range(6))
        assert not seen
        warnings.warn("still heard", stacklevel=1)
        assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        assert greys(noisy_tiff()) == list(range(6))
        assert status(b"GIF89a") == "failed_to_decode"
        assert warnings.filters == before


def test_other_threads_hear_their_warnings_while_one_decodes() -> None:
    heard: list[Warning] = []

    def warn() -> None:
        try:
            warnings.warn("heard", stacklevel=1)
        except UserWarning as warning:
            heard.append(warning)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with _SILENCE:
            warn()
            assert heard == []
            thread = threading.Thread(target=warn)
            thread.start()
            thread.join()
    assert len(heard) == 1


def test_threads_decode_side_by_side_and_leave_the_filters_as_they_were() -> None:
    subjects = [noisy_tiff(), encoded(noise(64, 64), "PNG"), encoded(smooth(), "JPEG")]
    expected = [decode(data).tobytes() for data in subjects]
    wrong: list[object] = []

    def work(offset: int) -> None:
        for step in range(150):
            which = (offset + step) % len(subjects)
            try:
                same = decode(subjects[which]).tobytes() == expected[which]
            except (ImageError, Warning) as error:
                wrong.append(error)
            else:
                wrong.extend([] if same else [which])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert warnings.filters == before
    assert wrong == []


def test_the_result_is_an_image_of_its_own_without_metadata() -> None:
    image = decode(encoded(noise(), "PNG", dpi=(72, 72), icc_profile=b"profile"))
    assert type(image) is Image.Image
    assert image.info == {}
    image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (1, 2, 3)


def test_an_image_error_survives_pickling() -> None:
    error = ImageError(status="too_large", reason="too many pixels")
    again = pickle.loads(pickle.dumps(error))
    assert (error.status, str(error)) == ("too_large", "too many pixels")
    assert (again.status, str(again)) == ("too_large", "too many pixels")
    assert isinstance(again, CurateError)


LOSSLESS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "GIF": ("1", "L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG": (),
}


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_picture_round_trips(data: st.DataObject, width: int, height: int, seed: int) -> None:
    name = data.draw(st.sampled_from(sorted(LOSSLESS)))
    mode = data.draw(st.sampled_from(LOSSLESS[name] or ("L", "RGB", "CMYK")))
    opaque = noise(width, height, seed).convert("RGB" if mode in {"RGBA", "CMYK"} else "L")
    image = (
        opaque.convert(mode)
        if mode != "I;16"
        else Image.fromarray(np.asarray(opaque, np.uint16) * 257)
    )
    options = {"lossless": True} if name == "WEBP" else {}
    found = decode(encoded(image, name, **options))
    assert (found.mode, found.size) == ("RGB", (width, height))
    if name != "JPEG" and mode != "F":
        upright = opaque if mode == "I;16" else image
        assert found.tobytes() == upright.convert("RGB").tobytes()


# --- reduced size ---


def divisor_of(width: int, height: int, least: int) -> int:
    """The slow twin: the largest divisor that leaves the shorter side long enough."""
    return max(d for d in (1, 2, 4, 8) if d == 1 or min(width // least, height // least) >= d)


def reduced_status(data: bytes, least: int) -> str:
    with pytest.raises(ImageError) as caught:
        read_picture(data, ImageLimits(), least)
    return caught.value.status


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 150))
def test_a_jpeg_is_reduced_by_the_largest_divisor_that_leaves_enough(
    width: int, height: int, least: int
) -> None:
    data = encoded(Image.new("RGB", (width, height), "teal"), "JPEG")
    found = read_picture(data, ImageLimits(), least)
    divisor = divisor_of(width, height, least)
    assert (found.divisor, found.width, found.height) == (divisor, width, height)
    assert found.image.size == (-(-width // divisor), -(-height // divisor))
    assert min(found.image.size) >= min(least, width, height)
    assert found.image.mode == "RGB"


@pytest.mark.parametrize("divisor", [2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_reduced_jpeg_is_near_the_means_of_blocks_of_the_whole(
    divisor: int, options: dict[str, object]
) -> None:
    whole = smooth().resize((320, 240), Image.Resampling.BICUBIC)
    data = encoded(whole, "JPEG", quality=95, **options)
    found = read_picture(data, ImageLimits(), 240 // divisor)
    assert found.divisor == divisor
    twin = np.asarray(decode(data).reduce(divisor), np.int16)
    off = np.abs(np.asarray(found.image, np.int16) - twin)
    assert off.mean() < 1.5
    assert off.max() <= 12


def test_without_a_least_side_nothing_is_reduced() -> None:
    data = encoded(noise(400, 300), "JPEG")
    found = read_picture(data)
    assert found.divisor == 1
    assert found.image.tobytes() == decode(data).tobytes()


@pytest.mark.parametrize("name", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_no_other_format_is_reduced(name: str) -> None:
    data = encoded(noise(64, 64), name)
    found = read_picture(data, ImageLimits(), 4)
    assert (found.divisor, found.width, found.height) == (1, 64, 64)
    assert found.image.tobytes() == decode(data).tobytes()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_reduced_by_the_same_rules_of_colour(mode: str) -> None:
    data = encoded(Image.new(mode, (200, 160), 90 if mode == "L" else (200, 30, 90, 10)), "JPEG")
    found = read_picture(data, ImageLimits(), 20)
    assert found.divisor == 8
    whole = np.asarray(decode(data), np.int16)[0, 0]
    assert np.abs(np.asarray(found.image, np.int16) - whole).max() <= 2


def test_of_a_reduced_mpo_the_first_picture_counts() -> None:
    first, second = Image.new("RGB", (160, 80), "red"), Image.new("RGB", (160, 80), "blue")
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    found = read_picture(data, ImageLimits(), 10)
    assert (found.divisor, found.image.size) == (8, (20, 10))
    red, _, blue = np.asarray(found.image).reshape(-1, 3).mean(axis=0)
    assert red > 240
    assert blue < 15


@pytest.mark.parametrize("orientation", SIDES)
def test_a_reduced_jpeg_is_upright_and_so_are_its_width_and_height(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    whole = smooth().resize((320, 160))
    data = encoded(whole, "JPEG", quality=95, exif=exif)
    found = read_picture(data, ImageLimits(), 40)
    upright = decode(data)
    assert (found.width, found.height) == upright.size
    assert found.divisor == 4
    off = np.asarray(found.image, np.int16) - np.asarray(upright.reduce(4), np.int16)
    assert np.abs(off).mean() < 2


@settings(max_examples=40)
@given(share=st.floats(0.01, 0.999), progressive=st.booleans())
def test_a_cut_jpeg_fails_alike_whole_and_reduced(share: float, *, progressive: bool) -> None:
    data = encoded(noise(160, 120), "JPEG", progressive=progressive)
    cut = data[: max(3, int(share * len(data)))]
    assert reduced_status(cut, 10) == status(cut) == "failed_to_decode"


def test_limits_are_of_the_picture_as_it_is_stored() -> None:
    data = encoded(noise(100, 100), "JPEG")
    with pytest.raises(ImageError) as caught:
        read_picture(data, ImageLimits(max_pixels=9_999), 10)
    assert caught.value.status == "too_large"


@settings(max_examples=150)
@given(st.data())
def test_damage_gives_a_picture_or_an_image_error_when_reduced(data: st.DataObject) -> None:
    whole = bytearray(encoded(noise(90, 70), "JPEG"))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(2, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        found = read_picture(bytes(whole), ImageLimits(max_pixels=2**20), 8)
        size = (-(-found.width // found.divisor), -(-found.height // found.divisor))
        assert found.image.size == size


def test_frames_that_are_coded_by_dct_are_told_from_others() -> None:
    baseline, progressive = (encoded(noise(), "JPEG", progressive=p) for p in (False, True))
    assert is_dct(baseline)
    assert is_dct(progressive)
    at = baseline.index(b"\xff\xc0")
    for marker in (0xC3, 0xC5, 0xC7, 0xCB, 0xCF, 0xC8, 0xD9, 0xDA, 0x01):
        assert not is_dct(baseline[: at + 1] + bytes([marker]) + baseline[at + 2 :])
    for cut in range(at + 2):
        assert not is_dct(baseline[:cut])
    assert not is_dct(baseline[:2] + b"\0" + baseline[2:])


def test_a_lossless_frame_is_never_reduced() -> None:
    """PIL would hand the decoder a row that is shorter than what it writes."""
    data = encoded(noise(640, 480), "JPEG").replace(b"\xff\xc0", b"\xff\xc3", 1)
    assert reduced_status(data, 10) == status(data)
