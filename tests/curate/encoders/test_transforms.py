"""Looked-up bytes against the transforms themselves, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.encoders.transforms import to_array


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def clip_transform(**config: Any) -> Any:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**config), is_train=False)


def timm_transform(**config: Any) -> Any:
    from timm.data import create_transform

    return create_transform(is_training=False, **config)


@pytest.mark.parametrize("size", [(40, 31), (224, 224), (301, 500)])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_an_open_clip_transform_has_the_same_bits(mode: str, size: tuple[int, int]) -> None:
    transform = clip_transform(size=48, resize_mode=mode)
    image = picture(*size)
    found = to_array(transform)(image)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.tobytes() == transform(image).numpy().tobytes()


@pytest.mark.parametrize("config", [
    {"input_size": (3, 32, 32)},
    {"input_size": (3, 32, 32), "crop_pct": 0.8, "mean": (0.5, 0.4, 0.3), "std": (0.1, 1.0, 3.0)},
    {"input_size": (3, 24, 40), "crop_mode": "border", "interpolation": "bilinear"},
])  # fmt: skip
def test_a_timm_transform_has_the_same_bits(config: dict[str, Any]) -> None:
    transform = timm_transform(**config)
    image = picture(90, 61)
    assert to_array(transform)(image).tobytes() == transform(image).numpy().tobytes()


def test_every_level_of_every_channel_is_looked_up_right() -> None:
    transform = clip_transform(size=16, resize_mode="squash")
    levels = np.arange(768, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3)
    image = Image.fromarray(levels)
    assert np.array_equal(to_array(transform)(image), transform(image).numpy())


def test_a_transform_that_ends_otherwise_is_run_as_it_is() -> None:
    from torchvision.transforms import Compose, Normalize, RandomInvert, Resize, ToTensor

    transform = Compose(
        [Resize((8, 8)), ToTensor(), RandomInvert(p=1), Normalize([0.5] * 3, [0.5] * 3)]
    )
    image = picture(20, 20)
    assert np.array_equal(to_array(transform)(image), transform(image).numpy())
