"""What the tiny CLIP is, and how it is trained.

Image and text tower are trained together: an image is contrasted with one text for each class, by
the cross-entropy of CLIP's logits. (In CLIP's own loss the images of a class, which share their
captions, would be each other's negatives.) The template of the texts changes with every update.

After a long phase, which fits the training images better than others, a short one follows in which
half of the batches have parts of other images pasted in (CutMix, Yun et al., ICCV 2019). What is
kept is the mean of the weights at the ends of both, with the statistics of BatchNorm taken anew
(Izmailov et al., UAI 2018), which is better than either. Weights are rounded to fp16 between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIDE = 32
CONTEXT = 16
MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIDE, "layers": [2, 2, 2, 1], "width": 32, "patch_size": None},
    "text_cfg": {
        "context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
    },
}  # fmt: skip
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
TEMPLATES = (
    "a photo of a {}", "This is a photo of a {}.", "a blurry photo of a {}",
    "a small photo of a {}", "a picture of one {}", "an image of the {}", "the {}", "{}",
)  # fmt: skip
"""What class names are put into; with `an` for `a` before a vowel."""

BATCH = 250
_SEED = 0
_COUNTED, _COUNTED_AT_ONCE = 10_000, 500


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes:
        epochs: how many.
        rate: share of the full learning rate.
        mixed: share of the batches with parts of other images pasted in.
        seed: of order and augmentation.
    """

    epochs: int
    rate: float
    mixed: float
    seed: int


PHASES = (Phase(64, 1.0, 0.0, _SEED), Phase(16, 0.4, 0.5, _SEED + 1))


@dataclass(frozen=True)
class Pictures:
    """What the model is trained on.

    Attributes:
        images: (n, 3, SIDE, SIDE) uint8.
        labels: (n,) int64 places in `classes`.
        classes: names.
    """

    images: Tensor
    labels: Tensor
    classes: Sequence[str]


def new_model(seed: int = _SEED) -> open_clip.CLIP:
    """The model with its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = open_clip.CLIP(**MODEL)
    model.visual.to(memory_format=torch.channels_last)
    return model


def averaged(ends: Sequence[Mapping[str, Tensor]], pictures: Pictures) -> open_clip.CLIP:
    """A model with the mean of several models' weights, and statistics of its own.

    Args:
        ends: state dicts.
        pictures: whose first 10,000 images BatchNorm's statistics are taken of.
    """
    model = new_model()
    first = ends[0]
    model.load_state_dict(
        {
            name: torch.stack([end[name].float() for end in ends]).mean(dim=0)
            if value.is_floating_point()
            else value
            for name, value in first.items()
        }
    )
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain means of all batches
    model.train()
    with torch.no_grad():
        for part in torch.split(pictures.images[:_COUNTED], _COUNTED_AT_ONCE):
            model.encode_image(normalised(part))
    return model.eval()


def tokens(classes: Sequence[str]) -> Tensor:
    """(templates, classes, CONTEXT) int64."""
    texts = [filled(template, name) for template in TEMPLATES for name in classes]
    rows: Tensor = open_clip.tokenize(texts, CONTEXT)
    return rows.view(len(TEMPLATES), len(classes), CONTEXT)


def filled(template: str, name: str) -> str:
    """A template with a class name in it, and the right article."""
    if name[:1] in "aeiou":
        template = template.replace(" a {}", " an {}")
    return template.replace("{}", name)


def accuracy(model: open_clip.CLIP, pictures: Pictures) -> float:
    """Zero-shot accuracy, in fp32, with the mean of all templates as a class's text."""
    with torch.no_grad():
        words = model.encode_text(tokens(pictures.classes).flatten(0, 1), normalize=True)
        classes = words.view(len(TEMPLATES), len(pictures.classes), -1).mean(dim=0)
        classes = functional.normalize(classes, dim=1)
        guesses = [
            (model.encode_image(normalised(part)) @ classes.T).argmax(dim=1)
            for part in torch.split(pictures.images, BATCH)
        ]
    return float((torch.cat(guesses) == pictures.labels).double().mean())


def normalised(images: Tensor) -> Tensor:
    """(n, 3, SIDE, SIDE) uint8 -> float32, as the tower takes them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def halves(model: torch.nn.Module) -> dict[str, Tensor]:
    """Weights in fp16: half the size, and the model computes in fp32 when it is loaded."""
    return {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


def written_config() -> dict[str, Any]:
    """What stands in `open_clip_config.json`."""
    preprocess = {"mean": MEAN, "std": STD, "size": [SIDE, SIDE], "interpolation": "bicubic"}
    return {"model_cfg": MODEL, "preprocess_cfg": preprocess}
