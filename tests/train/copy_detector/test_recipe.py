"""Losses against loops, the learning rate, and a few steps of training that learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.encoders.copy_net import DIM, SIDE
from train.copy_detector.recipe import Recipe, _edited, entropy_loss, info_nce, rate_at, train
from train.copy_detector.sources import Source, drawings

TINY = Recipe(steps=24, batch=24, warm_up=3, rate=3e-4, temperature=0.2, entropy=0.5)


def unit_rows(seed: int, pairs: int, dim: int) -> torch.Tensor:
    rows = np.random.default_rng(seed).normal(size=(2 * pairs, dim))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


ROWS = st.integers(0, 2**32), st.integers(2, 6), st.integers(2, 5)


@settings(max_examples=30)
@given(*ROWS, st.floats(0.02, 1.0))
def test_info_nce_is_that_of_loops(seed: int, pairs: int, dim: int, temperature: float) -> None:
    rows = unit_rows(seed, pairs, dim).tolist()
    losses = []
    for i, one in enumerate(rows):
        partner = (i + pairs) % (2 * pairs)
        scores = {
            j: sum(a * b for a, b in zip(one, two, strict=True)) / temperature
            for j, two in enumerate(rows) if j != i
        }  # fmt: skip
        top = max(scores.values())
        total = math.log(sum(math.exp(score - top) for score in scores.values())) + top
        losses.append(total - scores[partner])
    found = info_nce(unit_rows(seed, pairs, dim), temperature)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-6, abs=1e-9)


@settings(max_examples=30)
@given(*ROWS)
def test_the_entropy_is_that_of_loops(seed: int, pairs: int, dim: int) -> None:
    rows = unit_rows(seed, pairs, dim).tolist()
    logs = []
    for i, one in enumerate(rows):
        others = [j for j in range(2 * pairs) if j not in (i, (i + pairs) % (2 * pairs))]
        logs.append(math.log(min(math.dist(one, rows[j]) for j in others)))
    found = entropy_loss(unit_rows(seed, pairs, dim))
    assert float(found) == pytest.approx(-sum(logs) / len(logs), rel=1e-6, abs=1e-9)


def test_equal_rows_have_finite_losses_and_slopes() -> None:
    rows = torch.ones(6, 4).div(2).requires_grad_()
    loss = info_nce(rows, 0.05) + entropy_loss(rows)
    loss.backward()
    assert rows.grad is not None
    assert loss.isfinite()
    assert rows.grad.isfinite().all()


def test_partners_that_agree_cost_less() -> None:
    agree = unit_rows(0, 8, 6)[:8].repeat(2, 1)
    assert info_nce(agree, 0.1) < info_nce(unit_rows(0, 8, 6), 0.1)


def test_the_rate_rises_and_then_falls_to_a_little() -> None:
    recipe = Recipe(steps=100, warm_up=10, rate=1.0)
    rates = [rate_at(step, recipe) for step in range(100)]
    top = int(np.argmax(rates))
    assert 8 <= top <= 10
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[0] == pytest.approx(0.105, abs=1e-3)
    assert max(rates) <= 1.005
    assert 0 < rates[-1] < 0.01


# --- training ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    pictures = drawings(16, 5)
    return [Source(pictures[:32], 5 / 8), Source(pictures[32:], 3 / 8)]


def trained(sources: list[Source], recipe: Recipe) -> tuple[dict[str, torch.Tensor], list[float]]:
    losses: list[float] = []
    steps: list[int] = []

    def note(step: int, contrast: float, spread: float) -> None:
        steps.append(step)
        assert math.isfinite(spread)
        losses.append(contrast)

    net = train(sources, recipe, note)
    assert not net.training
    assert steps == list(range(1, recipe.steps + 1))
    return net.state_dict(), losses


def test_a_batch_is_two_edits_of_each_picture(sources: list[Source]) -> None:
    flat = [
        Source(np.full_like(s.pictures, 0) + np.arange(len(s.pictures), dtype=np.uint8)
               .reshape(-1, 1, 1, 1, 1) * 9, s.share)
        for s in sources
    ]  # fmt: skip
    found = _edited(flat, 16, np.random.default_rng(0), torch.Generator().manual_seed(0))
    assert found.shape == (32, 3, SIDE, SIDE)
    assert ((found >= -1) & (found <= 1)).all()
    chosen = np.random.default_rng(0)
    expected = torch.cat([s.draw(round(16 * s.share), chosen).mean(dim=(1, 2, 3)) for s in flat])
    untouched = [*range(5), *range(10, 13)]
    plain = (found[untouched].mean(dim=(1, 2, 3)) + 1) / 2
    assert torch.allclose(plain, expected[untouched], atol=1e-4)


def test_training_lowers_the_loss_and_repeats_itself(sources: list[Source]) -> None:
    before = torch.get_rng_state()
    weights, losses = trained(sources, TINY)
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again, same = trained(sources, TINY)
    assert same == losses
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    other, _ = trained(sources, Recipe(steps=1, batch=16, seed=1))
    assert any(not torch.equal(weights[name], other[name]) for name in weights)
    assert weights["head.weight"].shape[0] == DIM
    assert all(tensor.isfinite().all() for tensor in weights.values())
