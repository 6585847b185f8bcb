"""Balls and where a walk starts in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from attacking import SHAPE, keys
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curate.errors import CurateError
from eval.attacks.loop import perturb
from eval.attacks.threat import Start, Threat, start_noise

PGD = Threat(4, 1, 5, "uniform")


def test_noise_follows_seed_and_key_and_fills_the_ball() -> None:
    noise = start_noise(keys(40), 0, SHAPE)
    assert noise.shape == (40, *SHAPE)
    assert noise.min() >= -1
    assert noise.max() < 1
    assert abs(noise.mean()) < 0.01
    assert abs(noise.var() - 1 / 3) < 0.01
    assert len(noise.flatten(1).unique(dim=0)) == 40
    assert not torch.equal(start_noise(keys(1), 1, SHAPE)[0], noise[0])
    # pinned: results of a release can be had again from the next
    np.testing.assert_allclose(start_noise(["a"], 0, (2,)), [[-0.9301765, -0.4250325]], atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, 1, 1, "zero"), "eps -1"),
        ((math.nan, 1, 1, "zero"), "eps nan"),
        ((1, 0, 1, "zero"), "step 0"),
        ((1, math.inf, 1, "zero"), "step inf"),
        ((1, 1, 0, "zero"), "steps 0"),
        ((1, 1, 1, "random"), "start 'random': choose from zero, uniform"),
    ],
)
def test_senseless_threats_are_refused(arguments: Any, words: str) -> None:
    with pytest.raises(CurateError, match=words):
        Threat(*arguments)


@settings(max_examples=60)
@given(
    st.floats(0, 2000),
    st.floats(0.01, 900),
    st.integers(1, 4),
    st.sampled_from(["zero", "uniform"]),
    st.integers(0, 99),
)
def test_points_stay_in_the_l2_ball_and_in_the_range(
    eps: float, step: float, steps: int, start: Start, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.choice([0, 1, 0.5, 0.999], (3, 3, 4, 4)).astype(np.float32))
    weights = torch.from_numpy(rng.normal(size=(3, 4, 4)).astype(np.float32))
    weights[0] = 0
    noise = start_noise(keys(3), seed, (3, 4, 4), "l2")

    def loss(x: Tensor) -> Tensor:
        return ((x * weights).sum(dim=(1, 2, 3)) * 3).sin()

    got = perturb(loss, images, Threat(eps, step, steps, start, "l2"), noise).images
    assert (got - images).flatten(1).norm(dim=1).max() <= eps / 255 * (1 + 1e-5) + 1e-6
    assert got.min() >= 0
    assert got.max() <= 1


def test_an_l2_step_has_its_length_and_the_direction_of_the_gradient() -> None:
    images = torch.full((2, 3, 2, 2), 0.5)
    weights = torch.arange(12.0).reshape(3, 2, 2)
    got = perturb(
        lambda x: (x * weights).sum(dim=(1, 2, 3)), images, Threat(50, 10, 1, "zero", "l2")
    ).images
    change = (got - images)[0]
    assert change.norm() == pytest.approx(10 / 255, rel=1e-5)
    torch.testing.assert_close(change / change.norm(), weights / weights.norm())


def test_l2_noise_fills_its_ball_evenly() -> None:
    noise = start_noise(keys(400), 0, (3, 2, 2), "l2")
    lengths = noise.flatten(1).norm(dim=1)
    assert lengths.max() <= 1 + 1e-6
    # the share within radius r is r to the power of the dimension
    assert abs((lengths < 0.5 ** (1 / 12)).float().mean() - 0.5) < 0.08
    assert noise.mean(dim=0).abs().max() < 0.06
    own = start_noise(keys(3), 0, (3, 2, 2), "l2", "/1")
    assert not torch.equal(own, noise[:3])


def test_streams_of_an_image_are_its_own() -> None:
    plain, other = (start_noise(keys(2), 0, (4,), stream=stream) for stream in ("", "/1"))
    assert not torch.equal(plain, other)
    assert not torch.equal(plain[0], plain[1])
    assert torch.equal(start_noise(keys(2)[1:], 0, (4,), stream="/1")[0], other[1])
