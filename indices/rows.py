"""Rows of a matrix as things that repeat: which are equal, and lists of them without loops."""

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20


def distinct(vectors: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group rows that are equal byte for byte; equal rows have equal scores, so one is enough.

    Rows are compared by a 64-bit sum, and byte for byte where sums agree. Different rows made to
    have one sum are merely not grouped.

    Args:
        vectors: (n, d) of any float type.

    Returns:
        first: (k,) the lowest row of each group, ascending.
        owner: (n,) the group of every row, so that row `n` equals row `first[owner[n]]`.
    """
    count = len(vectors)
    bits = np.ascontiguousarray(vectors).view(np.uint16)
    weights = np.random.default_rng(0).integers(2**64, size=bits.shape[1], dtype=np.uint64) | 1
    sums = np.empty(count, dtype=np.uint64)
    step = max(1, _CHUNK // bits.shape[1])
    for at in range(0, count, step):
        sums[at : at + step] = (bits[at : at + step] * weights).sum(axis=1)
    _, lowest, group = np.unique(sums, return_index=True, return_inverse=True)
    twin = lowest[group]
    doubtful = np.flatnonzero(twin != np.arange(count))
    for at in range(0, len(doubtful), step):
        rows = doubtful[at : at + step]
        differs = (bits[rows] != bits[twin[rows]]).any(axis=1)
        twin[rows[differs]] = rows[differs]
    first, owner = np.unique(twin, return_inverse=True)
    return first.astype(np.int64), owner.astype(np.int64)


def ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """`sizes[0]` numbers from `starts[0]` on, then `sizes[1]` from `starts[1]` on, and so on."""
    ends = np.cumsum(sizes)
    shift = np.repeat(starts - (ends - sizes), sizes)
    return shift + np.arange(len(shift))
