"""What is evaluated: a model that gives, for the classes of a test set, one classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from curate.errors import CurateError
from eval.geometry import geometry
from eval.models.classifier import class_texts, load_clip_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from eval.geometry import Geometry
    from eval.models.classifier import Clip
    from eval.models.subject import Subject


class Model(Protocol):
    """A model under evaluation.

    Attributes:
        name: as it was asked for.
        size: side of the square image that it takes.
        geometry: an RGB image -> the image that it takes, before normalisation.
        digest: sha256 (hex) of all weights that take part.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - an attribute
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def geometry(self) -> Geometry: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102

    def classifier(self, subject: Subject, dtype: torch.dtype) -> nn.Module:
        """Over the classes of a set, (n, 3, size, size) fp32 in [0, 1] -> (n, C) fp32 logits.

        Raises:
            CurateError: the model knows no such classes.
        """
        ...


@dataclass(frozen=True, eq=False)
class ZeroShotModel:
    """An open_clip model, as published or adapted.

    Attributes:
        name: as it was asked for.
        clip: the model, whose text tower makes the classes.
        over: (C, d) unit rows of texts, precision of the tower -> classifier.
        digest: of the weights.
    """

    name: str
    clip: Clip
    over: Callable[[Tensor, torch.dtype], nn.Module]
    digest: str

    @property
    def size(self) -> int:
        """Side of the square image that it takes."""
        return self.clip.size

    @property
    def geometry(self) -> Geometry:
        """open_clip's evaluation transform of it, up to the tensor."""
        return geometry(self.clip.config["preprocess_cfg"])

    def classifier(self, subject: Subject, dtype: torch.dtype) -> nn.Module:
        """Over the classes of a set; its texts are encoded now."""
        return self.over(class_texts(self.clip, subject.classes, subject.templates), dtype)


def load_model(name: str, weights: str | None = None, device: str = "auto") -> Model:
    """Load an open_clip model, or a plain classifier of timm or torchvision.

    Args:
        name: of an open_clip model (`builtin:tiny-clip`, `open_clip:ARCH/TAG`,
            `open_clip:local-dir` with a folder as weights), `timm:NAME` or `torchvision:NAME/TAG`.
        weights: a local file or folder in the place of the published weights.
        device: auto, cpu or cuda.

    Raises:
        CurateError: there is no such model, or its weights are missing or unfit.
    """
    if name.startswith(("timm:", "torchvision:")):
        from eval.models.peers import load_peer

        return load_peer(name, weights, device)
    clip = load_clip_model(name, weights, device)

    def over(texts: Tensor, dtype: torch.dtype) -> nn.Module:
        return clip.classifier(texts, dtype=dtype)

    return ZeroShotModel(name, clip, over, clip.weights_digest)


def dtype_of(precision: str) -> torch.dtype:
    """The precision of a tower by its name.

    Raises:
        CurateError: it is neither fp32 nor bf16.
    """
    known: dict[str, Any] = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if precision not in known:
        raise CurateError(f"precision {precision!r}: one of {', '.join(known)} was expected")
    found: torch.dtype = known[precision]
    return found
