"""A `.npy` matrix on the network, of which only the rows asked for travel."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.formats.npy import Header
from curate.remote import RemoteFile

Rows = NDArray[np.floating]

BLOCK_BYTES = 8 << 20
"""About what one request asks for: enough that the wait for its answer hardly counts."""

BLOCKS_AHEAD = 8
"""Blocks that are asked for before they are needed; with their bytes, what a reader holds."""

_GAP_BYTES = 256 << 10
"""Unwanted bytes between two rows that are read along rather than asked around."""


class RemoteMatrix:
    """Rows of a matrix on the network; satisfies `indices.stored.Matrix`. For one thread.

    A slice is read in blocks. To a reader that goes on where it stopped, or begins with a whole
    block, the next blocks are already under way. Rows by number are read by ranges, of which those
    that lie close together are one.
    """

    def __init__(self, file: RemoteFile, header: Header, pool: Executor) -> None:
        """Take an open object, what its header says, and the threads that read it."""
        self.shape = (header.rows, header.dim)
        self.dtype = np.dtype(header.dtype)
        self._file = file
        self._header = header
        self._pool = pool
        self._step = max(1, BLOCK_BYTES // header.row_bytes)
        self._ahead: deque[tuple[int, int, Future[Rows]]] = deque()
        self._next = -1

    def __len__(self) -> int:
        return self._header.rows

    def __getitem__(self, rows: Any) -> Rows:
        """Rows by a slice (of step 1) or an array of numbers: (k, d).

        Raises:
            CurateError: they cannot be read, or the object was replaced.
            IndexError: there is no such row.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise IndexError(rows)
            return self._slice(start, stop) if start < stop else self._empty(0)
        return self._gather(np.asarray(rows, dtype=np.int64))

    def _read(self, start: int, stop: int) -> Rows:
        offset, size = self._header.offset, self._header.row_bytes
        data = self._file.read(offset + start * size, offset + stop * size)
        return np.frombuffer(data, self.dtype).reshape(stop - start, self.shape[1])

    def _empty(self, count: int) -> Rows:
        return np.empty((count, self.shape[1]), self.dtype)

    # --- in order ---------------------------------------------------------------------------------

    def _slice(self, start: int, stop: int) -> Rows:
        goes_on = start == self._next or (start == 0 and stop >= self._step)
        if start != self._next:
            self._drop()
        self._next = stop
        out = self._empty(stop - start)
        at = start
        try:
            while at < stop:
                self._order(at, len(self) if goes_on else stop)
                first, last, block = self._ahead[0]
                rows = block.result()[at - first : stop - first]
                if len(rows) == len(out):
                    out = rows
                else:
                    out[at - start : at - start + len(rows)] = rows
                at += len(rows)
                if at == last:
                    self._ahead.popleft()
        except BaseException:
            self._drop()
            raise
        if goes_on:
            self._order(stop, len(self))
        return out

    def _order(self, at: int, stop: int) -> None:
        """Have blocks under way from row `at` on, as many as are allowed, up to row `stop`."""
        at = self._ahead[-1][1] if self._ahead else at
        while len(self._ahead) < BLOCKS_AHEAD and at < stop:
            end = min(at + self._step, stop)
            self._ahead.append((at, end, self._pool.submit(self._read, at, end)))
            at = end

    def _drop(self) -> None:
        while self._ahead:
            self._ahead.popleft()[2].cancel()
        self._next = -1

    # --- by number --------------------------------------------------------------------------------

    def _gather(self, rows: NDArray[np.int64]) -> Rows:
        wanted, place = np.unique(rows, return_inverse=True)
        if len(wanted) and not (wanted[0] >= 0 and wanted[-1] < len(self)):
            raise IndexError(f"rows {wanted[0]} to {wanted[-1]} of {len(self)}")
        out = self._empty(len(wanted))
        waiting: deque[tuple[slice, Future[Rows]]] = deque()
        for piece in self._pieces(wanted):
            waiting.append((piece, self._pool.submit(self._some, wanted[piece])))
            if len(waiting) == BLOCKS_AHEAD:
                self._take(waiting, out)
        while waiting:
            self._take(waiting, out)
        return out[place]

    @staticmethod
    def _take(waiting: deque[tuple[slice, Future[Rows]]], out: Rows) -> None:
        piece, block = waiting.popleft()
        out[piece] = block.result()

    def _some(self, rows: NDArray[np.int64]) -> Rows:
        first = int(rows[0])
        return self._read(first, int(rows[-1]) + 1)[rows - first]

    def _pieces(self, wanted: NDArray[np.int64]) -> Iterator[slice]:
        """Runs of rows that one request reads: no wide gap in them, none longer than a block."""
        gap = 1 + _GAP_BYTES // self._header.row_bytes
        ends = np.flatnonzero(np.diff(wanted) > gap) + 1
        at = 0
        for end in [*ends.tolist(), len(wanted)]:
            while at < end:
                stop = min(end, int(np.searchsorted(wanted, wanted[at] + self._step)))
                yield slice(at, stop)
                at = stop
