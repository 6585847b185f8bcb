"""Which rows of a training set make up each batch: exact, seeded, and known for any step at once.

In epoch e the shards stand in an order drawn from (seed, e); `window` of them, one after another,
are a window, whose rows are mixed by an order drawn from (seed, e, number of the window). The rows
of all windows, end to end, are the epoch; batch k of it is its k-th slice of `batch` rows. Rows
that fill no whole batch at the end of an epoch are left out of that epoch.

Nothing else decides: not the clock, not the number of workers or processes, not where training was
interrupted. An order is the ranking of raw 64-bit draws of numpy's Philox, whose stream numpy
promises never to change (which it does not promise of `permutation`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError

_SHARDS, _ROWS = 0, 1


@dataclass(frozen=True)
class Order:
    """What the batches of a run depend on.

    Attributes:
        sizes: rows of each shard; row numbers run through the shards one after another.
        batch: rows of a batch, over all processes.
        seed: from 0.
        window: shards whose rows are mixed with each other.
    """

    sizes: tuple[int, ...]
    batch: int
    seed: int = 0
    window: int = 16

    def __post_init__(self) -> None:
        if self.batch < 1 or self.window < 1 or self.seed < 0:
            raise CurateError(
                f"batch {self.batch}, window {self.window}, seed {self.seed}: a batch and a window "
                "have at least one member, and seeds start from 0."
            )
        if sum(self.sizes) < self.batch:
            raise CurateError(
                f"batch {self.batch}: the training set has only {sum(self.sizes)} samples; give a "
                "smaller batch."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return sum(self.sizes) // self.batch


@dataclass(frozen=True)
class BatchRows:
    """One process's rows of one batch.

    Attributes:
        step: number of the batch since the beginning of training.
        epoch: number of the epoch it belongs to.
        rows: (n,) int64 row numbers.
    """

    step: int
    epoch: int
    rows: NDArray[np.int64]


def batches(
    order: Order, start: int = 0, stop: int | None = None, *, rank: int = 0, world: int = 1
) -> Iterator[BatchRows]:
    """Yield the batches of the steps from `start` up to `stop`, or without end.

    Every batch is cut into `world` equal pieces, of which process `rank` has the rank-th; so what
    the processes hold, joined by rank, is the batch. One window is in memory at a time.

    Raises:
        CurateError: the processes cannot have equal pieces.
    """
    if order.batch % world:
        raise CurateError(
            f"batch {order.batch}: {world} processes cannot have equal pieces of it; give a "
            f"multiple of {world}."
        )
    share = order.batch // world
    first, skipped = divmod(start, order.steps_per_epoch)
    step = start
    for epoch in count(first):
        for rows in _slices(order, epoch, skipped):
            if step == stop:
                return
            yield BatchRows(step, epoch, rows[rank * share : (rank + 1) * share])
            step += 1
        skipped = 0


def in_turn(total: int, batch: int, *, rank: int = 0, world: int = 1) -> Iterator[BatchRows]:
    """Yield every row once in the set's order, the last batch as short as it comes.

    Process `rank` has the rank-th of `world` pieces that are equal but for one row.
    """
    first, end = (total * number // world for number in (rank, rank + 1))
    for step, begin in enumerate(range(first, end, batch)):
        yield BatchRows(step, 0, np.arange(begin, min(begin + batch, end)))


def _slices(order: Order, epoch: int, skipped: int) -> Iterator[NDArray[np.int64]]:
    """The whole batches of an epoch after the first `skipped` ones."""
    waiting = np.zeros(0, np.int64)
    for window in _windows(order, epoch, skipped * order.batch):
        waiting = np.concatenate([waiting, window])
        whole = len(waiting) - len(waiting) % order.batch
        yield from waiting[:whole].reshape(-1, order.batch)
        waiting = waiting[whole:]


def _windows(order: Order, epoch: int, skipped: int) -> Iterator[NDArray[np.int64]]:
    """The rows of an epoch, window by window, after the first `skipped` rows."""
    sizes = np.array(order.sizes, np.int64)
    starts = np.cumsum(sizes) - sizes
    shards = _shuffled(len(sizes), order.seed, epoch, _SHARDS)
    for number, first in enumerate(range(0, len(shards), order.window)):
        chosen = shards[first : first + order.window]
        size = int(sizes[chosen].sum())
        if skipped >= size:
            skipped -= size
            continue
        rows = np.concatenate([np.arange(starts[s], starts[s] + sizes[s]) for s in chosen])
        yield rows[_shuffled(size, order.seed, epoch, _ROWS, number)][skipped:]
        skipped = 0


def _shuffled(size: int, *words: int) -> NDArray[np.int64]:
    """The numbers below `size` in an order that only `words` decide on."""
    draws = np.random.Philox(np.random.SeedSequence(words)).random_raw(size)
    return np.argsort(draws, kind="stable")
