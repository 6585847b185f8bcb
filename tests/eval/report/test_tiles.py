from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from eval.report import Example
from eval.report.tiles import tiles


def example(side: int, moved: float) -> Example:
    clean = np.full((side, side, 3), 100 / 255, np.float32)
    attacked = clean.copy()
    attacked[0, 0, 0] += moved / 255
    return Example("m", "s", "a:0", "ship", "ship", "dog", clean, attacked)


def opened(address: str) -> Image.Image:
    start, _, data = address.partition(",")
    assert start == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_small_pictures_are_kept_pixel_for_pixel() -> None:
    found = tiles(example(32, 2))
    assert found.tiny
    clean, attacked = (np.asarray(opened(a)) for a in (found.clean, found.attacked))
    assert clean.shape == (32, 32, 3)
    assert set(clean.ravel()) == {100}
    assert attacked[0, 0].tolist() == [102, 100, 100]


def test_the_perturbation_is_fifty_times_as_strong_on_grey() -> None:
    pixels = np.asarray(opened(tiles(example(32, 2)).perturbation))
    assert abs(int(pixels[0, 0, 0]) - (127.5 + 100)) <= 1
    assert set(pixels.reshape(-1)[1:]) == {128}
    far = np.asarray(opened(tiles(example(32, -9)).perturbation))
    assert far[0, 0, 0] == 0


def test_the_largest_difference_is_stated() -> None:
    assert np.isclose(tiles(example(32, -3)).largest, 3, atol=1e-4)


def test_large_pictures_are_shrunk() -> None:
    found = tiles(example(224, 4))
    assert not found.tiny
    assert opened(found.clean).size == (160, 160)
