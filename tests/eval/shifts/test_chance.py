"""Random numbers of one image."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eval.shifts import chance


@given(seed=st.integers(0, 2**63), words=st.lists(st.text() | st.integers(), min_size=1))
def test_the_same_words_give_the_same_numbers(seed: int, words: list[str | int]) -> None:
    one, other = (chance.generator(seed, *words).random(4) for _ in range(2))
    assert np.array_equal(one, other)


def test_seed_and_words_each_count() -> None:
    drawn = {
        chance.number(chance.generator(seed, *words))
        for seed in (0, 1)
        for words in (("a", 1), ("a", 2), ("b", 1), ("a", "1"), ("a1",))
    }
    assert len(drawn) == 10


def test_the_global_generator_is_put_back() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(6)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    first = np.random.random(3)  # noqa: NPY002
    with chance.numpy_seeded(chance.generator(0, "x")):
        inside = np.random.random(3)  # noqa: NPY002
    assert np.array_equal(np.concatenate([first, np.random.random(3)]), expected)  # noqa: NPY002
    with chance.numpy_seeded(chance.generator(0, "x")):
        assert np.array_equal(np.random.random(3), inside)  # noqa: NPY002


def test_the_global_generator_is_put_back_after_an_error() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    with suppress(ValueError), chance.numpy_seeded(chance.generator(0, "x")):
        raise ValueError
    after = np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
    assert np.array_equal(before, after)
