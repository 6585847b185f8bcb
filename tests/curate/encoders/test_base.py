"""Unit rows, nearest names, one-line errors."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from curate.encoders.base import brief, nearest, normalise, scaled_side

ROWS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-1e3, 1e3, width=32),
)


@given(ROWS)
def test_rows_have_unit_length_or_are_nan(rows: np.ndarray) -> None:
    unit = normalise(rows)
    length = np.linalg.norm(unit.astype(np.float64), axis=1)
    zero = ~rows.any(axis=1)
    assert unit.dtype == np.float32
    assert np.isnan(unit[zero]).all()
    assert np.allclose(length[~zero], 1.0, atol=1e-6)


@given(ROWS, st.integers(0, 8))
def test_a_row_does_not_depend_on_its_neighbours(rows: np.ndarray, index: int) -> None:
    index %= len(rows)
    alone = normalise(rows[index : index + 1])
    assert alone.tobytes() == normalise(rows)[index : index + 1].tobytes()
    turned = np.asfortranarray(rows)
    assert normalise(turned).tobytes() == normalise(rows).tobytes()


def test_huge_and_tiny_rows_keep_their_direction() -> None:
    rows = np.array([[3e38, 3e38], [2e-45, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(normalise(rows), [[0.5**0.5, 0.5**0.5], [1.0, 0.0]], rtol=1e-6)


def test_a_row_with_one_bad_number_is_nan_throughout() -> None:
    unit = normalise(np.array([[1.0, np.inf], [np.nan, 1.0], [0.0, 2.0]], dtype=np.float32))
    assert np.isnan(unit[:2]).all()
    assert unit[2].tolist() == [0.0, 1.0]


def test_no_rows_stay_no_rows() -> None:
    assert normalise(np.zeros((0, 7), np.float64)).shape == (0, 7)


@given(array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=600))
def test_a_reduced_jpeg_is_twice_as_long_as_the_input_at_least(shape: tuple[int, ...]) -> None:
    assert scaled_side(shape) >= 128
    assert all(scaled_side(shape) >= 2 * side for side in shape)


def test_nearest_offers_a_near_name_and_no_far_one() -> None:
    assert nearest("ViT-B32", ["RN50", "ViT-B-32"]) == "; did you mean 'ViT-B-32'?"
    assert nearest("zzz", ["RN50", "ViT-B-32"]) == ""


def test_an_error_of_a_library_becomes_one_short_line() -> None:
    assert brief(ValueError("a\n  b")) == "a b"
    assert brief(KeyError()) == "KeyError"
    assert len(brief(ValueError("x" * 999))) == 303
