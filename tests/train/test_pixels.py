"""Pixels are those of open_clip's evaluation; chance hangs on seed, epoch and sample alone."""

from typing import Any

import numpy as np
import pytest
import torch
from pictures import picture
from PIL import Image

from curate.errors import CurateError
from eval.geometry import Pixels, as_pixels, geometry
from train.pixels import AUGMENTATIONS, Chance, augmented, check_augmentation

CHANCE = Chance(0, 0, "0:a")


def preprocess(size: int | tuple[int, int] = 32, **more: Any) -> dict[str, Any]:
    return {
        "size": size, "mode": "RGB", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6),
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0, **more,
    }  # fmt: skip


def wide(seed: int = 1, width: int = 70, height: int = 45) -> Image.Image:
    return picture(seed, 80).crop((3, 4, 3 + width, 4 + height))


def drawn(name: str, image: Image.Image, number: int, size: int = 32) -> Pixels:
    return augmented(name, image, geometry(preprocess(size)), Chance(5, number, "0:a"))


def test_without_augmentation_it_is_the_geometry() -> None:
    evaluate = geometry(preprocess())
    for image in (wide(), wide(2, 20, 60), wide(4, 1, 1)):
        assert np.array_equal(
            augmented("none", image, evaluate, CHANCE), as_pixels(evaluate(image))
        )


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_hangs_on_seed_epoch_and_sample_alone(name: str) -> None:
    evaluate, image = geometry(preprocess()), picture(1, 60)
    chances = [Chance(s, e, i) for s in (0, 1) for e in (0, 1) for i in ("0:a", "0:b")]
    first = [augmented(name, image, evaluate, chance) for chance in chances]
    again = [augmented(name, image, evaluate, chance) for chance in reversed(chances)]
    assert all(map(np.array_equal, first, reversed(again)))
    assert all(pixels.shape == (3, 32, 32) for pixels in first)
    distinct = {pixels.tobytes() for pixels in first}
    assert len(distinct) == 1 if name == "none" else len(distinct) > 5


def test_the_global_generators_are_not_touched() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for name in AUGMENTATIONS:
        drawn(name, wide(), 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_crop_flip_moves_by_an_eighth_at_most_over_black() -> None:
    image = picture(7, 32)
    plain = np.pad(as_pixels(image), ((0, 0), (4, 4), (4, 4)))
    parts = {
        plain[:, top : top + 32, left : left + 32][:, :, ::turn].tobytes(): (top, left, turn)
        for top in range(9) for left in range(9) for turn in (1, -1)
    }  # fmt: skip
    seen = [parts[drawn("crop-flip", image, number).tobytes()] for number in range(400)]
    tops, lefts, turns = (set(values) for values in zip(*seen, strict=True))
    assert tops == lefts == set(range(9))
    assert turns == {1, -1}
    assert 150 < sum(turn == 1 for _, _, turn in seen) < 250


def test_a_resized_crop_is_nearly_the_whole_picture() -> None:
    """The red and green levels of a ramp tell where a pixel came from."""
    ramp = np.zeros((200, 200, 3), np.uint8)
    ramp[..., 0] = np.arange(200)
    ramp[..., 1] = np.arange(200)[:, None]
    spans = []
    for number in range(200):
        pixels = drawn("resized-crop", Image.fromarray(ramp), number, 100).astype(int)
        spans.append((np.ptp(pixels[0]) / 200, np.ptp(pixels[1]) / 200))
    areas = [width * height for width, height in spans]
    assert 0.86 < min(areas) < 0.92
    assert 0.94 < max(areas) <= 1
    assert all(3 / 4 <= (width / height) <= 4 / 3 for width, height in spans)
    assert len(set(spans)) > 100


def test_a_picture_that_no_part_fits_into_is_taken_whole() -> None:
    narrow = Image.fromarray(np.full((300, 2, 3), 77, np.uint8))
    assert (drawn("resized-crop", narrow, 0) == 77).all()
    assert drawn("resized-crop", Image.new("RGB", (1, 1)), 0).shape == (3, 32, 32)


def test_an_unknown_augmentation_is_refused_with_the_nearest() -> None:
    with pytest.raises(CurateError, match=r"'crop-flop': one of none, .* did you mean 'crop-flip'"):
        check_augmentation("crop-flop")
