"""Pixels are those of open_clip's evaluation."""

from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from pictures import picture
from PIL import Image

from eval.geometry import as_pixels, geometry


def preprocess(size: int | tuple[int, int], **more: Any) -> dict[str, Any]:
    return {
        "size": size, "mode": "RGB", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6),
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0, **more,
    }  # fmt: skip


def wide(seed: int = 1, width: int = 70, height: int = 45) -> Image.Image:
    return picture(seed, 80).crop((3, 4, 3 + width, 4 + height))


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, 64, (24, 40)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_normalised_they_are_what_open_clip_evaluates(
    mode: str, size: int | tuple[int, int], interpolation: str
) -> None:
    config = preprocess(size, resize_mode=mode, interpolation=interpolation, fill_color=9)
    whole = image_transform_v2(PreprocessCfg(**config), is_train=False)
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    for image in (wide(), wide(2, 20, 60), wide(3, 32, 32), wide(4, 1, 1)):
        pixels = as_pixels(geometry(config)(image))
        assert pixels.dtype == np.uint8
        expected = whole(image)
        assert torch.equal((torch.from_numpy(pixels).float() / 255 - mean) / std, expected)
