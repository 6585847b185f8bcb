"""A search for prompts on training data: swaps of single tokens, led by gradients.

A prefix of a few tokens stands before the class name. In turn, one of its places is looked at: the
gradient of the loss with respect to the embedding there says, to first order, which other tokens
would lower it; the most promising are tried in earnest, and the best is taken if it does lower the
loss. Source: AutoPrompt (Shin et al. 2020, section 2.2), which ROZ names for its CLIP-Auto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from curate.errors import CurateError
from eval.models.classifier import cosine_logits
from eval.models.prefixes import Prefix, encoded, prefixed, tokenizer_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eval.models.classifier import Clip

START = "a photo of a"


@dataclass(frozen=True)
class SearchSettings:
    """How a search goes.

    Attributes:
        steps: swaps that are looked at.
        candidates: tokens that are tried in each step.
        batch: images that a step looks at, drawn anew in each.
        start: words of the first prefix.
        seed: of the draws.
    """

    steps: int = 40
    candidates: int = 16
    batch: int = 512
    start: str = START
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "candidates", "batch"):
            if getattr(self, name) < 1:
                raise CurateError(f"{name} {getattr(self, name)}: must be at least 1")


@dataclass(frozen=True)
class Found:
    """What a step led to.

    Attributes:
        prefix: after the step.
        loss: of it, mean cross-entropy over the images of the step.
        accepted: whether the step changed the prefix.
    """

    prefix: Prefix
    loss: float
    accepted: bool


def search(
    clip: Clip,
    features: Tensor,
    labels: Tensor,
    names: Sequence[str],
    settings: SearchSettings,
) -> Iterator[Found]:
    """Look for prefixes that classify training images well; yields after every step.

    Args:
        clip: the model; it is left as it is.
        features: (n, d) fp32 image features of training images.
        labels: (n,) int64 places in `names`.
        names: of the classes.
        settings: how.

    Raises:
        CurateError: no images, the start holds no token, or texts are too long for the model.
    """
    if not len(features):
        raise CurateError("no training images: a search needs some to look at")
    prefix: Prefix = tuple(tokenizer_of(clip).encode(settings.start))
    if not prefix:
        raise CurateError(f"start {settings.start!r}: holds no token")
    draws = torch.Generator().manual_seed(settings.seed)
    for step in range(settings.steps):
        rows = torch.randint(len(features), (settings.batch,), generator=draws)
        seen, right = features[rows].to(clip.device), labels[rows].to(clip.device)
        place = step % len(prefix)
        before = _loss(clip, encoded(clip, prefixed(clip, names, prefix)), seen, right)
        tried = [
            (*prefix[:place], token, *prefix[place + 1 :])
            for token in _promising(clip, prefix, place, (seen, right, names), settings.candidates)
        ]
        losses = [
            _loss(clip, encoded(clip, prefixed(clip, names, one)), seen, right) for one in tried
        ]
        best = min(range(len(tried)), key=losses.__getitem__)
        is_better = losses[best] < before
        prefix = tried[best] if is_better else prefix
        yield Found(prefix, min(before, losses[best]), is_better)


def _loss(clip: Clip, texts: Tensor, features: Tensor, labels: Tensor) -> float:
    logits = cosine_logits(features, functional.normalize(texts, dim=1), clip.scale)
    return float(functional.cross_entropy(logits, labels))


def _promising(
    clip: Clip,
    prefix: Prefix,
    place: int,
    task: tuple[Tensor, Tensor, Sequence[str]],
    count: int,
) -> list[int]:
    """Tokens that lower the loss most at a place, to first order; the present one is none."""
    features, labels, names = task
    model: Any = clip.model
    embedding = _embedding(model)
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    handle = embedding.register_forward_hook(keep)
    try:
        texts = model.encode_text(prefixed(clip, names, prefix)).float()
    finally:
        handle.remove()
    logits = cosine_logits(features, functional.normalize(texts, dim=1), clip.scale)
    (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, labels), seen[0])
    with torch.no_grad():
        # behind the mark of the start, the same token stands in the texts of all classes
        slope = embedding.weight.float() @ gradient[:, 1 + place].float().sum(dim=0)
    known = int(tokenizer_of(clip).vocab_size) - 2  # the last two mark start and end
    slope = slope[:known].index_fill(
        0, torch.tensor([prefix[place]], device=slope.device), torch.inf
    )
    return slope.topk(min(count, known - 1), largest=False).indices.tolist()


def _embedding(model: Any) -> nn.Embedding:
    owner = getattr(model, "text", model)
    found = getattr(owner, "token_embedding", None)
    if not isinstance(found, nn.Embedding):
        raise CurateError(
            "this text tower has no table of token embeddings; give templates instead"
        )
    return found
