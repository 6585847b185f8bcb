"""`builtin:copy`: the trained copy detector that the package ships, as an `Encoder`.

A convolutional network of 1.4 million weights on 64 x 64 pixels, trained by `train.copy_detector`
without labels; docs/model-card.md says on what and how well it does. Weights are stored in half
precision and computed with in single precision.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from curate.encoders.network import (
    NetworkEncoder,
    image_forward,
    resolve_runtime,
    settle,
)

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from curate.encoders.base import EncoderSpec

NAME = "builtin:copy"
WEIGHTS_FILE = "copy_net.safetensors"
_HALF = 127.5


def to_pixels(image: Image.Image) -> NDArray[np.float32]:
    """RGB image of any size -> (3, 64, 64) float32 in [-1, 1]; the aspect ratio is ignored."""
    from curate.encoders.copy_net import SIDE

    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.uint8)
    return scaled(small.transpose(2, 0, 1))


def scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes -> float32 in [-1, 1], the same shape."""
    return np.ascontiguousarray(pixels.astype(np.float32) / np.float32(_HALF) - 1)


def load_copy(spec: EncoderSpec) -> NetworkEncoder:
    """Load the shipped network.

    Raises:
        CurateError: unknown device or precision.
    """
    from curate.encoders.copy_net import DIM, SIDE, CopyNet

    runtime = resolve_runtime(spec)
    net = CopyNet()
    net.load_state_dict(_weights())
    module = settle(net.to(runtime.dtype), runtime)

    return NetworkEncoder(
        name=NAME,
        dim=DIM,
        input_shape=(3, SIDE, SIDE),
        runtime=runtime,
        module=module,
        forward=image_forward(module, runtime),
        transform=to_pixels,
        stated={"transform": "pil-resize", "filter": "BILINEAR", "size": [SIDE, SIDE],
                "aspect": "ignored", "range": [-1, 1]},
    )  # fmt: skip


def _weights() -> dict[str, torch.Tensor]:
    import safetensors.torch
    import torch

    data = resources.files(__package__).joinpath(WEIGHTS_FILE).read_bytes()
    stored = safetensors.torch.load(data)
    return {
        name: tensor.float() if tensor.dtype is torch.float16 else tensor
        for name, tensor in stored.items()
    }
