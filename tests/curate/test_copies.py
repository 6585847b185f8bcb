import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from curate.copies import STRENGTHS, TRANSFORMATIONS, plant
from curate.copies import base as sizes
from curate.errors import CurateError

EVERY = [(name, strength) for name in TRANSFORMATIONS for strength in STRENGTHS]


def picture(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """Smooth shapes with fine detail on top, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    noisy = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255)
    return Image.fromarray(noisy.astype(np.uint8))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float64)


def black_share(image: Image.Image) -> float:
    return float((pixels(image).max(axis=2) == 0).mean())


def test_there_are_at_least_24_transformations_with_words_for_each_strength() -> None:
    assert len(TRANSFORMATIONS) >= 24
    for name, transformation in TRANSFORMATIONS.items():
        assert transformation.name == name
        assert len({transformation.text(strength) for strength in STRENGTHS}) == 3
    assert TRANSFORMATIONS["jpeg"].text(3) == "quality 10"
    assert TRANSFORMATIONS["crop"].text(1) == "90 % of each side kept"


@pytest.mark.parametrize(("name", "strength"), EVERY)
def test_the_same_chance_gives_the_same_copy_and_leaves_the_original_alone(
    name: str, strength: int
) -> None:
    original = picture()
    before = original.tobytes()
    one, two = (plant(original, name, strength, rng(5)) for _ in range(2))
    assert one.mode == "RGB"
    assert (one.size, one.tobytes()) == (two.size, two.tobytes())
    assert original.tobytes() == before


@pytest.mark.parametrize(("name", "strength"), EVERY)
@pytest.mark.parametrize("side", [32, 96])
def test_every_edit_changes_an_ordinary_picture(name: str, strength: int, side: int) -> None:
    original = picture(side, side * 2 // 3)
    copy = plant(original, name, strength, rng(3))
    assert (copy.size, copy.tobytes()) != (original.size, original.tobytes())


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (8, 8)])
@pytest.mark.parametrize(("name", "strength"), EVERY)
def test_hostile_sizes_give_a_picture(name: str, strength: int, size: tuple[int, int]) -> None:
    for seed in range(3):
        copy = plant(picture(*size), name, strength, rng(seed))
        assert copy.mode == "RGB"
        assert min(copy.size) >= 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EVERY), st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_any_size_and_chance_gives_a_picture(
    which: tuple[str, int], width: int, height: int, seed: int
) -> None:
    assert min(plant(picture(width, height), *which, rng(seed)).size) >= 1


@pytest.mark.parametrize("name", ["resize_up", "border", "letterbox", "backdrop", "collage",
                                  "screenshot", "rotate_grown"])  # fmt: skip
def test_no_copy_grows_beyond_the_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MAX_PIXELS", 10_000)
    copy = plant(picture(110, 90), name, 3, rng(1))
    assert copy.width * copy.height <= 10_000 * 1.1


@pytest.mark.parametrize(("strength", "share"), [(1, 0.9), (2, 0.8), (3, 0.6)])
@pytest.mark.parametrize("name", ["crop", "crop_corner", "crop_centre"])
def test_a_crop_keeps_its_share_of_each_side(name: str, strength: int, share: float) -> None:
    original = picture(200, 100)
    copy = plant(original, name, strength, rng(2))
    assert copy.size == (round(200 * share), round(100 * share))
    whole, part = pixels(original), pixels(copy)
    windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)
    assert (windows == part).all(axis=(3, 4, 5)).any()


def test_a_corner_crop_keeps_a_corner() -> None:
    original = picture(50, 50)
    for seed in range(8):
        part = pixels(plant(original, "crop_corner", 2, rng(seed)))
        corners = [pixels(original)[y, x] for y in (0, -1) for x in (0, -1)]
        ends = [part[y, x] for y in (0, -1) for x in (0, -1)]
        assert any((a == b).all() for a, b in zip(corners, ends, strict=True))


def test_mirrors_and_turns_move_pixels_only() -> None:
    original = picture(40, 30)
    mirrored = plant(original, "mirror", 1, rng())
    flipped = plant(original, "upside_down", 1, rng())
    turned = plant(original, "quarter_turn", 1, rng())
    assert mirrored.tobytes() == ImageOps.mirror(original).tobytes()
    assert flipped.tobytes() == ImageOps.flip(original).tobytes()
    assert turned.tobytes() == original.transpose(Image.Transpose.ROTATE_90).tobytes()


@pytest.mark.parametrize(("strength", "share"), [(1, 0.15), (2, 0.3), (3, 0.45)])
def test_letterbox_bars_take_their_share_of_the_canvas(strength: int, share: float) -> None:
    white = Image.new("RGB", (200, 100), (255, 255, 255))
    assert black_share(plant(white, "letterbox", strength, rng())) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("strength", "share"), [(1, 0.1), (2, 0.2), (3, 0.3)])
def test_a_bar_hides_its_share(strength: int, share: float) -> None:
    original = picture(200, 100)
    changed = (pixels(plant(original, "bar", strength, rng(1))) != pixels(original)).any(axis=2)
    assert changed.mean() == pytest.approx(share, abs=0.02)


def test_a_rotation_keeps_the_size_and_the_grown_one_keeps_the_picture() -> None:
    white = Image.new("RGB", (120, 80), (255, 255, 255))
    kept = plant(white, "rotate", 3, rng())
    grown = plant(white, "rotate_grown", 3, rng())
    cut = plant(white, "rotate_cropped", 3, rng())
    assert kept.size == white.size
    assert black_share(kept) > 0.05
    assert min(np.subtract(grown.size, white.size)) > 0
    assert (pixels(grown).min(axis=2) > 128).sum() == pytest.approx(120 * 80, rel=0.03)
    assert black_share(cut) == 0


def test_greyscale_at_its_strongest_has_no_colour_and_the_negative_is_one() -> None:
    original = picture()
    grey = pixels(plant(original, "greyscale", 3, rng()))
    negative = pixels(plant(original, "invert", 3, rng()))
    assert np.ptp(grey, axis=2).max() == 0
    assert (negative == 255 - pixels(original)).all()


@pytest.mark.parametrize("name", ["jpeg", "webp", "blur", "noise", "thumbnail", "tint",
                                  "posterize", "watermark", "logo", "text"])  # fmt: skip
def test_stronger_edits_change_more(name: str) -> None:
    original = picture(128, 128)
    changes = [
        np.mean(
            [
                np.abs(pixels(plant(original, name, strength, rng(seed))) - pixels(original)).mean()
                for seed in range(6)
            ]
        )
        for strength in STRENGTHS
    ]
    assert changes == sorted(changes)
    assert changes[2] > 1.1 * changes[0]


def test_a_collage_holds_the_picture_as_one_of_its_tiles() -> None:
    original = picture(30, 20)
    canvas = plant(original, "collage", 3, rng(4))
    assert canvas.size == (90, 60)
    tiles = [canvas.crop((x, y, x + 30, y + 20)) for y in (0, 20, 40) for x in (0, 30, 60)]
    assert sum(tile.tobytes() == original.tobytes() for tile in tiles) == 1
    assert len({tile.tobytes() for tile in tiles}) == 9


@pytest.mark.parametrize("name", ["backdrop", "screenshot", "border"])
def test_what_is_put_around_a_picture_leaves_it_whole(name: str) -> None:
    original = picture(40, 30)
    canvas, part = pixels(plant(original, name, 2, rng(1))), pixels(original)
    windows = np.lib.stride_tricks.sliding_window_view(canvas, part.shape)
    assert (windows == part).all(axis=(3, 4, 5)).sum() == 1


def test_unknown_names_and_strengths_are_refused() -> None:
    with pytest.raises(CurateError, match=r"transformation sepia: one of jpeg, webp"):
        plant(picture(), "sepia", 1, rng())
    with pytest.raises(CurateError, match="strength 4"):
        plant(picture(), "jpeg", 4, rng())
