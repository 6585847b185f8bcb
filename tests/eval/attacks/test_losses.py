"""Losses against their equations, one image at a time, and what they are with few classes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.attacks.losses import LossName, attack_loss, margins


def slow_loss(name: str, z: list[float], y: int, t: int | None) -> float:
    ranked = sorted(z, reverse=True)
    other = max(value for j, value in enumerate(z) if j != y)
    total = math.log(sum(math.exp(value - ranked[0]) for value in z)) + ranked[0]
    if name == "ce":
        return total - z[y] if t is None else z[t] - total
    if name == "margin" or len(z) < (3 if t is None else 4):
        if t is None:
            return -max(0.0, z[y] - other + 50)
        return -max(0.0, max(value for j, value in enumerate(z) if j != t) - z[t] + 50)
    if t is None:
        return -(z[y] - other) / (ranked[0] - ranked[2])
    return -(z[y] - z[t]) / (ranked[0] - (ranked[2] + ranked[3]) / 2)


@given(
    st.sampled_from(["ce", "margin", "dlr"]),
    st.lists(st.integers(-30, 30), min_size=2, max_size=6, unique=True),
    st.data(),
)
def test_losses_are_their_equations(name: LossName, z: list[int], data: st.DataObject) -> None:
    y = data.draw(st.integers(0, len(z) - 1))
    t = data.draw(st.none() | st.integers(0, len(z) - 1).filter(lambda place: place != y))
    logits = torch.tensor([z], dtype=torch.float32)
    aims = None if t is None else torch.tensor([t])
    (found,) = attack_loss(name, logits, torch.tensor([y]), aims).tolist()
    expected = slow_loss(name, [float(value) for value in z], y, t)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_dlr_does_not_change_with_the_scale_of_the_logits() -> None:
    logits, labels = torch.tensor([[3.0, 1.0, -2.0, 0.5]]), torch.tensor([0])
    for aims in (None, torch.tensor([2])):
        plain = attack_loss("dlr", logits, labels, aims)
        torch.testing.assert_close(attack_loss("dlr", logits * 300, labels, aims), plain)


@pytest.mark.parametrize(("classes", "aimed"), [(2, False), (2, True), (3, True)])
def test_with_too_few_classes_a_dlr_is_the_margin(classes: int, aimed: bool) -> None:
    logits = torch.randn(5, classes, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(5, dtype=torch.int64)
    aims = torch.ones_like(labels) if aimed else None
    found = attack_loss("dlr", logits, labels, aims)
    assert torch.equal(found, attack_loss("margin", logits, labels, aims))


def test_equal_logits_give_finite_losses() -> None:
    logits, labels = torch.zeros(2, 5), torch.tensor([0, 4])
    for name in ("ce", "margin", "dlr"):
        for aims in (None, torch.tensor([1, 1])):
            assert attack_loss(name, logits, labels, aims).isfinite().all()
    assert margins(logits, labels).tolist() == [0, 0]


def test_a_saturated_cross_entropy_has_no_gradient_where_the_others_have_one() -> None:
    labels = torch.tensor([0])
    norms = {}
    for name in ("ce", "margin", "dlr"):
        logits = torch.tensor([[200.0, 10.0, 0.0, -5.0]], requires_grad=True)
        attack_loss(name, logits, labels).sum().backward()
        assert logits.grad is not None
        norms[name] = float(logits.grad.norm())
    assert norms["ce"] == 0
    assert norms["margin"] > 0
    assert norms["dlr"] > 0
