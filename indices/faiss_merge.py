"""Merging filled parts into one index file, a bounded number of rows at a time.

The file is what `faiss.write_index` would write of an index that had been filled in memory, byte
for byte: header, quantisers, then the rows of list after list ("ilar" lists). `OnDiskInvertedLists`
are the other way of faiss, and were not taken: the index file then holds the name of a second file,
so plain `read_index` works from one directory only and the bytes depend on a path. An "ilar" file
is opened by plain `read_index` from anywhere, and `IO_FLAG_MMAP_IFC` maps it in place: measured on
400,000 vectors of width 256, it opens in 3 ms with nothing read, searches as fast as from memory
(0.12 s against 0.21 s of on-disk lists), and maps a Flat index too, which `IO_FLAG_MMAP` reads.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from indices.faiss_fill import read_runs
from indices.faiss_rows import Codes, code_size, list_count, list_rows, note_error
from indices.stored import Numbers, Writable

_WINDOW_BYTES = 128 << 20
_EMPTY_LISTS = struct.Struct("<4sQQ4sQ")
_EMPTY_CODES = struct.Struct("<Q")


@dataclass(frozen=True)
class Rows:
    """Rows of an index in any order.

    Attributes:
        lists: (n,) int64, the list that each belongs to.
        items: (n,) int64, its number through all parts.
        places: (n,) int64, its row of `codes`.
        codes: (m, c) uint8, maybe memory-mapped.
    """

    lists: Numbers
    items: Numbers
    places: Numbers
    codes: Codes


class Source(Protocol):
    """Where rows of the new index come from."""

    def sizes(self) -> Numbers:
        """Rows per list: (lists,) int64."""

    def rows(self, lists: tuple[int, int], items: tuple[int, int]) -> Iterator[Rows]:
        """The rows in a range of lists that are of a range of items."""


@dataclass(frozen=True)
class FilledPart:
    """A file of runs.

    Attributes:
        count: rows of the part.
        start: number of its first item.
        lists: of the index, 1 for Flat.
        width: bytes of a row.
    """

    path: Path
    count: int
    start: int
    lists: int
    width: int

    def sizes(self) -> Numbers:
        """Rows per list.

        Raises:
            ValueError: the file is damaged, or of another index or part.
        """
        sizes = np.zeros(self.lists, np.int64)
        seen = np.zeros(self.count, np.bool_)
        for run in read_runs(self.path, self.width):
            inside = run.lists[0] >= 0 and run.lists[-1] < self.lists
            inside = inside and run.rows.min() >= 0 and run.rows.max() < self.count
            if not inside or (np.diff(run.lists) < 0).any() or seen[run.rows].any():
                raise ValueError(f"{self.path}: damaged, or filled for another index")
            seen[run.rows] = True
            sizes += np.bincount(run.lists, minlength=self.lists)
        if not seen.all():
            raise ValueError(f"{self.path}: damaged: it has not the {self.count} rows of its part")
        return sizes

    def rows(self, lists: tuple[int, int], items: tuple[int, int]) -> Iterator[Rows]:
        """The rows in a range of lists that are of a range of items."""
        if items[0] >= self.start + self.count or items[1] <= self.start:
            return
        for run in read_runs(self.path, self.width):
            low, high = np.searchsorted(run.lists, lists)
            numbers = run.rows[low:high] + self.start
            places = np.flatnonzero((numbers >= items[0]) & (numbers < items[1]))
            if len(places):
                yield Rows(run.lists[low:high][places], numbers[places], places,
                           run.codes[low:high])  # fmt: skip


class OldIndex:
    """A finished index, of which some parts are taken over, maybe under other numbers."""

    def __init__(self, index: Any, starts: Numbers, moved: Numbers) -> None:
        """Take the index, where its parts start, and where they start now.

        Args:
            index: an open index.
            starts: (p + 1,) number of the first item of each part, and of all items.
            moved: (p,) number of the part's first item now; -1 if it is not taken over.
        """
        self._index = index
        self._starts = starts
        self._shift = np.where(moved < 0, np.iinfo(np.int64).min, moved - starts[:-1])

    def sizes(self) -> Numbers:
        """Rows per list that are taken over."""
        sizes = [len(self._kept(number)[0]) for number in range(list_count(self._index))]
        return np.array(sizes, np.int64)

    def rows(self, lists: tuple[int, int], items: tuple[int, int]) -> Iterator[Rows]:
        """The rows in a range of lists that are of a range of items."""
        for number in range(*lists):
            places, now = self._kept(number)
            chosen = (now >= items[0]) & (now < items[1])
            if chosen.any():
                codes = list_rows(self._index, number)[1]
                own = np.full(int(chosen.sum()), number)
                yield Rows(own, now[chosen], places[chosen], codes)

    def _kept(self, number: int) -> tuple[Numbers, Numbers]:
        """Which rows of a list are taken over, and the numbers of their items now."""
        items, _ = list_rows(self._index, number)
        if len(items) and not 0 <= items.min() <= items.max() < self._starts[-1]:
            raise ValueError("the index holds items that it was not built from")
        part = np.searchsorted(self._starts, items, side="right") - 1
        places = np.flatnonzero(self._shift[part] > np.iinfo(np.int64).min)
        return places, items[places] + self._shift[part[places]]


# --- writing -------------------------------------------------------------------------------------


def write_merged(
    stream: Writable, trained: Any, sources: Sequence[Source], count: int, error: float
) -> None:
    """Write the index of `count` items that the sources hold together, each item once.

    In memory are the trained index, the rows of one window (about three times 128 MiB), and the
    item numbers of one list.

    Args:
        stream: takes the file.
        trained: the empty index that the sources were filled for.
        sources: hold each item once.
        count: how many items there are.
        error: largest distance of a row from what its code stands for.

    Raises:
        ValueError: a source is damaged, items are missing, or this faiss writes another format.
    """
    total = sum((source.sizes() for source in sources), np.zeros(list_count(trained), np.int64))
    if total.sum() != count:
        raise ValueError(f"{total.sum()} rows for {count} items")
    stream.write(_header(trained, total, error))
    writer = _ListWriter(stream, has_numbers=hasattr(trained, "nlist"))
    limit = max(1, _WINDOW_BYTES // code_size(trained))
    for lists, items in _windows(total, limit, count):
        writer.add([rows for source in sources for rows in source.rows(lists, items)])
    writer.end_list()


def _windows(
    sizes: Numbers, limit: int, count: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Ranges of lists and of items with at most `limit` rows each, in the order of the file."""
    ends, low = np.cumsum(sizes), 0
    while low < len(sizes):
        before = int(ends[low] - sizes[low])
        high = max(low + 1, int(np.searchsorted(ends, before + limit, side="right")))
        # a list of very many equal vectors is taken item range by item range
        step = count if ends[high - 1] - before <= limit else limit
        for at in range(0, count, max(1, step)):
            yield (low, high), (at, at + step)
        low = high


class _ListWriter:
    """Writes rows that come by list and item: codes of a list, then its numbers."""

    def __init__(self, stream: Writable, *, has_numbers: bool) -> None:
        self._stream = stream
        self._has_numbers = has_numbers
        self._list = -1
        self._numbers: list[Numbers] = []

    def add(self, pieces: list[Rows]) -> None:
        """Take the rows of the next window."""
        if not pieces:
            return
        lists, items = (np.concatenate([getattr(p, n) for p in pieces]) for n in ("lists", "items"))
        order = np.lexsort((items, lists))
        codes = np.concatenate([piece.codes[piece.places] for piece in pieces])[order]
        lists, items = lists[order], items[order]
        first = np.flatnonzero(np.diff(lists, prepend=-1))
        for low, high in zip(first, [*first[1:], len(lists)], strict=True):
            if lists[low] != self._list:
                self.end_list()
                self._list = int(lists[low])
            self._stream.write(codes[low:high].data)
            if self._has_numbers:
                self._numbers.append(items[low:high])

    def end_list(self) -> None:
        """Write the numbers of the list that is complete."""
        for numbers in self._numbers:
            self._stream.write(numbers.astype("<i8").data)
        self._numbers = []


def _header(trained: Any, sizes: Numbers, error: float) -> bytes:
    """All that stands before the rows, as faiss writes it of an index with such lists."""
    import faiss

    index = faiss.clone_index(trained)
    index.ntotal = int(sizes.sum())
    if hasattr(index, "sq"):
        note_error(index, error)
    empty = faiss.serialize_index(index).tobytes()
    if not hasattr(index, "nlist"):
        tail, sized = _EMPTY_CODES.pack(0), _EMPTY_CODES.pack(int(index.ntotal) * index.d)
    else:
        width = code_size(index)
        tail = _EMPTY_LISTS.pack(b"ilar", index.nlist, width, b"sprs", 0)
        sized = b"ilar" + struct.pack("<QQ", index.nlist, width) + _list_sizes(sizes)
    if not empty.endswith(tail):
        raise ValueError(f"faiss {faiss.__version__} writes another format than is known here")
    return empty[: -len(tail)] + sized


def _list_sizes(sizes: Numbers) -> bytes:
    """Sizes of all lists, or of those that are not empty where these are no more than half."""
    used = np.flatnonzero(sizes)
    if len(used) > len(sizes) // 2:
        word, numbers = b"full", sizes
    else:
        word, numbers = b"sprs", np.stack([used, sizes[used]], axis=1).ravel()
    return word + struct.pack("<Q", len(numbers)) + numbers.astype("<u8").tobytes()
