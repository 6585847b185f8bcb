"""Zero-shot classification with an open_clip model, from pixels in [0, 1] to logits.

An attack needs all that happens to an image inside one differentiable module, so normalisation is
part of the classifier and perturbations live in pixels. The image tower may run in bfloat16, the
product of features and texts never does: between 16 and 32, where 100 cos lies, bfloat16 has steps
of 0.125, and classes tie. fp16 is refused: its smallest number swallows gradients of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from curate.encoders import EncoderSpec, load_encoder
from curate.encoders.clip import ClipEncoder
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TEXT_BATCH = 256


class ZeroShot(nn.Module):
    """Images to logits over classes that are given as text features.

    Attributes:
        tower: (n, 3, H, W) normalised images -> (n, d) features.
        mean: (3, 1, 1) and `std`, of the normalisation.
        texts: (C, d) fp32 unit rows, one for each class.
        scale: exp(logit_scale) of the model; it enters the logits once, here.
        dtype: torch.float32, or torch.bfloat16 for a tower under autocast.
    """

    mean: Tensor
    std: Tensor
    texts: Tensor

    def __init__(
        self,
        tower: nn.Module,
        texts: Tensor,
        *,
        scale: float,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if dtype not in {torch.float32, torch.bfloat16}:
            raise CurateError(
                f"precision {dtype}: a classifier runs in fp32 or bf16; in fp16 the gradients of "
                "images vanish"
            )
        if not (math.isfinite(scale) and scale > 0):
            raise CurateError(f"logit scale {scale}: must be finite and above 0")
        self.tower = tower
        self.scale = scale
        self.dtype = dtype
        for name, values in (("mean", mean), ("std", std)):
            column = torch.tensor(values, dtype=torch.float32, device=texts.device)
            self.register_buffer(name, column[:, None, None], persistent=False)
        self.register_buffer("texts", texts.float(), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) fp32 in [0, 1] -> (n, d) fp32, as the tower gives them, not normalised."""
        pixels = (images.float() - self.mean) / self.std
        is_low = self.dtype == torch.bfloat16
        with torch.autocast(images.device.type, torch.bfloat16, enabled=is_low):
            features: Tensor = self.tower(pixels)
        return features.float()

    def logits(self, features: Tensor) -> Tensor:
        """(n, d) features -> (n, C) fp32 logits, scale * cos(feature, text)."""
        return cosine_logits(features, self.texts, self.scale)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) fp32 in [0, 1] -> (n, C) fp32 logits."""
        return self.logits(self.features(images))


def cosine_logits(features: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Scale * cos(feature_i, text_k), (n, d) and unit rows (C, d) -> (n, C), always in fp32."""
    with torch.autocast(features.device.type, enabled=False):
        return scale * (functional.normalize(features.float(), dim=1) @ texts.T)


@dataclass(frozen=True)
class Clip:
    """An open_clip model, in evaluation mode, all parameters frozen, with what belongs to it.

    Attributes:
        name: as `load_clip_model` was asked.
        model: with `visual`, `encode_text` and `logit_scale`.
        mean: of the image normalisation, three channels.
        std: likewise.
        size: side of the square image that the tower takes.
        tokenize: texts -> (n, context) int64.
        config: content of an open_clip_config.json from which open_clip makes this model again.
        weights_digest: sha256 (hex) of all weights.
    """

    name: str
    model: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    tokenize: Callable[[list[str]], Tensor]
    config: dict[str, Any]
    weights_digest: str

    @property
    def tower(self) -> nn.Module:
        """The image tower."""
        tower = self.model.visual
        assert isinstance(tower, nn.Module)
        return tower

    @property
    def scale(self) -> float:
        """What cosines are multiplied with, exp(logit_scale)."""
        value = self.model.logit_scale
        assert isinstance(value, Tensor)
        return float(value.detach().exp())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def classifier(
        self, texts: Tensor, tower: nn.Module | None = None, dtype: torch.dtype = torch.float32
    ) -> ZeroShot:
        """The model, or another tower in its place, over classes; in evaluation mode."""
        made = ZeroShot(
            self.tower if tower is None else tower,
            texts,
            scale=self.scale,
            mean=self.mean,
            std=self.std,
            dtype=dtype,
        )
        return made.to(self.device).eval()


def load_clip_model(name: str, weights: str | None = None, device: str = "auto") -> Clip:
    """Load an open_clip model by the name of an encoder (see `curate.encoders`).

    Raises:
        CurateError: no CLIP model, missing or unfit weights, images that are not square, or a
            tower that answers with more than one vector.
    """
    encoder = load_encoder(EncoderSpec(name, weights=weights, device=device))
    if not isinstance(encoder, ClipEncoder):
        raise CurateError(
            f"model {name}: not a CLIP model, it reads no texts; give open_clip:ARCH/TAG, or "
            "open_clip:local-dir with the model's folder as weights"
        )
    _, height, width = encoder.input_shape
    if height != width:
        raise CurateError(f"model {name}: takes images of {width} x {height}, not square ones")
    model: Any = encoder.module
    if getattr(model.visual, "output_tokens", False):
        raise CurateError(
            f"model {name}: its image tower answers with tokens beside the feature (CoCa); "
            "give a model without a decoder"
        )
    stated = encoder.preprocessing()
    return Clip(
        name=name,
        model=model,
        mean=_three(stated["mean"]),
        std=_three(stated["std"]),
        size=height,
        tokenize=encoder.tokenizer,
        config=_config(encoder),
        weights_digest=encoder.weights_digest(),
    )


def encode_texts(clip: Clip, texts: Sequence[str]) -> Tensor:
    """N texts -> (N, d) fp32 unit rows, in batches, without gradients.

    Raises:
        CurateError: no text, or one whose feature has no direction.
    """
    if not texts:
        raise CurateError("no texts to encode: give at least one class name or caption")
    model: Any = clip.model
    rows = []
    with torch.no_grad():
        for start in range(0, len(texts), TEXT_BATCH):
            tokens = clip.tokenize(list(texts[start : start + TEXT_BATCH])).to(clip.device)
            rows.append(functional.normalize(model.encode_text(tokens).float(), dim=1))
    found = torch.cat(rows)
    unusable = (found.norm(dim=1) - 1).abs().nan_to_num(nan=1.0) > 1e-3  # noqa: PLR2004 - rounding
    if unusable.any():
        text = texts[int(unusable.nonzero()[0])]
        raise CurateError(f"model {clip.name}: the feature of the text {text!r} has no direction")
    return found


def class_texts(clip: Clip, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Class names -> (C, d) fp32 unit rows: mean of the templates' unit rows, normalised again.

    All texts are encoded in one pass, classes first, templates within a class. Source of the
    averaging: Radford et al. 2021 (CLIP), section 3.1.4.

    Raises:
        CurateError: no template, or one without exactly one `{}`; no class name, or an empty one.
    """
    if not templates:
        raise CurateError("no template: give at least one text with {} for the class name")
    for template in templates:
        if template.count("{}") != 1:
            raise CurateError(f"template {template!r}: must hold {{}} exactly once")
    for place, name in enumerate(names):
        if not name.strip():
            raise CurateError(f"class {place}: has an empty name")
    texts = [template.replace("{}", name) for name in names for template in templates]
    rows = encode_texts(clip, texts).reshape(len(names), len(templates), -1)
    return functional.normalize(rows.mean(dim=1), dim=1)


def _three(values: object) -> tuple[float, float, float]:
    assert isinstance(values, (list, tuple))
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _config(encoder: ClipEncoder) -> dict[str, Any]:
    import open_clip
    from open_clip.transformer import QuickGELU

    architecture: dict[str, Any] = open_clip.get_model_config(encoder.source)
    # A published tag decides the activation; the architecture's entry alone does not know it.
    if any(isinstance(part, QuickGELU) for part in encoder.module.modules()):
        architecture = architecture | {"quick_gelu": True}
    preprocessing = encoder.preprocessing()
    preprocessing.pop("transform")
    return {"model_cfg": architecture, "preprocess_cfg": preprocessing}
