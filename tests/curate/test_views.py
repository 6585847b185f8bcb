"""Views: every one a pure function; borders are cut off with noise in them, and nothing else is."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import picture
from PIL import Image, ImageOps

from curate.errors import CurateError
from curate.views import VIEWS, check_views, parse_views, trim

COLOURS = [(0, 0, 0), (255, 255, 255), (200, 30, 60), (90, 90, 90)]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (32, 32), (83, 57)])
def test_a_view_gives_an_rgb_image_the_same_each_time_and_spares_its_source(
    name: str, size: tuple[int, int]
) -> None:
    image = noise(*size)
    before = image.tobytes()
    first, second = VIEWS[name](image), VIEWS[name](image)
    assert first.mode == "RGB"
    assert min(first.size) >= 1
    assert same(first, second)
    assert image.tobytes() == before


def test_turns_are_against_the_clock_and_undo_each_other() -> None:
    image = noise(12, 9)
    pixels = np.asarray(image)
    assert np.array_equal(np.asarray(VIEWS["rot90"](image)), np.rot90(pixels))
    assert np.array_equal(np.asarray(VIEWS["rot180"](image)), pixels[::-1, ::-1])
    assert same(VIEWS["rot270"](VIEWS["rot90"](image)), image)


@pytest.mark.parametrize("name", [name for name in VIEWS if name.startswith("mirror-")])
def test_a_mirrored_view_is_the_view_and_then_mirrored(name: str) -> None:
    image = noise(40, 24)
    assert same(VIEWS[name](image), ImageOps.mirror(VIEWS[name.removeprefix("mirror-")](image)))


def test_shifts_and_zoom_cut_off_what_they_say() -> None:
    image = noise(80, 40)
    boxes = {
        "shift-left": (10, 0, 80, 40), "shift-right": (0, 0, 70, 40),
        "shift-up": (0, 5, 80, 40), "shift-down": (0, 0, 80, 35), "zoom": (8, 4, 72, 36),
    }  # fmt: skip
    for name, box in boxes.items():
        assert same(VIEWS[name](image), image.crop(box))


def test_growing_reflects_the_edges_around_the_whole_image() -> None:
    image = noise(80, 40)
    grown = VIEWS["grow"](image)
    assert grown.size == (100, 50)
    assert same(grown.crop((10, 5, 90, 45)), image)
    assert grown.getpixel((9, 5)) == image.getpixel((1, 0))


# --- trim ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(0, 20)] * 4), st.sampled_from(COLOURS), st.integers(0, 2**32))
def test_borders_of_any_widths_are_cut_off_exactly(
    widths: tuple[int, ...], colour: tuple[int, int, int], seed: int
) -> None:
    inner = noise(48, 40, seed)
    assert same(trim(ImageOps.expand(inner, widths, colour)), inner)


def test_an_image_without_borders_comes_back_as_it_is() -> None:
    for image in (noise(33, 20), noise(1, 1), picture(3)):
        assert trim(image) is image


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (64, 64), (200, 130)])
def test_an_image_of_one_colour_stays_as_it_is(
    size: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    image = Image.new("RGB", size, colour)
    assert trim(image) is image
    assert trim(jpeg := as_jpeg(image, 30)) is jpeg


def test_a_speck_on_a_ground_is_no_picture_with_borders() -> None:
    image = Image.new("RGB", (100, 100), (255, 255, 255))
    image.paste(noise(20, 60), (40, 20))
    assert trim(image) is image


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 95])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("widths", [(0, 29), (37, 0), (30, 22)])
def test_noise_of_jpeg_in_a_border_does_not_hide_it(
    quality: int, colour: tuple[int, int, int], widths: tuple[int, int]
) -> None:
    inner = picture(5).resize((200, 150), Image.Resampling.BICUBIC)
    jpeg = as_jpeg(ImageOps.expand(inner, widths, colour), quality)
    trimmed = trim(jpeg)
    # a block of 16 pixels that holds the picture's edge rings beyond the tolerance
    for found, wanted, whole in zip(trimmed.size, inner.size, jpeg.size, strict=True):
        assert wanted - 4 <= found <= min(whole, wanted + 2 * 16)


def test_bars_of_two_colours_and_bars_inside_bars_are_cut_off() -> None:
    inner = noise(60, 50)
    black = ImageOps.expand(inner, (8, 0), (0, 0, 0))
    framed = ImageOps.expand(black, (0, 12), (240, 240, 240))
    two = Image.new("RGB", (60, 70), (0, 0, 0))
    two.paste((255, 255, 255), (0, 60, 60, 70))
    two.paste(inner, (0, 10))
    assert same(trim(framed), inner)
    assert same(trim(two), inner)


def test_a_gradient_is_no_border() -> None:
    ramp = np.repeat(np.linspace(0, 255, 120).astype(np.uint8)[:, None, None], 90, 1)
    image = Image.fromarray(np.repeat(ramp, 3, 2))
    assert trim(image).height > 0.8 * image.height


# --- names ---------------------------------------------------------------------------------------


def test_names_are_read_from_a_list_with_commas() -> None:
    assert parse_views("identity, mirror,trim") == ("identity", "mirror", "trim")


@pytest.mark.parametrize(("text", "words"), [
    ("identity,miror", "'miror' is no view; did you mean 'mirror'"),
    ("identity,mirror,mirror", "one is given twice"),
    ("mirror,identity", "the first has to be identity"),
    ("mirror", "the first has to be identity"),
    ("", "'' is no view"),
])  # fmt: skip
def test_a_wrong_list_is_told_why(text: str, words: str) -> None:
    with pytest.raises(CurateError, match=words):
        parse_views(text)


def test_no_views_at_all_are_refused() -> None:
    with pytest.raises(CurateError, match="the first has to be identity"):
        check_views(())
