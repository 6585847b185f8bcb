"""Batches are the same however they are come by: by rank, by resuming, by listing everything."""

from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError
from train.order import BatchRows, Order, batches, in_turn

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=7).map(tuple)


def slow_twin(order: Order, epochs: int) -> list[list[int]]:
    """Every batch of some epochs, by listing all there is."""

    def shuffled(items: list[int], *words: int) -> list[int]:
        philox = np.random.Philox(np.random.SeedSequence(words))
        drawn = [(int(philox.random_raw()), place) for place in range(len(items))]
        return [items[place] for _, place in sorted(drawn)]

    found = []
    for epoch in range(epochs):
        shards = shuffled(list(range(len(order.sizes))), order.seed, epoch, 0)
        rows: list[int] = []
        for number in range(len(shards)):
            window = shards[number * order.window : (number + 1) * order.window]
            inside = [sum(order.sizes[:s]) + row for s in window for row in range(order.sizes[s])]
            rows += shuffled(inside, order.seed, epoch, 1, number)
        while len(rows) >= order.batch:
            found.append(rows[: order.batch])
            rows = rows[order.batch :]
    return found


def rows_of(found: BatchRows) -> list[int]:
    return found.rows.tolist()


@st.composite
def orders(draw: st.DrawFn) -> Order:
    sizes = draw(SIZES.filter(any))
    batch = draw(st.integers(1, sum(sizes)))
    return Order(sizes, batch, draw(st.integers(0, 2**40)), draw(st.integers(1, 9)))


@given(orders())
def test_three_epochs_are_those_of_the_slow_twin(order: Order) -> None:
    expected = slow_twin(order, 3)
    found = list(batches(order, 0, 3 * order.steps_per_epoch))
    assert [rows_of(one) for one in found] == expected
    assert [one.step for one in found] == list(range(len(expected)))
    assert [one.epoch for one in found] == [n // order.steps_per_epoch for n in range(len(found))]


@given(orders(), st.integers(0, 40), st.integers(0, 5))
def test_from_any_step_on_they_are_the_same(order: Order, start: int, length: int) -> None:
    whole = list(islice(batches(order), start, start + length))
    resumed = list(batches(order, start, start + length))
    assert [(b.step, b.epoch, rows_of(b)) for b in resumed] == [
        (b.step, b.epoch, rows_of(b)) for b in whole
    ]


@given(orders(), st.sampled_from([2, 3]))
def test_the_pieces_of_the_processes_joined_are_the_batch(order: Order, world: int) -> None:
    order = Order(order.sizes * world, order.batch * world, order.seed, order.window)
    ranks = [list(batches(order, 0, 4, rank=rank, world=world)) for rank in range(world)]
    for alone, *pieces in zip(batches(order, 0, 4), *ranks, strict=True):
        assert {len(piece.rows) for piece in pieces} == {order.batch // world}
        assert list(chain.from_iterable(map(rows_of, pieces))) == rows_of(alone)


@given(orders())
def test_an_epoch_has_no_row_twice_and_lacks_less_than_a_batch(order: Order) -> None:
    rows = [row for b in batches(order, 0, order.steps_per_epoch) for row in rows_of(b)]
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(range(sum(order.sizes)))
    assert sum(order.sizes) - len(rows) < order.batch


def test_rows_are_mixed_only_with_those_of_their_window() -> None:
    order = Order((10,) * 6, 20, window=2)
    for rows in islice(batches(order), 9):
        assert len({row // 10 for row in rows_of(rows)}) == 2


def test_every_epoch_and_seed_has_its_own_order() -> None:
    seen = {
        tuple(rows_of(found))
        for seed in range(3)
        for found in batches(Order((30, 30), 60, seed), 0, 3)
    }
    assert len(seen) == 9


def test_the_order_is_not_that_of_the_set() -> None:
    rows = np.concatenate([b.rows for b in batches(Order((500, 500), 1000), 0, 20)])
    places = np.tile(np.arange(1000), 20)
    assert abs(np.corrcoef(rows, places)[0, 1]) < 0.03
    firsts = [rows_of(next(batches(Order((500, 500), 1000, seed))))[0] for seed in range(200)]
    assert len(set(firsts)) > 150


def test_the_order_of_a_seed_is_the_same_on_every_machine_and_version() -> None:
    """Runs go on where they stopped, so these numbers must never change."""
    order = Order((4, 3, 5), 6, seed=7, window=2)
    assert [rows_of(found) for found in batches(order, 0, 3)] == PINNED


PINNED = [[10, 5, 4, 7, 8, 11], [9, 6, 3, 0, 1, 2], [11, 5, 9, 7, 8, 4]]


def test_far_steps_are_found_without_going_through_the_epoch() -> None:
    order = Order((1000,) * 5000, 256, window=4)
    found = next(batches(order, 3 * order.steps_per_epoch - 1))
    assert found.epoch == 2
    assert len(found.rows) == 256


def test_no_global_generator_is_touched() -> None:
    np.random.seed(5)  # noqa: NPY002  # what must stay as it is
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    list(batches(Order((9, 9), 3), 0, 9))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"batch": 0}, "batch 0"),
        ({"window": 0}, "window 0"),
        ({"seed": -1}, "seed -1"),
        ({"batch": 8}, "only 7 samples; give a smaller batch"),
        ({"sizes": ()}, "only 0 samples"),
    ],
)
def test_what_gives_no_batches_is_refused(given_: dict[str, int], said: str) -> None:
    with pytest.raises(CurateError, match=said):
        Order(**{"sizes": (3, 4), "batch": 2, **given_})  # type: ignore[arg-type]


def test_processes_with_unequal_pieces_are_refused() -> None:
    with pytest.raises(CurateError, match="3 processes cannot have equal pieces"):
        next(batches(Order((9,), 8), world=3))


@given(st.integers(0, 30), st.integers(1, 9), st.integers(1, 4))
def test_in_turn_each_row_comes_once(total: int, batch: int, world: int) -> None:
    pieces = [list(in_turn(total, batch, rank=rank, world=world)) for rank in range(world)]
    rows = [row for piece in pieces for found in piece for row in rows_of(found)]
    assert rows == list(range(total))
    counts = [sum(len(found.rows) for found in piece) for piece in pieces]
    assert max(counts) - min(counts) <= 1
    assert all(len(found.rows) == batch for piece in pieces for found in piece[:-1])
