"""A search finds tokens that lower the loss, each time the same, and leaves the model alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from curate.errors import CurateError
from eval.models.prefix_search import SearchSettings, _promising, search
from eval.models.prefixes import Prefix, prefix_texts, prefixed, tokenizer_of

if TYPE_CHECKING:
    from eval.models.classifier import Clip

NAMES = ("cat", "dog", "horse")
SETTINGS = SearchSettings(steps=6, candidates=8, batch=64)


@pytest.fixture(scope="module")
def task(clip: Clip) -> tuple[Tensor, Tensor]:
    """Image features that a hidden prefix classifies well."""
    hidden = prefix_texts(clip, NAMES, [(900, 17, 30000, 4)])
    labels = torch.arange(90) % 3
    noise = torch.randn(90, hidden.shape[1], generator=torch.Generator().manual_seed(0))
    return hidden[labels] + 0.02 * noise, labels


def mean_loss(clip: Clip, prefix: Prefix, task: tuple[Tensor, Tensor]) -> float:
    features, labels = task
    logits = clip.scale * functional.normalize(features, dim=1)
    logits = logits @ prefix_texts(clip, NAMES, [prefix]).T
    return float(functional.cross_entropy(logits, labels))


def test_the_loss_falls(clip: Clip, task: tuple[Tensor, Tensor]) -> None:
    found = list(search(clip, *task, NAMES, SETTINGS))
    assert len(found) == SETTINGS.steps
    assert any(step.accepted for step in found)
    start = tuple(tokenizer_of(clip).encode(SETTINGS.start))
    assert mean_loss(clip, found[-1].prefix, task) < mean_loss(clip, start, task)


def test_a_step_changes_one_token_or_none(clip: Clip, task: tuple[Tensor, Tensor]) -> None:
    before = tuple(tokenizer_of(clip).encode(SETTINGS.start))
    for place, step in enumerate(search(clip, *task, NAMES, SETTINGS)):
        changed = [i for i, (a, b) in enumerate(zip(before, step.prefix, strict=True)) if a != b]
        assert changed == ([place % 4] if step.accepted else [])
        before = step.prefix


def test_the_same_seed_finds_the_same(clip: Clip, task: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    first = list(search(clip, *task, NAMES, SETTINGS))
    torch.manual_seed(2)
    assert list(search(clip, *task, NAMES, SETTINGS)) == first


def test_the_model_is_left_as_it_was(clip: Clip, task: tuple[Tensor, Tensor]) -> None:
    weights = {name: value.clone() for name, value in clip.model.state_dict().items()}
    list(search(clip, *task, NAMES, SETTINGS))
    assert all(torch.equal(weights[n], value) for n, value in clip.model.state_dict().items())
    assert all(parameter.grad is None for parameter in clip.model.parameters())
    model: Any = clip.model
    assert not model.token_embedding._forward_hooks


def test_the_slope_is_that_of_the_loss(clip: Clip, task: tuple[Tensor, Tensor]) -> None:
    """Moving the embedding of one place a little changes the loss as the slope says."""
    model: Any = clip.model
    features, labels = task
    prefix: Prefix = (900, 17, 5, 4)
    place = 2
    step = 1e-3

    def shifted(token: int, share: float) -> float:
        def move(_module: Any, _arguments: Any, output: Tensor) -> Tensor:
            here = model.token_embedding.weight[prefix[place]]
            towards = model.token_embedding.weight[token] - here
            output = output.clone()
            output[:, 1 + place] += share * towards
            return output

        handle = model.token_embedding.register_forward_hook(move)
        try:
            with torch.no_grad():
                texts = model.encode_text(prefixed(clip, NAMES, prefix))
        finally:
            handle.remove()
        logits = clip.scale * functional.normalize(features, dim=1)
        logits = logits @ functional.normalize(texts, dim=1).T
        return float(functional.cross_entropy(logits.double(), labels))

    chosen = _promising(clip, prefix, place, (features, labels, NAMES), 5)
    slopes = [(shifted(t, step) - shifted(t, -step)) / (2 * step) for t in chosen]
    others = [(shifted(t, step) - shifted(t, -step)) / (2 * step) for t in range(0, 49000, 4900)]
    assert prefix[place] not in chosen
    assert max(slopes) < 0
    assert max(slopes) <= min(others) + 1e-6


@pytest.mark.parametrize("name", ["steps", "candidates", "batch"])
def test_settings_are_checked(name: str) -> None:
    with pytest.raises(CurateError, match=f"{name} 0"):
        SearchSettings(**{name: 0})


def test_no_images_and_no_start_are_refused(clip: Clip, task: tuple[Tensor, Tensor]) -> None:
    features, labels = task
    with pytest.raises(CurateError, match="no training images"):
        next(search(clip, features[:0], labels[:0], NAMES, SETTINGS))
    with pytest.raises(CurateError, match="holds no token"):
        next(search(clip, features, labels, NAMES, SearchSettings(start=" ")))
