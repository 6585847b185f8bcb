import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from curate.stats import wilson


@given(st.data(), st.integers(1, 5000), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(data: st.DataObject, n: int, confidence: float) -> None:
    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_an_array_is_wilson_of_each_entry() -> None:
    k, n = np.array([0, 3, 7, 7]), np.array([10, 10, 7, 9])
    low, high = wilson(k, n)
    assert low.shape == high.shape == (4,)
    each = [wilson(int(a), int(b)) for a, b in zip(k, n, strict=True)]
    assert list(zip(low.tolist(), high.tolist(), strict=True)) == each


def test_wilson_broadcasts_one_total_over_many_counts() -> None:
    low, _ = wilson(np.array([[1], [2]]), 10)
    assert low.shape == (2, 1)
    assert low[1, 0] == wilson(2, 10)[0]


def test_wilson_bounds_are_exact_at_none_and_all() -> None:
    assert wilson(0, 12)[0] == 0.0
    assert wilson(12, 12)[1] == 1.0


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5)])
def test_wilson_refuses_counts_outside_the_total(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson(k, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_wilson_refuses_a_confidence_outside_its_range(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence)
