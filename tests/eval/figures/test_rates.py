from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from eval.figures.rates import (
    Rate,
    clopper_pearson,
    clustered_rate,
    percentiles,
    rate,
    resample,
    weighted,
)

COUNTS = st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.sampled_from([0.9, 0.95, 0.995]))
def test_both_intervals_are_those_of_scipy(counts: tuple[int, int], confidence: float) -> None:
    hits, total = counts
    if not total:
        return
    for method, name in (("wilson", "wilson"), ("clopper-pearson", "exact")):
        expected = binomtest(hits, total).proportion_ci(confidence, name)
        found = rate(hits, total, confidence=confidence, method=method)  # type: ignore[arg-type]
        assert found.low == pytest.approx(expected.low, abs=1e-9)
        assert found.high == pytest.approx(expected.high, abs=1e-9)


@given(COUNTS)
def test_an_interval_holds_its_share_and_the_exact_one_is_no_narrower(
    counts: tuple[int, int],
) -> None:
    hits, total = counts
    low, high = clopper_pearson(hits, total)
    assert 0 <= low <= high <= 1
    if total:
        assert low <= hits / total <= high


def test_of_no_images_nothing_is_known() -> None:
    nothing = rate(0, 0)
    assert (nothing.value, nothing.low, nothing.high) == (None, 0.0, 1.0)
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no images"):
        _ = nothing.known


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="0 <= hits <= total"):
        clopper_pearson(3, 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        clopper_pearson(1, 2, 1.0)
    with pytest.raises(ValueError, match="choose from wilson"):
        rate(1, 2, method="wald")  # type: ignore[arg-type]


def test_the_exact_interval_covers_at_least_as_often_as_it_says() -> None:
    total, p = 40, 0.13
    inside = [low <= p <= high for low, high in (clopper_pearson(k, total) for k in range(41))]
    chance = sum(
        math.comb(total, k) * p**k * (1 - p) ** (total - k) for k in range(41) if inside[k]
    )
    assert chance >= 0.95


def test_clusters_of_one_image_give_nearly_the_interval_of_independent_images() -> None:
    hits = np.repeat([1, 0], [300, 200])
    found = clustered_rate(hits, np.ones(500, np.int64))
    expected = rate(300, 500)
    assert found.low == pytest.approx(expected.low, abs=0.004)
    assert found.high == pytest.approx(expected.high, abs=0.004)
    assert found.effect == pytest.approx(1, abs=0.05)


def test_clusters_that_are_all_alike_inside_count_as_one_image_each() -> None:
    hits = np.repeat([10, 0], [30, 20])
    found = clustered_rate(hits, np.full(50, 10))
    expected = rate(30, 50)
    assert found.value == 0.6
    assert found.effect == pytest.approx(10, rel=0.1)
    assert found.low == pytest.approx(expected.low, abs=0.02)
    drawn = found.draw(np.random.default_rng(0), 4000)
    assert drawn.std() == pytest.approx(math.sqrt(0.6 * 0.4 / 50), rel=0.1)


def test_one_cluster_says_nothing_of_others() -> None:
    found = clustered_rate(np.array([3]), np.array([4]))
    assert (found.value, found.low, found.high) == (0.75, 0.0, 1.0)


def test_clustered_intervals_depend_on_nothing_but_the_clusters() -> None:
    hits, sizes = np.array([3, 1, 4, 0]), np.array([4, 4, 5, 2])
    order = [2, 0, 3, 1]
    assert clustered_rate(hits, sizes) == clustered_rate(hits[order], sizes[order])


def test_resampling_by_kinds_is_resampling_by_clusters() -> None:
    generator = np.random.default_rng(5)
    sums = generator.integers(0, 3, (200, 2)).astype(np.float64)
    fast = resample(sums, 4000, np.random.default_rng(1))
    slow = np.array([sums[generator.integers(0, 200, 200)].sum(axis=0) for _ in range(4000)])
    assert np.allclose(fast.mean(axis=0), slow.mean(axis=0), rtol=0.01)
    assert np.allclose(np.cov(fast.T), np.cov(slow.T), atol=0.15 * np.cov(slow.T).max())


def test_a_difference_has_newcombes_interval() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, 56/70 and 48/80
    found = weighted([(1, rate(56, 70)), (-1, rate(48, 80))])
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )


@given(st.lists(COUNTS.filter(lambda c: c[1] > 0), min_size=1, max_size=5))
def test_a_mean_of_shares_lies_in_its_interval_and_that_within_0_and_1(
    counts: list[tuple[int, int]],
) -> None:
    parts = [(1 / len(counts), rate(*pair)) for pair in counts]
    found = weighted(parts)
    assert found.value is not None
    assert -1e-12 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1 + 1e-12


def test_intervals_of_different_confidence_do_not_mix() -> None:
    with pytest.raises(ValueError, match="one confidence"):
        weighted([(1, rate(1, 2)), (1, rate(1, 2, confidence=0.9))])
    with pytest.raises(ValueError, match="needs parts"):
        weighted([])


def test_percentiles_leave_equal_tails() -> None:
    assert percentiles(np.arange(101.0), 0.9) == pytest.approx((5, 95))


def test_draws_of_independent_images_are_binomial() -> None:
    drawn = Rate(30, 100, 0.2, 0.4).draw(np.random.default_rng(0), 5000)
    assert set(np.round(drawn * 100, 9) % 1) == {0.0}
    assert drawn.std() == pytest.approx(math.sqrt(0.3 * 0.7 / 100), rel=0.05)
