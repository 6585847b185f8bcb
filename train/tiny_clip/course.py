"""A phase of training, epoch by epoch; it can be left after any of them and gone on with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from train.checkpoint import optimizer_state, restore_optimizer, under
from train.tiny_clip.muon import Muon
from train.tiny_clip.recipe import BATCH, SIDE, normalised, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    import open_clip

    from train.tiny_clip.recipe import Phase, Pictures

_RATE, _OTHER_RATE = 0.02, 2e-3
_DECAY, _OTHER_DECAY = 0.1, 0.01
_WARMUP = 0.1
_SMOOTHING = 0.1
_SHIFT, _HOLE = 4, 8
_MODEL, _OPTIMIZER, _GENERATOR, _SEEN = "model/", "optimizer/", "generator", "seen"


@dataclass(frozen=True)
class Epoch:
    """What was seen of the augmented training images in an epoch.

    Attributes:
        loss: mean cross-entropy.
        right: share that was classified rightly.
    """

    loss: float
    right: float


class Course:
    """A phase in progress; the rate rises for a tenth of the updates and falls to zero by a line.

    Args:
        model: trained in place, and in training mode meanwhile.
        pictures: at least a batch of them.
        phase: how long, how fast, from which seed.
    """

    def __init__(self, model: open_clip.CLIP, pictures: Pictures, phase: Phase) -> None:
        self.seen: list[Epoch] = []
        self._model, self._phase, self._labels = model, phase, pictures.labels
        self._optimizers = _optimizers(model, phase.rate)
        self._generator = torch.Generator().manual_seed(phase.seed)
        self._texts = tokens(pictures.classes)
        around = ((0, 0), (0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT))
        self._padded = torch.from_numpy(np.pad(pictures.images.numpy(), around, mode="reflect"))
        self._updates = len(self._padded) // BATCH

    @property
    def done(self) -> int:
        """Epochs that are behind."""
        return len(self.seen)

    def epoch(self) -> Epoch:
        """Train on every image once, but for a last batch that is not whole."""
        self._model.train()
        losses, right = 0.0, 0
        order = torch.randperm(len(self._padded), generator=self._generator)
        for number, rows in enumerate(order[: self._updates * BATCH].view(-1, BATCH)):
            done = (self.done + number / self._updates) / self._phase.epochs
            _set_rate(self._optimizers, done)
            loss, found = self._update(rows)
            losses, right = losses + loss, right + found
        self._model.eval()
        self.seen.append(Epoch(losses / self._updates, right / (self._updates * BATCH)))
        return self.seen[-1]

    def _update(self, rows: Tensor) -> tuple[float, int]:
        """Loss of a batch before its update, and how many of its images were right."""
        draws = self._generator
        chosen = self._texts[torch.randint(len(self._texts), (1,), generator=draws)[0]]
        images, targets = _augmented(self._padded, rows, draws), self._labels[rows]
        others, share = torch.arange(len(rows)), 1.0
        if torch.rand((), generator=draws) < self._phase.mixed:
            images, others, share = _mixed(images, draws)
        logits = _logits(self._model, images, chosen)
        loss = share * _loss(logits, targets) + (1 - share) * _loss(logits, targets[others])
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer, _ in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return float(loss.detach()), int((logits.argmax(dim=1) == targets).sum())

    def state(self) -> dict[str, Tensor]:
        """All that the epochs that are left depend on, and what was seen in those behind."""
        found = {_MODEL + name: value for name, value in self._model.state_dict().items()}
        for number, (optimizer, _) in enumerate(self._optimizers):
            kept = optimizer_state(optimizer)
            found |= {f"{_OPTIMIZER}{number}/{name}": value for name, value in kept.items()}
        seen = torch.tensor([[one.loss, one.right] for one in self.seen], dtype=torch.float64)
        return found | {_GENERATOR: self._generator.get_state(), _SEEN: seen}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave after some epoch."""
        self.seen = [Epoch(loss, right) for loss, right in state[_SEEN].tolist()]
        self._model.load_state_dict(under(_MODEL, state))
        for number, (optimizer, _) in enumerate(self._optimizers):
            restore_optimizer(optimizer, under(f"{_OPTIMIZER}{number}/", state))
        self._generator.set_state(state[_GENERATOR])


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
    images = normalised(images)
    at = torch.arange(SIDE)
    down, right = torch.randint(SIDE, (2, n, 1), generator=generator)
    rows_in, columns_in = ((at - c).abs() * 2 < _HOLE for c in (down, right))
    hole = rows_in[:, None, :, None] & columns_in[:, None, None, :]
    return images.masked_fill(hole, 0.0).contiguous(memory_format=torch.channels_last)
