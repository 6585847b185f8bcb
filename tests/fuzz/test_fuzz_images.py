"""Damaged images end as an RGB image or as an ImageError: no crash, no hang, nothing else."""

from __future__ import annotations

import io
import os
import signal
import time
import zlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from mutate import mutations
from PIL import Image
from watchdog import watched

from curate.images import ImageError, ImageLimits, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LIMITS = ImageLimits(max_bytes=2**20, max_pixels=2**22)
LIMIT_S = 20.0
EXPECTED = {"image", "zero_bytes", "not_an_image", "too_large", "failed_to_decode"}


def outcome(data: bytes) -> str:
    try:
        image = decode(data, LIMITS)
    except ImageError as error:
        fine = str(error).isprintable() and len(str(error)) <= 200 and " at 0x" not in str(error)
        return error.status if fine else f"bad reason {error}"
    pixels = image.width * image.height
    whole = image.mode == "RGB" and len(image.tobytes()) == 3 * pixels <= 3 * LIMITS.max_pixels
    return "image" if whole else f"wrong image {image.mode} {image.size}"


def misbehave(data: bytes) -> str:
    """Do what a broken decoder would do."""
    deeds: dict[bytes, Callable[[], object]] = {
        b"segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        b"hang": lambda: time.sleep(60),
        b"raise": lambda: int(data),
    }
    deeds.get(data, lambda: None)()
    return "fine"


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, name, **options)  # save() leaves its settings on the image
    return buffer.getvalue()


def corpora() -> dict[str, list[bytes]]:
    """Small files of each format in the variants that take different roads through PIL."""
    image = Image.radial_gradient("L").resize((37, 29))
    rgb = Image.merge("RGB", (image, image.rotate(90), image.rotate(180)))
    palette, turned = rgb.quantize(40), rgb.rotate(180)
    exif = Image.Exif()
    exif[0x0112] = 6
    film = {"save_all": True, "append_images": [turned]}
    mpo = {"save_all": True, "append_images": [turned.copy()]}  # leaves JPEG settings on it
    tiff = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")
    return {
        "JPEG": [
            encoded(rgb, "JPEG", exif=exif),
            encoded(rgb, "JPEG", progressive=True, quality=95, subsampling=0),
            encoded(rgb.convert("CMYK"), "JPEG"),
            encoded(rgb, "MPO", **mpo),
        ],
        "PNG": [
            encoded(rgb, "PNG", exif=exif),
            encoded(palette, "PNG", transparency=3),
            encoded(rgb.convert("RGBA"), "PNG", **film),
            encoded(image.convert("I;16"), "PNG"),
            encoded(image.convert("1"), "PNG"),
        ],
        "WEBP": [
            encoded(rgb, "WEBP", exif=exif),
            encoded(rgb.convert("RGBA"), "WEBP", lossless=True),
            encoded(rgb, "WEBP", **film),
        ],
        "GIF": [
            encoded(palette, "GIF", transparency=5),
            encoded(palette, "GIF", interlace=0, save_all=True, append_images=[turned]),
            encoded(image, "GIF", comment="a comment"),
        ],
        "TIFF": [
            *(encoded(rgb, "TIFF", compression=kind) for kind in tiff),
            encoded(rgb.convert("1"), "TIFF", compression="group4"),
            encoded(rgb.convert("CMYK"), "TIFF", exif=exif),
            encoded(image.convert("F"), "TIFF"),
            encoded(image.convert("I;16"), "TIFF"),
            encoded(palette, "TIFF"),
            encoded(rgb, "TIFF", **film),
        ],
        "others": [
            encoded(rgb, "BMP"),
            encoded(palette, "BMP"),
            encoded(rgb, "PPM"),
            encoded(image.convert("F"), "PPM"),
            b"P3\n3 2\n7\n# a comment\n" + b"1 2 3 4 5 6 " * 3,
            b"P2\n3 2\n700\n1 2 3 444 555 666",
        ],
    }


def with_checksums(data: bytes) -> bytes:
    """Write the right checksum behind each PNG chunk: readers stop early at a wrong one."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def assert_all_expected(seed: int, inputs: Iterable[bytes]) -> Counter[str]:
    outcomes = list(watched(outcome, inputs, LIMIT_S))
    bad = {index: found for index, found in enumerate(outcomes) if found not in EXPECTED}
    assert not bad, f"seed {seed}: {bad}"
    return Counter(outcomes)


def test_mutations_depend_on_the_seed_alone_and_change_nearly_every_file() -> None:
    corpus = [item for group in corpora().values() for item in group]
    first, again = (list(mutations(7, corpus, 300)) for _ in range(2))
    assert first == again
    assert first != list(mutations(8, corpus, 300))
    assert len(first) == 300
    assert sum(item in corpus for item in first) < 15
    assert len(set(first)) > 280


def test_mutations_of_empty_and_tiny_files_are_files() -> None:
    assert all(isinstance(item, bytes) for item in mutations(0, [b"", b"a"], 500))


def test_the_watchdog_names_the_crash_the_hang_and_the_exception_and_goes_on() -> None:
    deeds = (b"", b"segfault", b"raise", b"hang", b"")
    fine, crashed, raised, hung, again = watched(misbehave, deeds, 1.0)
    assert (fine, again, hung) == ("fine", "fine", "hung")
    assert crashed == f"crashed with exit code {-signal.SIGSEGV}"
    assert raised == "raised ValueError: invalid literal for int() with base 10: b'raise'"


def test_the_corpus_itself_decodes() -> None:
    corpus = [item for group in corpora().values() for item in group]
    assert {outcome(item) for item in corpus} == {"image"}


def test_five_hundred_damaged_images_end_as_an_image_or_as_an_error() -> None:
    corpus = [item for group in corpora().values() for item in group]
    counts = assert_all_expected(2024, mutations(2024, corpus, 500))
    assert counts.total() == 500
    assert {"image", "failed_to_decode", "not_an_image"} <= set(counts)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "name"), list(enumerate(["JPEG", "PNG", "WEBP", "GIF", "TIFF"])))
def test_two_thousand_damaged_images_of_each_format(seed: int, name: str) -> None:
    counts = assert_all_expected(seed, mutations(seed, corpora()[name], 2000))
    assert counts["image"] > 50
    assert counts["failed_to_decode"] > 500


@pytest.mark.slow
def test_two_thousand_damaged_pngs_with_mended_checksums() -> None:
    damaged = mutations(5, corpora()["PNG"], 2000)
    counts = assert_all_expected(5, (with_checksums(data) for data in damaged))
    assert counts["image"] > 50
    assert counts["failed_to_decode"] > 500
