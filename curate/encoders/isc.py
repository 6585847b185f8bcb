"""The descriptor that won the Image Similarity Challenge 2021 (Yokoo, arXiv 2112.04323).

`isc:ft_v107` is the fine-tuned network that DataComp decontaminated its pools with. From an image
of 512 x 512 pixels, resized without regard to its aspect and scaled to -1..1, an EfficientNetV2-M
makes maps of its last stage; they are pooled by generalised means with p = 1, mapped to 256 numbers
without an offset, passed through batch normalisation, and scaled to unit length.

The weights are on no hub: the published file comes from `weights`, or from where torch.hub would
keep it. It is a checkpoint of a training run, of which only tensors and plain settings are read.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.encoders.base import EncoderSpec, brief, nearest
from curate.encoders.network import (
    NetworkEncoder,
    image_forward,
    read_state,
    resolve_runtime,
    seeded_init,
    settle,
)
from curate.encoders.torchscript import PixelOptions, to_pixels
from curate.errors import CurateError

if TYPE_CHECKING:
    import torch

DIM = 256
PIXELS = PixelOptions(size=512, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BACKBONE = "tf_efficientnetv2_m.in21k_ft_in1k"
"""What timm calls today the network that was published as tf_efficientnetv2_m_in21ft1k."""
RANDOM = "/random"
_NAMES = ("ft_v107", f"ft_v107{RANDOM}")
_FILE = "isc_ft_v107.pth.tar"
_URL = f"https://github.com/lyakaap/ISC21-Descriptor-Track-1st/releases/download/v1.0.1/{_FILE}"
_SMALLEST = 1e-6
"""Entries of the maps are raised to this, as the mean of powers asks for positive numbers."""


def load_isc(spec: EncoderSpec, backbone: str = BACKBONE) -> NetworkEncoder:
    """Load `isc:ft_v107`, or `isc:ft_v107/random`, on a backbone that timm knows.

    Raises:
        CurateError: unknown name, or weights that are missing, unsafe or do not fit.
    """
    name = spec.name.partition(":")[2]
    if name not in _NAMES:
        raise CurateError(
            f"encoder {spec.name}: unknown{nearest(name, _NAMES)}; known: {', '.join(_NAMES)}"
        )
    runtime = resolve_runtime(spec)
    model = network(backbone)
    if name.endswith(RANDOM):
        if spec.weights is not None:
            raise CurateError(f"weights {spec.weights}: encoder {spec.name} asks for random ones")
    else:
        _fill(model, _weights(spec))
    module = settle(model.to(runtime.dtype), runtime)
    return NetworkEncoder(
        name=spec.name,
        dim=DIM,
        input_shape=(3, PIXELS.size, PIXELS.size),
        runtime=runtime,
        module=module,
        forward=image_forward(module, runtime),
        transform=functools.partial(to_pixels, options=PIXELS),
        stated=PIXELS.stated("isc"),
    )


def network(backbone: str) -> torch.nn.Module:
    """The network with random weights (seed 0); its tensors have the published names."""
    import timm
    import torch

    class IscNetwork(torch.nn.Module):
        """Maps of the last stage -> pooled -> 256 numbers, not yet of unit length."""

        def __init__(self) -> None:
            super().__init__()
            maps: Any = timm.create_model(backbone, features_only=True)
            self.backbone = maps
            width = maps.feature_info.channels()[-1]
            self.fc = torch.nn.Linear(width, DIM, bias=False)
            self.bn = torch.nn.BatchNorm1d(DIM)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.backbone(images)[-1]
            pooled = maps.clamp(min=_SMALLEST).mean(dim=(2, 3))
            features: torch.Tensor = self.bn(self.fc(pooled))
            return features

    with seeded_init():
        return IscNetwork()


def isc_weights() -> tuple[Path, str]:
    """Where the weights of `isc:ft_v107` are looked for, and the address they are published at."""
    import torch

    return Path(torch.hub.get_dir()) / _FILE, _URL


def _weights(spec: EncoderSpec) -> Path:
    usual, url = isc_weights()
    path = Path(spec.weights) if spec.weights else usual
    if not path.is_file():
        raise CurateError(
            f"encoder {spec.name}: {path} is not there. Download {url} and give it with "
            f"--weights PATH, or put it there; for a dry run without meaning there is "
            f"isc:ft_v107{RANDOM}"
        )
    return path


def _fill(model: torch.nn.Module, path: Path) -> None:
    """Load all weights of a file, no more and no fewer than the network has."""
    import torch

    # The published checkpoint holds the training run's settings in a namespace beside the tensors.
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = read_state(path)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CurateError(f"{path}: no weights of isc:ft_v107 ({brief(error)})") from error
