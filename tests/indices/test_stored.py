import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indices.scores import pair_scores
from indices.stored import Stored, Vectors


def _stored(sizes: list[int], dim: int = 4) -> tuple[Stored, Vectors]:
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=(size, dim)).astype(np.float16) for size in sizes]
    return Stored(parts), np.concatenate([np.empty((0, dim), np.float16), *parts])


@given(
    sizes=st.lists(st.integers(0, 9), max_size=5),
    size=st.integers(1, 7),
    bounds=st.tuples(st.integers(0, 50), st.integers(0, 50)),
)
def test_blocks_give_the_rows_asked_for_in_order(
    sizes: list[int], size: int, bounds: tuple[int, int]
) -> None:
    stored, whole = _stored(sizes)
    start, stop = (min(bound, stored.count) for bound in bounds)
    blocks = list(stored.blocks(size, start, stop))
    assert all(0 < len(block) <= size for block in blocks)
    together = np.concatenate([whole[:0], *blocks])
    np.testing.assert_array_equal(together, whole[start:stop])


@given(st.data())
def test_rows_come_in_the_order_of_their_numbers(data: st.DataObject) -> None:
    stored, whole = _stored([3, 0, 5, 1])
    numbers = np.array(data.draw(st.lists(st.integers(0, 8), min_size=1)))
    np.testing.assert_array_equal(stored.rows(numbers), whole[numbers])


@given(st.data())
def test_scores_are_those_of_the_rows(data: st.DataObject) -> None:
    stored, whole = _stored([3, 0, 5, 1])
    queries = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float16)
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8))))
    i, j = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    np.testing.assert_array_equal(stored.scores(queries, i, j), pair_scores(queries, whole, i, j))


class _Closed:
    """A sequence of parts that may not be touched."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, part: int) -> Vectors:
        raise AssertionError(part)


def test_no_part_is_opened_before_it_is_needed() -> None:
    stored = Stored(_Closed(), sizes=[2, 3])
    assert stored.count == 5
    with pytest.raises(AssertionError):
        next(stored.blocks(2))


def test_several_are_one_after_the_other_and_stay_closed() -> None:
    (first, rows), (second, more) = _stored([3, 0, 2]), _stored([1, 4])
    both = Stored.together([first, second, first])
    np.testing.assert_array_equal(both.all(), np.concatenate([rows, more, rows]))
    closed = Stored(_Closed(), sizes=[2, 3])  # type: ignore[arg-type]
    assert Stored.together([closed, closed]).starts.tolist() == [0, 2, 5, 7, 10]
