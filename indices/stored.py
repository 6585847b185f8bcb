"""The vectors of many parts under one numbering; a part is opened when it is needed."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from indices.scores import pair_scores

Vectors = NDArray[np.floating]
Numbers = NDArray[np.int64]


class Matrix(Protocol):
    """What a part must be: an array, a memory-mapped one, or one that is read over the network.

    Rows are asked for by a slice with a start and a stop, or by an array of numbers.
    """

    @property
    def shape(self) -> tuple[Any, ...]:
        """(n, d)."""

    @property
    def dtype(self) -> Any:
        """Some float type."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Writable(Protocol):
    """All that is asked of a stream for writing."""

    def write(self, data: Any, /) -> Any:
        """Take bytes, all of them."""


class Stored:
    """Parts (n_i, d) as one matrix of n rows, of which only what is asked for is read.

    Attributes:
        count: n.
        starts: (p + 1,) the number of the first row of each part, and n.
    """

    def __init__(self, parts: Sequence[Matrix], sizes: Sequence[int] | None = None) -> None:
        """Take the parts; with `sizes`, rows per part, none is opened before it is needed."""
        self._parts = parts
        given = [len(part) for part in parts] if sizes is None else sizes
        self.starts: Numbers = np.cumsum([0, *given], dtype=np.int64)

    @classmethod
    def together(cls, several: "Sequence[Stored]") -> "Stored":
        """The rows of several, one after the other."""
        parts = _Chain([stored._parts for stored in several])  # noqa: SLF001
        sizes = [int(size) for stored in several for size in np.diff(stored.starts)]
        return cls(parts, sizes)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int(self.starts[-1])

    def blocks(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[Vectors]:
        """The rows from `start` to `stop` in order, at most `size` at a time, part by part."""
        stop = self.count if stop is None else stop
        for number in range(len(self.starts) - 1):
            base, end = int(self.starts[number]), int(self.starts[number + 1])
            low, high = max(start, base) - base, min(stop, end) - base
            if low >= high:
                continue
            part = self._parts[number]
            for at in range(low, high, size):
                yield part[at : min(at + size, high)]

    def all(self) -> Vectors:
        """All rows in memory: (n, d); at least one part has to be there."""
        return np.concatenate([np.asarray(part) for part in self._parts])

    def rows(self, numbers: Numbers) -> Vectors:
        """Rows by number, in the order given: (k, d); at least one is asked for."""
        out: Vectors | None = None
        for number, at in self._by_part(numbers):
            part = self._parts[number]
            if out is None:
                out = np.empty((len(numbers), part.shape[1]), part.dtype)
            out[at] = part[numbers[at] - self.starts[number]]
        assert out is not None
        return out

    def scores(self, queries: Vectors, i: Numbers, j: Numbers) -> NDArray[np.float32]:
        """Cosine of `queries[i]` and row `j`, as `pair_scores` gives it: (p,) float32."""
        out = np.empty(len(j), dtype=np.float32)
        for number, at in self._by_part(j):
            wanted, place = np.unique(j[at] - self.starts[number], return_inverse=True)
            out[at] = pair_scores(queries, self._parts[number][wanted], i[at], place)
        return out

    def _by_part(self, numbers: Numbers) -> Iterator[tuple[int, Numbers]]:
        """Each part that holds one of the rows, and which of `numbers` those are."""
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], self.starts)
        for number in np.flatnonzero(np.diff(bounds)):
            yield int(number), order[bounds[number] : bounds[number + 1]]


class _Chain(Sequence[Matrix]):
    """Parts of several sequences as one; none is opened before it is asked for."""

    def __init__(self, several: Sequence[Sequence[Matrix]]) -> None:
        self._places = [(parts, n) for parts in several for n in range(len(parts))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: Any) -> Any:
        parts, place = self._places[number]
        return parts[place]
