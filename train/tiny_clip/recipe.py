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

from train.tiny_clip.muon import Muon

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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

_BATCH = 250
_RATE, _OTHER_RATE = 0.02, 2e-3
_DECAY, _OTHER_DECAY = 0.1, 0.01
_WARMUP = 0.1
_SMOOTHING = 0.1
_SHIFT, _HOLE = 4, 8
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


def new_model() -> open_clip.CLIP:
    """The model with its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        model = open_clip.CLIP(**MODEL)
    model.visual.to(memory_format=torch.channels_last)
    return model


def train(
    model: open_clip.CLIP, pictures: Pictures, phase: Phase, say: Callable[[str], None]
) -> None:
    """One phase; the rate rises for a tenth of the updates and falls to zero by a line."""
    generator = torch.Generator().manual_seed(phase.seed)
    model.train()
    optimizers = _optimizers(model, phase.rate)
    epochs = phase.epochs
    texts = tokens(pictures.classes)
    padded = functional.pad(pictures.images.float(), (_SHIFT,) * 4, "reflect").to(torch.uint8)
    total = epochs * (len(padded) // _BATCH)
    step = 0
    for epoch in range(epochs):
        losses, right = 0.0, 0
        order = torch.randperm(len(padded), generator=generator)
        for rows in order[: len(padded) // _BATCH * _BATCH].view(-1, _BATCH):
            _set_rate(optimizers, step / total)
            chosen = texts[torch.randint(len(texts), (1,), generator=generator)[0]]
            images, targets = _augmented(padded, rows, generator), pictures.labels[rows]
            others, share = torch.arange(len(rows)), 1.0
            if torch.rand((), generator=generator) < phase.mixed:
                images, others, share = _mixed(images, generator)
            logits = _logits(model, images, chosen)
            loss = share * _loss(logits, targets) + (1 - share) * _loss(logits, targets[others])
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer, _ in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses += float(loss.detach())
            right += int((logits.argmax(dim=1) == targets).sum())
            step += 1
        say(f"epoch {epoch + 1} of {epochs}: loss {losses * epochs / total:.3f}, "
            f"right {right * epochs / total / _BATCH:.3f}")  # fmt: skip
    model.eval()


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
            model.encode_image(_normalised(part))
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
            (model.encode_image(_normalised(part)) @ classes.T).argmax(dim=1)
            for part in torch.split(pictures.images, _BATCH)
        ]
    return float((torch.cat(guesses) == pictures.labels).double().mean())


def _logits(model: open_clip.CLIP, images: Tensor, texts: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        seen = model.encode_image(images)
    words: Tensor = model.encode_text(texts, normalize=True)
    scale: Tensor = model.logit_scale.exp().clamp(max=100)
    return scale * functional.normalize(seen.float(), dim=1) @ words.T


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, label_smoothing=_SMOOTHING)


def _mixed(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Images with a box of another one each, which other, and the share that is still their own."""
    others = torch.randperm(len(images), generator=generator)
    draws = torch.rand(3, generator=generator).tolist()
    side = int(SIDE * draws[0] ** 0.5)
    top, left = (int(draw * (SIDE - side + 1)) for draw in draws[1:])
    box = (..., slice(top, top + side), slice(left, left + side))
    pasted = images.clone()
    pasted[box] = images[others][box]
    return pasted, others, 1 - side**2 / SIDE**2


def _optimizers(model: open_clip.CLIP, share: float) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the kernels but the first one's, AdamW for all else; with their full rates."""
    named = dict(model.visual.named_parameters())
    kernels = [p for name, p in named.items() if p.ndim == 4 and name != "conv1.weight"]  # noqa: PLR2004
    taken = {id(p) for p in kernels}
    others = [p for p in model.parameters() if id(p) not in taken]
    rate, other = share * _RATE, share * _OTHER_RATE
    return [
        (Muon(kernels, rate, weight_decay=_DECAY), rate),
        (torch.optim.AdamW(others, lr=other, weight_decay=_OTHER_DECAY), other),
    ]


def _set_rate(optimizers: list[tuple[torch.optim.Optimizer, float]], done: float) -> None:
    share = min(1.0, done / _WARMUP + 0.01, (1 - done) / (1 - _WARMUP))
    for optimizer, rate in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * share


def _augmented(padded: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Shifted, half of them mirrored, a square of each greyed; normalised, channels last."""
    n = len(rows)
    top, left = torch.randint(2 * _SHIFT + 1, (2, n, 1), generator=generator)
    y, x = top + torch.arange(SIDE), torch.arange(SIDE).repeat(n, 1)
    is_mirrored = torch.rand(n, generator=generator) < 0.5  # noqa: PLR2004 - half of the time
    x[is_mirrored] = x[is_mirrored].flip(1)
    x = x + left
    images = padded[rows[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
    images = _normalised(images)
    at = torch.arange(SIDE)
    down, right = torch.randint(SIDE, (2, n, 1), generator=generator)
    rows_in, columns_in = ((at - c).abs() * 2 < _HOLE for c in (down, right))
    hole = rows_in[:, None, :, None] & columns_in[:, None, None, :]
    return images.masked_fill(hole, 0.0).contiguous(memory_format=torch.channels_last)


def _normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std
