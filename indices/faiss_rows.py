"""The rows that stand in a FAISS index: list by list, in place, and what their codes stand for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from indices.stored import Numbers

Codes = NDArray[np.uint8]


def code_size(index: Any) -> int:
    """Bytes of a row in an index, without its number."""
    return int(index.code_size)


def distances(units: NDArray[np.float32], decoded: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far each row is from another: two (n, d) -> (n,) float64."""
    return np.asarray(np.linalg.norm(units.astype(np.float64) - decoded, axis=1))


def list_count(index: Any) -> int:
    """How many lists an index has; a Flat index is one list."""
    return int(index.nlist) if hasattr(index, "nlist") else 1


def list_rows(index: Any, number: int) -> tuple[Numbers, Codes]:
    """Items and codes of one list, in place: (n,) int64, (n, c) uint8; valid while it is open."""
    import faiss

    width = code_size(index)
    if not hasattr(index, "nlist"):
        codes = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
        return np.arange(index.ntotal), codes.view(np.uint8).reshape(-1, width)
    lists = index.invlists
    size = lists.list_size(number)
    if size == 0:
        return np.empty(0, np.int64), np.empty((0, width), np.uint8)
    items = faiss.rev_swig_ptr(lists.get_ids(number), size)
    return items, faiss.rev_swig_ptr(lists.get_codes(number), size * width).reshape(size, width)


def note_error(index: Any, error: float) -> None:
    """Record the largest distance of a row from what its code stands for, in a quantised index.

    It stands in `sq.rangestat_arg`, which faiss saves and reads back but uses in training only. So
    the file says itself how far a search has to reach below its floor.
    """
    index.sq.rangestat_arg = float(np.nextafter(np.float32(error), np.float32(np.inf)))


def noted_error(index: Any) -> float:
    """Largest distance of a row from what its code stands for; 0 where rows are stored as they are.

    Raises:
        ValueError: it was not recorded, as `curate` did not build this index.
    """
    if not hasattr(index, "sq"):
        return 0.0
    error = float(index.sq.rangestat_arg)
    if not error > 0:
        raise ValueError("a quantised index that does not say how far its codes are off")
    return error


def decoded(index: Any, codes: Codes) -> NDArray[np.float32]:
    """What codes of an index stand for: (n, c) uint8 -> (n, d) float32."""
    if hasattr(index, "sq"):
        return np.asarray(index.sq.decode(np.ascontiguousarray(codes)))
    return np.ascontiguousarray(codes).view(np.float32)
