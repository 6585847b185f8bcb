"""What models of several seeds differ by, with intervals over images and over seeds."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import cifar10_study as study


def models(share: float, seeds: int = 3, images: int = 400, seed: int = 0) -> NDArray[np.float64]:
    """Models that are each right about so many images."""
    generator = np.random.default_rng(seed)
    return (generator.random((seeds, images)) < share).astype(np.float64)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.integers(0, 99))
def test_the_difference_is_that_of_the_means_and_turns_with_its_sides(
    one: float, other: float, seed: int
) -> None:
    sides = models(one, seed=seed), models(other, seed=seed + 100)
    found, turned = study.difference(*sides), study.difference(*reversed(sides))
    assert found["value"] == pytest.approx(sides[0].mean() - sides[1].mean())
    assert found["images_low"] <= found["value"] <= found["images_high"]
    assert found["seeds_low"] <= found["value"] <= found["seeds_high"]
    assert turned["value"] == pytest.approx(-found["value"])
    assert turned["seeds_low"] == pytest.approx(-found["seeds_high"])
    assert turned["seeds_p"] == pytest.approx(found["seeds_p"])


def test_a_large_difference_is_told_by_images_and_by_seeds() -> None:
    found = study.difference(models(0.9), models(0.6, seed=1))
    assert found["images_low"] > 0.2
    assert found["seeds_low"] > 0
    assert found["seeds_p"] < 0.05


def test_seeds_that_differ_as_much_as_the_arms_tell_nothing() -> None:
    one = np.concatenate([models(share, 1, seed=n) for n, share in enumerate((0.9, 0.7, 0.5))])
    other = np.concatenate([models(share, 1, seed=n) for n, share in enumerate((0.8, 0.6, 0.4))])
    found = study.difference(one, other)
    assert found["images_low"] > 0
    assert found["seeds_low"] < 0 < found["seeds_high"]


def test_a_share_has_an_interval_around_it() -> None:
    found = study.share(30, 40)
    assert (found["hits"], found["total"], found["value"]) == (30, 40, 0.75)
    assert found["low"] < 0.75 < found["high"]
