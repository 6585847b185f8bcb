"""The fit of the `pixels` verifier, on problems whose answer is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.copy_detector.augment import MILD
from train.copy_detector.pixels import fit, logistic, pairs
from train.copy_detector.sources import drawings

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIRECTION = np.array([2.0, -1.0, 0.5])


def problem(
    seed: int, count: int, gap: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Two clouds `gap` apart along DIRECTION, columns of quite different scales, equal weights."""
    rng = np.random.default_rng(seed)
    y = np.repeat([True, False], count)
    x = rng.normal(size=(2 * count, 3)) + gap * np.where(y, 1, -1)[:, None] * DIRECTION
    return x * [1, 50, 0.01] + [3, -7, 0.2], y, np.ones(len(y))


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.floats(0.1, 0.6), st.booleans())
def test_the_weights_are_those_of_a_general_optimiser(
    seed: int, gap: float, is_weighted: bool
) -> None:
    x, y, weight = problem(seed, 60, gap)
    if is_weighted:
        weight = np.random.default_rng(seed).uniform(0.2, 3, len(y))
    z = (x - x.mean(axis=0)) / x.std(axis=0)

    def loss(b: NDArray[np.float64]) -> float:
        margin = np.where(y, 1, -1) * (z @ b[:3] + b[3])
        data = (weight * np.logaddexp(0, -margin)).sum() / weight.sum()
        return float(data + 0.5e-3 * (b[:3] ** 2).sum())

    best = scipy.optimize.minimize(loss, np.zeros(4), tol=1e-12).x
    weights, offset = logistic(x, y, weight)
    assert x @ weights + offset == pytest.approx(z @ best[:3] + best[3], abs=2e-3)


@pytest.mark.parametrize("gap", [0.9, 2.0, 10.0])
def test_separable_clouds_are_separated(gap: float) -> None:
    x, y, weight = problem(1, 200, gap)
    weights, offset = fit(x, y, weight, np.zeros(len(y), bool))
    assert np.isfinite([*weights, offset]).all()
    above = x @ weights + offset > 0
    assert above[y].mean() > 0.8
    assert above[~y].mean() <= 0.03
    assert (np.sign(weights) == np.sign(DIRECTION)).all()


def test_at_one_half_three_negatives_in_1000_are_above() -> None:
    x, y, weight = problem(2, 4000, 0.4)
    weights, offset = fit(x, y, weight, np.zeros(len(y), bool))
    negatives = np.sort((x @ weights + offset)[~y])
    kept = negatives[: round(len(negatives) * 0.98)]
    assert (kept > 0).mean() == pytest.approx(0.003, abs=5e-4)


def test_copies_among_the_negatives_change_little() -> None:
    x, y, weight = problem(3, 1000, 1.0)
    unsure = np.zeros(len(y), bool)
    clean, _ = fit(x, y, weight, unsure)
    found = x.copy()
    found[1000:1015] = x[:15]
    dirty, offset = fit(found, y, weight, unsure)
    plain, _ = logistic(found, y, weight)
    assert np.abs(dirty / clean - 1).max() < np.abs(plain / clean - 1).max()
    assert (x[y] @ dirty + offset > 0).mean() > 0.9


def test_negatives_that_are_sure_are_kept_however_much_they_look_like_copies() -> None:
    x, y, weight = problem(3, 1000, 1.0)
    x[1000:1015] = x[:15]
    alike = np.isin(np.arange(len(y)), np.arange(1000, 1015))
    trimmed, _ = fit(x, y, weight, np.zeros(len(y), bool))
    weights, offset = fit(x, y, weight, alike)
    assert (np.abs(weights) < 0.9 * np.abs(trimmed)).all()
    assert (x[alike] @ weights + offset > 0).sum() <= 6


@pytest.mark.parametrize("strength", [MILD, None])
def test_copies_are_measured_with_their_originals_and_their_nearest_others(
    strength: object,
) -> None:
    pool = drawings(6, 2)[:, 0]
    generator = torch.Generator().manual_seed(0)
    x, is_copy = pairs(pool, 8, strength, generator)  # type: ignore[arg-type]
    assert x.shape == (len(is_copy), 22)
    assert np.isfinite(x).all()
    if strength is None:
        assert is_copy.tolist() == [False] * 8
        return
    assert is_copy.tolist() == [True] * 8 + [False] * 8
    gradient = x[:, 1]
    assert np.median(gradient[is_copy]) > np.median(gradient[~is_copy]) + 0.2
    again, _ = pairs(pool, 8, strength, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert np.array_equal(again, x)
