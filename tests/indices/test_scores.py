"""The score and its bounds against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_twins import DTYPES, SHAPES, cosine, make_vectors

from indices import scores
from indices.scores import lengths, pair_scores, rounding_allowance, unit_rows, usable_rows

U = 2.0**-24


def all_pairs(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float32]:
    i, j = (grid.ravel() for grid in np.indices((len(a), len(b))))
    return pair_scores(a, b, i, j).reshape(len(a), len(b))


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(SHAPES, DTYPES), st.tuples(SHAPES, DTYPES), st.integers(1, 70), st.integers(0, 2**32)
)
def test_a_score_is_the_float64_cosine_rounded_once(
    of_a: tuple[str, str], of_b: tuple[str, str], dim: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = make_vectors(rng, 5, dim, *of_a), make_vectors(rng, 6, dim, *of_b)
    expected = [[cosine(x, y) for y in b] for x in a]
    np.testing.assert_array_equal(all_pairs(a, b), np.array(expected, np.float32))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(1, 3000), st.integers(0, 2**32))
def test_a_score_has_the_same_bits_whatever_is_scored_with_it(
    dim: int, chunk: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((9, dim)).astype(np.float32), rng.standard_normal((7, dim))
    whole = all_pairs(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "_CHUNK", chunk)
        assert all_pairs(a, b).tobytes() == whole.tobytes()
    for i, j in ((0, 0), (8, 6), (3, 5)):
        alone = pair_scores(a, b, np.array([i]), np.array([j]))
        assert alone.tobytes() == whole[i, j].tobytes()
    fortran = all_pairs(np.asfortranarray(a), np.asfortranarray(b))
    assert fortran.tobytes() == whole.tobytes()
    assert all_pairs(b, a).T.tobytes() == whole.tobytes()


def test_a_row_with_itself_scores_one() -> None:
    x = np.random.default_rng(0).standard_normal((200, 512)).astype(np.float16)
    same = np.arange(200)
    assert (pair_scores(x, x, same, same) == 1).all()


def test_a_zero_score_is_never_negative_zero() -> None:
    a, b = np.array([[1.0, 0.0]], np.float32), np.array([[-0.0, 1.0], [0.0, -1.0]], np.float32)
    assert all_pairs(a, b).tobytes() == np.zeros(2, np.float32).tobytes()


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -np.inf])
def test_rows_that_are_zero_or_not_finite_match_nothing(bad: float) -> None:
    a = np.full((1, 8), bad, np.float32)
    with np.errstate(invalid="ignore"):
        a[0, 1:] *= 0
    b = np.ones((1, 8), np.float32)
    assert all_pairs(a, b)[0, 0] == all_pairs(b, a)[0, 0] == -np.inf
    assert not unit_rows(a).any()
    assert usable_rows(unit_rows(np.concatenate([a, b]))).tolist() == [False, True]


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("float16", 6e4), ("float16", 6e-8), ("float32", 3e38), ("float32", 1.5e-45),
        ("float32", 1e-39), ("float32", 2e19), ("float64", 1e308), ("float64", 5e-324),
        ("float64", 1e-300), ("float64", 1e39),
    ],
)  # fmt: skip
def test_lengths_at_the_ends_of_the_type_lose_nothing(dtype: str, size: float) -> None:
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (6, 300))
    huge = (signs * size).astype(dtype)
    assert np.isfinite(huge).all()
    assert huge.all()
    np.testing.assert_allclose(all_pairs(huge, huge), all_pairs(signs, signs), 1e-7, 1e-15)
    np.testing.assert_allclose(unit_rows(huge), signs / np.sqrt(300), rtol=4 * U)


def test_unit_rows_are_off_by_three_roundings_at_most() -> None:
    rng = np.random.default_rng(2)
    for dtype in ("float16", "float32", "float64"):
        x = (rng.standard_normal((300, 64)) * 10.0 ** rng.uniform(-3, 3, (300, 1))).astype(dtype)
        exact = x.astype(np.longdouble)
        exact /= np.sqrt((exact**2).sum(axis=1, keepdims=True))
        assert (np.abs(unit_rows(x) - exact) <= 3.01 * U * np.abs(exact)).all()


def test_unit_rows_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(3).standard_normal((100, 33)).astype(np.float16)
    whole = unit_rows(x)
    monkeypatch.setattr(scores, "_CHUNK", 70)
    assert unit_rows(x).tobytes() == whole.tobytes()
    assert whole.dtype == np.float32
    assert whole.flags.c_contiguous
    assert unit_rows(x[:0]).shape == (0, 33)


def test_lengths_are_those_of_the_rows() -> None:
    x = np.array([[3, 4], [0, 0], [6e-8, 0]], np.float16)
    np.testing.assert_allclose(lengths(x), [5, 0, 2.0**-24])


def adversarial(dim: int, kind: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Two sets of rows whose products round badly."""
    rng = np.random.default_rng([dim, len(kind)])
    a, b = rng.standard_normal((2, 24, dim))
    if kind == "cancelling":  # large terms of both signs that add up to almost nothing
        a[:, dim // 2 :] = a[:, : dim - dim // 2]
        b[:, dim // 2 :] = -b[:, : dim - dim // 2] * (1 + 1e-6)
    if kind == "all of one sign":  # rounding errors that add up
        a, b = np.full((2, 24, dim), 1 / 3) + 1e-3 * np.abs(np.stack([a, b]))
    if kind == "wide range":
        a, b = (x * 10.0 ** rng.uniform(-18, 18, (24, dim)) for x in (a, b))
    if kind == "subnormal":
        a, b = a * 1e-44, b * 1e-42
    if kind == "almost equal":
        b = a * (1 + 1e-7 * b)
    if kind == "huge":
        a, b = a * 1e37, b * 3e-38
    return a.astype(np.float32), b.astype(np.float32)


KINDS = [
    "random",
    "cancelling",
    "all of one sign",
    "wide range",
    "subnormal",
    "almost equal",
    "huge",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 2, 31, 128, 512, 1000])
def test_a_float32_product_of_unit_rows_stays_within_the_allowance(dim: int, kind: str) -> None:
    a, b = adversarial(dim, kind)
    exact = all_pairs(a, b).astype(np.float64)
    usable = np.isfinite(exact)
    x, y = unit_rows(a), unit_rows(b)
    one_by_one = np.zeros(exact.shape, np.float32)
    for k in range(dim):  # the worst order: one running sum
        one_by_one += x[:, k : k + 1] * y[None, :, k]
    for product in (x @ y.T, one_by_one):
        assert np.abs(product - exact)[usable].max(initial=0) <= rounding_allowance(dim)


def test_a_sum_in_the_worst_order_uses_up_a_good_part_of_the_allowance() -> None:
    x, dim = unit_rows(np.full((1, 50_000), 1 / 3, np.float32))[0], 50_000
    total = np.float32(0)
    for k in range(dim):
        total += x[k] * x[k]
    assert rounding_allowance(dim) / 20 < abs(float(total) - 1) < rounding_allowance(dim)
    assert rounding_allowance(512) < 4e-5


def test_the_bound_covers_every_rounding_that_its_derivation_names() -> None:
    u = Fraction(1, 2**24)
    for dim in (1, 16, 512, 2**20 - 1):
        gamma = dim * u / (1 - dim * u)
        entries = 2 * 3 * u + (3 * u) ** 2
        score = u / 2 + (dim.bit_length() + 6) * Fraction(1, 2**52)
        underflow = 3 * dim * Fraction(1, 2**62)
        proven = gamma * (1 + 4 * u) ** 2 + entries + score + underflow
        assert proven <= Fraction(rounding_allowance(dim))


def test_a_float64_error_is_far_below_a_float32_step() -> None:
    x = np.random.default_rng(5).standard_normal((40, 512)).astype(np.float32)
    i, j = (rows[:60] for rows in np.triu_indices(40, 1))
    exact = [
        sum(Fraction(float(p)) * Fraction(float(q)) for p, q in zip(x[m], x[n], strict=True))
        for m, n in zip(i, j, strict=True)
    ]
    norms = lengths(x)
    cosines = np.array([float(product) for product in exact]) / (norms[i] * norms[j])
    assert (pair_scores(x, x, i, j) == cosines.astype(np.float32)).all()
