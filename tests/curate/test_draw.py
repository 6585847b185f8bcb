"""The choice is seeded, hangs on no order, and an id that goes moves at most one other."""

from hypothesis import given
from hypothesis import strategies as st

from curate.draw import lowest

ids = st.lists(st.text(max_size=5), unique=True, max_size=30)


@given(ids, st.integers(0, 40), st.integers(0, 3))
def test_so_many_places_are_chosen_in_order(names: list[str], count: int, seed: int) -> None:
    rows = lowest(names, count, seed)
    assert rows == sorted(set(rows))
    assert len(rows) == min(count, len(names))


@given(ids, st.integers(0, 40))
def test_order_does_not_matter(names: list[str], count: int) -> None:
    turned = names[::-1]
    chosen = {names[row] for row in lowest(names, count, 7)}
    assert {turned[row] for row in lowest(turned, count, 7)} == chosen


@given(ids.filter(bool), st.integers(1, 40))
def test_an_id_that_goes_moves_at_most_one_other(names: list[str], count: int) -> None:
    before = {names[row] for row in lowest(names, count, 0)}
    left = names[1:]
    after = {left[row] for row in lowest(left, count, 0)}
    assert before - after <= {names[0]}
    assert len(after - before) <= 1


def test_another_seed_chooses_others() -> None:
    names = [str(number) for number in range(200)]
    assert lowest(names, 20, 0) != lowest(names, 20, 1)
