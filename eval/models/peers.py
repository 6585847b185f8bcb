"""Plain supervised classifiers of timm and torchvision, to set beside zero-shot models.

They know the classes that they were trained on and no others. A set is one for them if it has as
many classes, in their order, or is made of classes of ImageNet, of which they know all 1,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, Compose, Resize

from curate.encoders.base import EncoderSpec, brief, nearest
from curate.encoders.network import read_state, seeded_init, state_digest
from curate.errors import CurateError
from curate.hardware import choose_device
from curate.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.geometry import Geometry
    from eval.models.subject import Subject

IMAGENET = 1000


class Normalised(nn.Module):
    """A network with the normalisation of its images inside, and the classes that are asked for.

    Attributes:
        network: (n, 3, H, W) normalised -> (n, K) logits.
        rows: (C,) int64, the K that are asked for.
        dtype: torch.float32, or torch.bfloat16 for a network under autocast.
    """

    mean: Tensor
    std: Tensor
    rows: Tensor

    def __init__(self, peer: Peer, rows: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.network = peer.network
        self.dtype = dtype
        device = next(peer.network.parameters()).device
        for name, values in (("mean", peer.mean), ("std", peer.std)):
            column = torch.tensor(values, dtype=torch.float32, device=device)
            self.register_buffer(name, column[:, None, None], persistent=False)
        self.register_buffer("rows", torch.tensor(list(rows), device=device), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) fp32 in [0, 1] -> (n, C) fp32 logits."""
        pixels = (images.float() - self.mean) / self.std
        is_low = self.dtype == torch.bfloat16
        with torch.autocast(images.device.type, torch.bfloat16, enabled=is_low):
            logits: Tensor = self.network(pixels)
        return logits.float()[:, self.rows]


@dataclass(frozen=True, eq=False)
class Peer:
    """A supervised classifier.

    Attributes:
        name: as it was asked for.
        network: in evaluation mode, frozen.
        mean: of the image normalisation, three channels.
        std: likewise.
        size: side of the square image that it takes.
        geometry: an RGB image -> the image that it takes, before normalisation.
        outputs: how many classes it knows.
        digest: of the weights.
    """

    name: str
    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    geometry: Geometry
    outputs: int
    digest: str

    def classifier(self, subject: Subject, dtype: torch.dtype) -> nn.Module:
        """Over the classes of a set.

        Raises:
            CurateError: it was not trained on these classes.
        """
        if subject.imagenet is not None and self.outputs == IMAGENET:
            rows: Sequence[int] = subject.imagenet
        elif len(subject.classes) == self.outputs:
            rows = range(self.outputs)
        else:
            raise CurateError(
                f"model {self.name}: knows {self.outputs} classes and reads no texts, and "
                f"{subject.name} has {len(subject.classes)} others; give a model that was trained "
                "on these, or a CLIP model"
            )
        return Normalised(self, rows, dtype).eval()


def load_peer(name: str, weights: str | None, device: str) -> Peer:
    """Load `timm:NAME` or `torchvision:NAME/TAG`, published or from a local file.

    Raises:
        CurateError: unknown name, weights that are missing, unsafe or do not fit, or images that
            are not square.
    """
    is_timm = name.startswith("timm:")
    network, image = _timm(name, weights) if is_timm else _torchvision(name, weights)
    network.eval().requires_grad_(requires_grad=False).to(choose_device(device))  # type: ignore[arg-type]
    with torch.no_grad():
        probe = torch.zeros(1, 3, image.size, image.size, device=next(network.parameters()).device)
        outputs = int(network(probe).shape[1])
    return Peer(
        name, network, image.mean, image.std, image.size, image.geometry, outputs,
        state_digest(network.state_dict()),
    )  # fmt: skip


@dataclass(frozen=True)
class _Image:
    """What becomes of an image before it reaches a network."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    geometry: Geometry


def _timm(name: str, weights: str | None) -> tuple[nn.Module, _Image]:
    import timm.data
    from timm.data.transforms import MaybeToTensor, ToNumpy

    from curate.encoders.timm_net import load_whole

    last = (MaybeToTensor, ToNumpy)
    network = load_whole(EncoderSpec(name, weights=weights))
    data: Any = timm.data
    config = data.resolve_model_data_config(network)
    _, height, width = config["input_size"]
    if height != width:
        raise CurateError(f"model {name}: takes images of {width} x {height}, not square ones")
    steps = data.create_transform(**config, is_training=False).transforms
    shaping: Geometry = Compose(list(takewhile(lambda step: not isinstance(step, last), steps)))
    return network, _Image(tuple(config["mean"]), tuple(config["std"]), height, shaping)


def _torchvision(name: str, weights: str | None) -> tuple[nn.Module, _Image]:
    from torchvision import models

    architecture, _, tag = name.partition(":")[2].partition("/")
    if architecture not in models.list_models(module=models):
        raise CurateError(
            f"model {name}: torchvision has no classifier {architecture!r}"
            f"{nearest(architecture, models.list_models(module=models))}"
        )
    published = models.get_model_weights(architecture)
    known = {one.name: one for one in published}
    tag = tag or "DEFAULT"
    if tag != "DEFAULT" and tag not in known:
        raise CurateError(
            f"model {name}: torchvision publishes {', '.join(known)} of it, no {tag!r}"
            f"{nearest(tag, known)}"
        )
    chosen: Any = published.DEFAULT if tag == "DEFAULT" else known[tag]
    state = read_state(local_path(weights)) if weights else _downloaded(name, chosen.url)
    network = _filled(name, architecture, state, weights or chosen.url)
    preset = chosen.transforms()
    (size,) = preset.crop_size
    resize = Resize(preset.resize_size, preset.interpolation, antialias=preset.antialias)
    shaping: Geometry = Compose([resize, CenterCrop(size)])
    return network, _Image(tuple(preset.mean), tuple(preset.std), size, shaping)


def _downloaded(name: str, url: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True, progress=False
        )
    except (OSError, RuntimeError) as error:
        raise CurateError(
            f"model {name}: its weights at {url} cannot be fetched ({brief(error)}); fetch them "
            "where there is a network and give the file with --weights PATH"
        ) from error
    return state


def _filled(name: str, architecture: str, state: dict[str, Tensor], origin: str) -> nn.Module:
    from torchvision import models

    with torch.device("meta"):
        names = list(models.get_model(architecture, weights=None).state_dict())
    # the head comes last, and own weights may have another number of classes
    head = state.get(next(name for name in reversed(names) if name.endswith("bias")))
    outputs = IMAGENET if head is None else len(head)
    with seeded_init():
        network: nn.Module = models.get_model(architecture, weights=None, num_classes=outputs)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CurateError(f"model {name}: {origin} does not fit ({brief(error)})") from error
    return network
