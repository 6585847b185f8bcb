"""Random numbers of one image: they depend on nothing but a seed and words, such as the item's id.

Some functions of libraries draw from generators of the whole process. For them its state is set,
and put back afterwards, by one thread at a time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from curate.files import digest

_LOCK = threading.Lock()
_BITS = 32


def generator(seed: int, *words: str | int) -> Generator:
    """A generator that nothing else draws from."""
    number = int(digest(list(words))[:16], 16)
    return Generator(Philox(SeedSequence((seed, number))))


def number(rng: Generator) -> int:
    """A seed for a generator of another kind, below 2**32."""
    return int(rng.integers(1 << _BITS))


@contextmanager
def numpy_seeded(rng: Generator) -> Iterator[None]:
    """Let numpy's global generator draw from `rng` inside, and be as it was outside."""
    with _LOCK:
        before = np.random.get_state()  # noqa: NPY002  # it is the library's that is handled
        np.random.seed(number(rng))  # noqa: NPY002  # likewise
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002  # likewise
