"""Grouping rows, against a dictionary."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_twins import DTYPES, SHAPES, make_vectors

from indices import rows
from indices.rows import distinct, ranges


def naive(vectors: NDArray[np.floating]) -> tuple[list[int], list[int]]:
    seen: dict[bytes, int] = {}
    owner = [seen.setdefault(row.tobytes(), len(seen)) for row in vectors]
    first = [owner.index(group) for group in range(len(seen))]
    return first, owner


@settings(deadline=None, max_examples=40)
@given(SHAPES, DTYPES, st.integers(0, 60), st.integers(1, 9), st.integers(0, 2**32))
def test_rows_are_grouped_as_a_dictionary_of_their_bytes_does(
    shape: str, dtype: str, count: int, dim: int, seed: int
) -> None:
    x = make_vectors(np.random.default_rng(seed), count, dim, shape, dtype)
    first, owner = distinct(x)
    assert (first.tolist(), owner.tolist()) == naive(x)


def test_signed_zeros_are_different_rows() -> None:
    assert distinct(np.array([[0.0], [-0.0]]))[1].tolist() == [0, 1]


def test_rows_with_one_sum_but_other_bytes_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ones:
        def integers(self, *_: Any, size: float, **__: Any) -> NDArray[np.uint64]:
            return np.ones(size, np.uint64)

    monkeypatch.setattr(rows.np.random, "default_rng", lambda _: Ones())
    x = np.array([[1, 2], [2, 1], [1, 2], [2, 1], [3, 0]], np.float16)
    first, owner = distinct(x)  # all sums of bits agree for permuted rows
    assert (x[first][owner] == x).all()
    assert owner[0] == owner[2] != owner[1]


def test_the_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 2, (500, 5)).astype(np.float32)
    whole = distinct(x)
    monkeypatch.setattr(rows, "_CHUNK", 30)
    assert [part.tolist() for part in distinct(x)] == [part.tolist() for part in whole]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=20))
def test_ranges_are_written_out_one_after_the_other(pieces: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in pieces], np.int64)
    sizes = np.array([size for _, size in pieces], np.int64)
    expected = [start + n for start, size in pieces for n in range(size)]
    assert ranges(starts, sizes).tolist() == expected
