"""Each loss against a restatement of its equation in NumPy, and by hand where that is possible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from eval.models.classifier import ZeroShot
from train import losses

if TYPE_CHECKING:
    from collections.abc import Callable


def draws(seed: int, *shape: int) -> Tensor:
    values = np.random.default_rng(seed).normal(size=shape)
    return torch.from_numpy(values.astype(np.float32))


def unit_rows(seed: int, *shape: int) -> Tensor:
    return functional.normalize(draws(seed, *shape), dim=-1)


def labels(seed: int, count: int, classes: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, classes, count))


def numbers(*tensors: Tensor) -> list[Any]:
    return [tensor.double().numpy() for tensor in tensors]


def softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def cosines(z: Any, t: Any) -> Any:
    lengths = np.sqrt((z**2).sum(axis=1))[:, None] * np.sqrt((t**2).sum(axis=1))
    return z @ t.T / lengths


def cross_entropy(logits: Any, y: Any) -> Any:
    return np.array([-math.log(p[int(k)]) for p, k in zip(softmax(logits), y, strict=True)])


def kl(p: Any, q: Any) -> Any:
    return (p * (np.log(p) - np.log(q))).sum(axis=1)


sizes = {"seed": st.integers(0, 10**6), "count": st.integers(1, 6), "classes": st.integers(2, 7)}


@given(**sizes, scale=st.floats(1, 20))
@pytest.mark.parametrize("name", ["ce", "tecoa", "coadv"])
def test_contrastive_losses_are_their_equation(
    name: str, seed: int, count: int, classes: int, scale: float
) -> None:
    z, texts = draws(seed, count, 8) * 3, unit_rows(seed + 1, classes, 8)
    y = labels(seed + 2, count, classes)
    expected = cross_entropy(scale * cosines(*numbers(z, texts)), numbers(y)[0])
    np.testing.assert_allclose(getattr(losses, name)(z, texts, scale, y), expected, atol=1e-5)


def test_tecoa_is_cross_entropy_over_the_zero_shot_classifier() -> None:
    z, texts, y = draws(0, 9, 16), unit_rows(1, 5, 16), labels(2, 9, 5)
    classifier = ZeroShot(nn.Flatten(), texts, scale=100.0, mean=(0.0,), std=(1.0,))
    logits = classifier(z[:, None, None])
    expected = nn.CrossEntropyLoss(reduction="none")(logits, y)
    np.testing.assert_allclose(losses.tecoa(z, texts, 100.0, y), expected, atol=1e-5)


def test_tecoa_by_hand() -> None:
    """Cosines 0.6 and 0.8, scale 10: the wrong class leads by 2."""
    z, y = torch.tensor([[3.0, 4.0]]), torch.tensor([0])
    got = losses.tecoa(z, torch.eye(2), 10.0, y)
    np.testing.assert_allclose(got, [math.log(1 + math.exp(2))], atol=1e-6)


@given(**sizes)
def test_adv_is_its_equation(seed: int, count: int, classes: int) -> None:
    z, weight, bias = draws(seed, count, 8), draws(seed + 1, classes, 8), draws(seed + 3, classes)
    y = labels(seed + 2, count, classes)
    z_, w_, b_, y_ = numbers(z, weight, bias, y)
    expected = cross_entropy(z_ @ w_.T + b_, y_)
    np.testing.assert_allclose(losses.adv(z, weight, bias, y), expected, atol=1e-5)


@given(**sizes, temperature=st.floats(0.05, 1))
def test_imgcoadv_is_its_equation(seed: int, count: int, classes: int, temperature: float) -> None:
    z, view = draws(seed, count, 8), draws(seed + 1, count, 8)
    expected = cross_entropy(cosines(*numbers(z, view)) / temperature, range(count))
    np.testing.assert_allclose(losses.imgcoadv(z, view, temperature), expected, atol=1e-5)


@given(**sizes)
def test_tecoa_on_captions_contrasts_with_the_whole_batch(
    seed: int, count: int, classes: int
) -> None:
    z, captions = draws(seed, count, 8), unit_rows(seed + 1, count + classes, 8)
    own = torch.arange(count) + classes  # the captions of another process come first
    expected = cross_entropy(14 * cosines(*numbers(z, captions)), numbers(own)[0])
    np.testing.assert_allclose(losses.tecoa_captions(z, captions, 14.0, own), expected, atol=1e-5)


@given(**sizes)
def test_fare_is_the_squared_distance(seed: int, count: int, classes: int) -> None:
    z, original = draws(seed, count, classes), draws(seed + 1, count, classes)
    z_, o_ = numbers(z, original)
    expected = ((z_ - o_) ** 2).sum(axis=1)
    np.testing.assert_allclose(losses.fare(z, original), expected, atol=1e-5, rtol=1e-6)


def test_fare_by_hand_does_not_normalise() -> None:
    got = losses.fare(
        torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    )
    assert got.tolist() == [25.0, 0.0]


@given(**sizes)
def test_pmg_aft_is_its_equation(seed: int, count: int, classes: int) -> None:
    logits, clean, original = (3 * draws(seed + i, count, classes) for i in range(3))
    y = labels(seed + 3, count, classes)
    l_, c_, o_, y_ = numbers(logits, clean, original, y)
    expected = cross_entropy(l_, y_) + kl(softmax(o_), softmax(l_)) + kl(softmax(c_), softmax(l_))
    np.testing.assert_allclose(losses.pmg_aft(logits, clean, original, y), expected, atol=1e-5)


def test_pmg_aft_reaches_the_clean_branch_and_repeats_do_not_add_weight() -> None:
    logits, clean, original = (draws(i, 2, 4).requires_grad_() for i in range(3))
    y = torch.tensor([0, 3])
    found = losses.pmg_aft(logits, clean, original, y)
    (gradient,) = torch.autograd.grad(found.sum(), clean)
    assert gradient.abs().max() > 0
    twice = losses.pmg_aft(*(torch.cat([t, t]) for t in (logits, clean, original, y)))
    np.testing.assert_allclose(twice.detach(), found.detach().repeat(2), atol=1e-6)


@given(**sizes)
def test_tga_zsr_is_its_equation(seed: int, count: int, classes: int) -> None:
    logits, y = draws(seed, count, classes), labels(seed + 1, count, classes)
    maps = [draws(seed + i, count, 9).sigmoid() for i in (2, 3, 4)]
    l_, y_, adversarial, clean, original = numbers(logits, y, *maps)
    expected = (
        cross_entropy(l_, y_)
        + 0.08 * np.sqrt(((adversarial - original) ** 2).mean(axis=1))
        + 0.05 * np.sqrt(((clean - original) ** 2).mean(axis=1))
    )
    np.testing.assert_allclose(losses.tga_zsr(logits, *maps, y), expected, atol=1e-5)


def test_equal_attention_costs_nothing_and_has_a_finite_gradient() -> None:
    same = draws(0, 2, 9).requires_grad_()
    logits, y = torch.zeros(2, 3), torch.tensor([0, 1])
    found = losses.tga_zsr(logits, same, same, same.detach(), y)
    np.testing.assert_allclose(found.detach(), [math.log(3)] * 2, atol=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), same)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@given(**sizes)
def test_attention_maps_are_cosines_stretched_to_zero_and_one(
    seed: int, count: int, classes: int
) -> None:
    patches, texts = draws(seed, count, 9, 8), unit_rows(seed + 1, count, 8)
    got = losses.attention_map(patches, texts)
    for row, tokens, text in zip(got, *numbers(patches, texts), strict=True):
        a = cosines(tokens, text[None])[:, 0]
        np.testing.assert_allclose(row, (a - a.min()) / (a.max() - a.min()), atol=1e-5)


def test_an_attention_map_without_contrast_is_zero() -> None:
    patches = torch.ones(1, 4, 3).requires_grad_()
    found = losses.attention_map(patches, torch.eye(3)[:1])
    assert found.tolist() == [[0.0] * 4]
    (gradient,) = torch.autograd.grad(found.sum(), patches)
    assert gradient.isfinite().all()


@given(**sizes)
def test_agft_is_its_equation(seed: int, count: int, classes: int) -> None:
    # alike enough that no probability underflows
    z = draws(seed, count, 8) * 0.1 + 1
    original, texts = draws(seed + 1, count, 8) * 0.1 + 1, unit_rows(seed + 2, classes, 8) * 0.1 + 1
    texts = functional.normalize(texts, dim=1)
    z_, o_, t_ = numbers(z, original, texts)
    expected = kl(softmax(72 * cosines(o_, t_)), softmax(180 * cosines(z_, t_)))
    np.testing.assert_allclose(losses.agft(z, original, texts), expected, atol=5e-5, rtol=1e-5)


def test_soft_targets_do_not_overflow_where_they_are_sure() -> None:
    z, texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    found = losses.agft(z, z.flip(0), texts)
    assert found.isfinite().all()
    assert (found >= 0).all()


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_divergence_is_zero_between_equals_and_never_below(seed: int, classes: int) -> None:
    p, q = draws(seed, 4, classes), draws(seed + 1, 4, classes)
    assert losses.divergence(p, p + 5).abs().max() < 1e-6
    assert (losses.divergence(p, q) > -1e-6).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, t, y: losses.tecoa(z, t, 10.0, y),
        lambda z, t, y: losses.adv(z, t, torch.zeros(3), y),
        lambda z, t, y: losses.fare(z, t[y]),
        lambda z, t, y: losses.agft(z, t[y] + 1, t),
        lambda z, t, y: losses.pmg_aft(z @ t.T, z @ t.T * 2, z @ t.T * 3, y),
        lambda z, t, y: losses.imgcoadv(z, t[y] + z, 0.1),
    ],
)
def test_losses_are_per_image_fp32_and_have_right_gradients(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    z, texts, y = draws(0, 4, 8), unit_rows(1, 3, 8), torch.tensor([0, 2, 1, 0])
    assert loss(z.bfloat16().float(), texts, y).dtype == torch.float32
    assert loss(z, texts, y).shape == (4,)
    here = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(here, texts, y).sum(), here)
    step = 1e-3 * draws(5, 4, 8)
    change = (loss(z + step, texts, y) - loss(z - step, texts, y)).sum() / 2
    assert change == pytest.approx((gradient * step).sum().item(), rel=0.05, abs=1e-4)
