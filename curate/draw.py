"""A seeded choice among ids that hangs on no order, and hardly moves when ids come or go."""

import heapq
from collections.abc import Iterable
from hashlib import sha256


def lowest(ids: Iterable[str], count: int, seed: int) -> list[int]:
    """Places of the `count` ids with the lowest digests of (seed, id), ascending.

    An id that comes or goes moves at most one other.
    """
    ranked = ((sha256(f"{seed}\n{id_}".encode()).digest(), row) for row, id_ in enumerate(ids))
    return sorted(row for _, row in heapq.nsmallest(count, ranked))
