"""Comparing a finished index with the vectors that it was built from, row by row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from indices.faiss_rows import (
    Codes,
    decoded,
    distances,
    list_count,
    list_rows,
    noted_error,
)
from indices.scores import unit_rows, usable_rows
from indices.stored import Numbers, Stored

_WINDOW_BYTES = 32 << 20
"""Of rows as float32; several times as much is in memory."""
_ROUNDING = 16 * 2.0**-24
"""How far two machines' unit rows may be apart: their numbers by 3 u each, u = 2^-24."""
_COUNTED = 1 << 18
"""Items that are looked at together for those that are missing or repeated."""
LISTED = 1000
"""Items that are named of each kind of difference; all are counted."""


@dataclass
class Items:
    """Items that differ: how many, and the lowest numbers among them."""

    count: int = 0
    first: Numbers = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, items: Numbers) -> None:
        """Take more of them."""
        self.count += len(items)
        self.first = np.sort(np.concatenate([self.first, items]))[:LISTED]


@dataclass(frozen=True)
class Differences:
    """How an index differs from its vectors.

    Attributes:
        missing: items that are not in it.
        repeated: items that are in it more than once.
        altered: items whose row stands for another vector than the stored one.
        unknown: numbers in it that no item has.
    """

    missing: Items = field(default_factory=Items)
    repeated: Items = field(default_factory=Items)
    altered: Items = field(default_factory=Items)
    unknown: Items = field(default_factory=Items)


def compare(
    index: Any, stored: Stored, on_rows: Callable[[int], None] | None = None
) -> Differences:
    """Compare every row of an index with its vector.

    A row of a quantised index is altered if it is farther off than the error recorded in the index.
    Rows of vectors that are zero or not finite match nothing, whatever they hold. In memory are a
    window of rows and one byte per item. Whether a row is in the right list is not looked at.

    Args:
        index: an open index; a Flat index holds items in their order.
        stored: the vectors that it was built from.
        on_rows: called with the number of rows of each window that was compared.

    Raises:
        ValueError: the vectors have another width; or the index is quantised and does not say how
            far its codes are off.
    """
    found = Differences()
    error = noted_error(index) * (1 + 2.0**-20) + _ROUNDING
    times = np.zeros(stored.count, np.uint8)
    for items, codes in _windows(index):
        inside = (items >= 0) & (items < stored.count)
        found.unknown.add(items[~inside])
        order = np.flatnonzero(inside)[np.argsort(items[inside], kind="stable")]
        numbers, counts = np.unique(items[order], return_counts=True)
        times[numbers] = np.minimum(times[numbers] + np.minimum(counts, 2), 2)
        if len(order):
            units = unit_rows(stored.rows(items[order]))
            if units.shape[1] != index.d:
                raise ValueError(f"vectors of width {units.shape[1]}, the index has {index.d}")
            off = distances(units, decoded(index, codes[order]))
            found.altered.add(items[order][~(off <= error) & usable_rows(units)])
        if on_rows:
            on_rows(len(items))
    for at in range(0, stored.count, _COUNTED):
        some = times[at : at + _COUNTED]
        found.missing.add(np.flatnonzero(some == 0) + at)
        found.repeated.add(np.flatnonzero(some > 1) + at)
    return found


def _windows(index: Any) -> Iterator[tuple[Numbers, Codes]]:
    """Items and codes of about a window at a time, several lists or a piece of one."""
    limit = max(1, _WINDOW_BYTES // (4 * index.d))
    held: list[tuple[Numbers, Codes]] = []
    size = 0
    for number in range(list_count(index)):
        items, codes = list_rows(index, number)
        for at in range(0, len(items), limit):
            held.append((items[at : at + limit], codes[at : at + limit]))
            size += len(held[-1][0])
            if size >= limit:
                yield _joined(held)
                held, size = [], 0
    if held:
        yield _joined(held)


def _joined(held: list[tuple[Numbers, Codes]]) -> tuple[Numbers, Codes]:
    items, codes = zip(*held, strict=True)
    return np.concatenate(items), np.concatenate(codes)
