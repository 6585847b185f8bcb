"""Interpolation of weights: exact at its ends, honest about what cannot be mixed."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from curate.errors import CurateError
from train.interpolate import interpolate, parse_shares


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.normal(size=(4, 3)) * 10.0 ** rng.integers(-20, 20, (4, 3)))
    return OrderedDict(
        weight=weights.to(dtype), shared=torch.tensor([0.1, -3e30]), seen=torch.tensor(seed)
    )


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {
        name: value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(seed=st.integers(0, 10**6))
def test_both_ends_are_the_two_models_bit_for_bit(dtype: torch.dtype, seed: int) -> None:
    original, adapted = state(seed, dtype), state(seed + 1, dtype)
    assert bits(interpolate(original, adapted, 0)) == bits(original)
    assert bits(interpolate(original, adapted, 1)) == bits(adapted)


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_between_them_lies_the_weighted_mean(seed: int, share: float) -> None:
    original, adapted = state(seed), state(seed + 1)
    got = interpolate(original, adapted, share)
    a, b = (t["weight"].double().numpy() for t in (original, adapted))
    np.testing.assert_allclose(got["weight"], (1 - share) * a + share * b, rtol=1e-6, atol=0)
    assert torch.equal(got["shared"], original["shared"])
    assert got["weight"].dtype == torch.float32


def test_counters_are_the_adapted_models_above_zero() -> None:
    original, adapted = state(3), state(7)
    shares = [0.0, 1e-9, 0.5, 1.0]
    assert [int(interpolate(original, adapted, s)["seen"]) for s in shares] == [3, 7, 7, 7]


def test_the_result_is_no_view_of_a_model() -> None:
    original, adapted = state(1), state(2)
    before = bits(original)
    interpolate(original, adapted, 0)["weight"].zero_()
    assert bits(original) == before


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_lies_between_zero_and_one(share: float) -> None:
    with pytest.raises(CurateError, match="between 0 and 1"):
        interpolate(state(0), state(1), share)


def test_models_that_differ_in_kind_are_refused_by_name() -> None:
    original, adapted = state(0), state(1)
    with pytest.raises(CurateError, match="only one of the two models has more"):
        interpolate(original, adapted | {"more": torch.zeros(1)}, 0.5)
    with pytest.raises(CurateError, match=r"weight is \(4, 3\) .* \(3, 4\)"):
        interpolate(original, adapted | {"weight": torch.zeros(3, 4)}, 0.0)
    with pytest.raises(CurateError, match="bfloat16"):
        interpolate(original, state(1, torch.bfloat16), 0.5)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("0.0:1.0:0.1", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
        ("0:1:0.25", (0.0, 0.25, 0.5, 0.75, 1.0)),
        (" 0.5 : 0.9 : 0.2 ", (0.5, 0.7, 0.9)),
        ("0.6", (0.6,)),
        ("1:1:1", (1.0,)),
        ("0:1:0.001", tuple(i / 1000 for i in range(1001))),
    ],
)
def test_ranges_are_read(text: str, shares: tuple[float, ...]) -> None:
    assert parse_shares(text) == shares


@pytest.mark.parametrize(
    "text",
    ["", "a", "0:1", "0:1:0", "0:1:-0.1", "1:0:0.1", "0:2:0.5", "-0.5:1:0.5", "0:1:0.3", "0:1:inf",
     "nan", "0:nan:1", "0:1:0.1:2", "0:1:1e-9", "0:1:1e-999999"],
)  # fmt: skip
def test_senseless_ranges_are_refused(text: str) -> None:
    with pytest.raises(CurateError, match=r"interpolation .*FIRST:LAST:STEP"):
        parse_shares(text)
