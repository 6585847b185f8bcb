"""CIFAR-10-C's own severities, against slow and obvious twins."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from curate.errors import CurateError
from eval.shifts import chance, cifar_c
from eval.shifts.corruptions import Corruption

GREY = Image.new("RGB", (32, 32), (128, 128, 128))


def made(name: str, severity: int, image: Image.Image = GREY) -> np.ndarray:
    return Corruption(name, severity, "cifar-10-c").apply(image, "a").astype(float)


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1)))
def test_gaussian_noise_has_the_published_strength(severity: int, sigma: float) -> None:
    assert made("gaussian_noise", severity).std() / 255 == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize(("severity", "photons"), list(enumerate((500, 250, 100, 75, 50), 1)))
def test_shot_noise_counts_photons(severity: int, photons: int) -> None:
    light = 128 / 255
    assert made("shot_noise", severity).std() / 255 == pytest.approx(
        (light / photons) ** 0.5, rel=0.05
    )


@pytest.mark.parametrize(("severity", "share"), list(enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1)))
def test_impulse_noise_is_salt_and_pepper(severity: int, share: float) -> None:
    changed = made("impulse_noise", severity)
    assert set(np.unique(changed)) == {0, 128, 255}
    assert (changed != 128).mean() == pytest.approx(share, rel=0.4)


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate((0.06, 0.1, 0.12, 0.16, 0.2), 1)))
def test_speckles_grow_with_the_light(severity: int, sigma: float) -> None:
    assert made("speckle_noise", severity).std() / 128 == pytest.approx(sigma, rel=0.05)
    assert made("speckle_noise", severity, Image.new("RGB", (32, 32))).max() == 0


@pytest.mark.parametrize(("severity", "factor"), list(enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1)))
def test_contrast_shrinks_towards_the_mean(severity: int, factor: float) -> None:
    pixels = np.asarray(picture(1, 32)) / 255
    mean = pixels.mean(axis=(0, 1))
    expected = np.floor((mean + (pixels - mean) * factor) * 255)
    assert np.abs(made("contrast", severity, picture(1, 32)) - expected).max() <= 1


@pytest.mark.parametrize(("severity", "amount"), list(enumerate((0.05, 0.1, 0.15, 0.2, 0.3), 1)))
def test_brightness_raises_grey_by_its_amount(severity: int, amount: float) -> None:
    assert made("brightness", severity)[0, 0, 0] == int((128 / 255 + amount) * 255 + 1e-6)


@pytest.mark.parametrize(("severity", "quality"), list(enumerate((80, 65, 58, 50, 40), 1)))
def test_jpeg_has_the_published_quality(severity: int, quality: int) -> None:
    buffer = io.BytesIO()
    picture(1, 32).save(buffer, "JPEG", quality=quality)
    expected = np.asarray(Image.open(buffer), float)
    assert np.array_equal(made("jpeg_compression", severity, picture(1, 32)), expected)


@pytest.mark.parametrize(("severity", "side"), list(enumerate((30, 28, 27, 24, 20), 1)))
def test_pixelate_goes_through_fewer_pixels(severity: int, side: int) -> None:
    small = picture(1, 32).resize((side, side), Image.Resampling.BOX)
    expected = np.asarray(small.resize((32, 32), Image.Resampling.BOX), float)
    assert np.array_equal(made("pixelate", severity, picture(1, 32)), expected)


def test_glass_blur_copies_neighbours_one_after_the_other() -> None:
    image, severity = picture(1, 32), 4
    sigma, reach, rounds = 0.25, 1, 2
    rng = chance.generator(0, "a", "glass_blur", severity)
    soft = (cifar_c._blurred(np.asarray(image) / 255, sigma) * 255).astype(np.uint8)
    for _ in range(rounds):
        moves = rng.integers(-reach, reach, size=(30, 30, 2))
        for i, row in enumerate(range(31, 1, -1)):
            for j, column in enumerate(range(31, 1, -1)):
                right, down = moves[i, j]
                soft[row, column] = soft[row + down, column + right].copy()
    expected = np.clip(cifar_c._blurred(soft / 255, sigma), 0, 1) * 255
    assert np.array_equal(made("glass_blur", severity, image), expected.astype(np.uint8))


def test_frost_adds_ice_in_the_published_shares() -> None:
    black, white = (Image.new("RGB", (32, 32), (shade,) * 3) for shade in (0, 255))
    ice = made("frost", 5, black)
    assert ice.max() <= 255 * 0.45
    expected = np.clip(0.75 * 255 + ice, 0, 255)
    assert np.abs(made("frost", 5, white) - expected).max() <= 1


def test_fog_lightens_and_keeps_the_range() -> None:
    half = made("fog", 5)
    assert half.max() <= 128
    assert half.std() > 5
    assert made("fog", 1).std() < half.std()


def test_zoom_blur_keeps_what_has_no_detail() -> None:
    assert np.abs(made("zoom_blur", 5) - 128).max() <= 1


def test_saturation_leaves_grey_and_turns_colours_pale() -> None:
    red = Image.new("RGB", (32, 32), (200, 100, 100))
    assert made("saturate", 1, red)[0, 0].tolist() == pytest.approx([200, 170, 170], abs=1)
    assert made("saturate", 2, red)[0, 0].tolist() == pytest.approx([200, 190, 190], abs=1)
    assert made("saturate", 3, red)[0, 0].tolist() == pytest.approx([200, 50, 50], abs=1)


def test_water_is_turquoise_and_mud_is_brown() -> None:
    for severity, is_darker in ((3, False), (5, True)):
        change = made("spatter", severity, picture(1, 32)) - np.asarray(picture(1, 32), float)
        assert np.abs(change).max() > 10
        assert (change.mean() < 0) == is_darker


def test_snow_falls_from_two_sides_on_a_bleached_picture() -> None:
    black = made("snow", 5, Image.new("RGB", (32, 32)))
    assert black.min() >= int(255 * 0.2 * 0.5)
    assert black.max() > 60


def test_blur_of_grey_is_grey() -> None:
    for name in ("defocus_blur", "motion_blur", "gaussian_blur"):
        assert np.abs(made(name, 5)[8:24, 8:24] - 128).max() <= 1


def test_elastic_waves_move_more_at_severity_two() -> None:
    image = picture(1, 32)
    assert not np.array_equal(
        made("elastic_transform", 1, image), made("elastic_transform", 2, image)
    )
    assert np.abs(made("elastic_transform", 5) - 128).max() <= 1


@pytest.mark.parametrize("name", ["contrast", "pixelate"])
def test_another_size_is_an_error(name: str) -> None:
    with pytest.raises(CurateError, match="a: is 48 x 48"):
        made(name, 1, picture(1, 48))
