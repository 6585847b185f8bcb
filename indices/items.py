"""A block of items as a join meets it: their codes, and how to get at the stored vectors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from indices.rows import distinct
from indices.sketch import Codes, Sketcher, encode
from indices.stored import Numbers, Vectors


@dataclass(frozen=True)
class Items:
    """A block of items; once merged, a row stands for all items that have just these bytes.

    Attributes:
        codes: of the k rows.
        fetch: gives the stored vectors of rows, by their places.
        members: (m,) numbers of the items that each row stands for, ascending within a row.
        bounds: (k + 1,) where the members of each row begin.
    """

    codes: Codes
    fetch: Callable[[Numbers], Vectors]
    members: Numbers
    bounds: Numbers

    @classmethod
    def of(cls, rows: Vectors, start: int, sketcher: Sketcher, device: str) -> "Items":
        """A block of stored vectors, of which the first is item number `start`."""
        codes = encode(sketcher.sketches(rows, device), sketcher.columns, sketcher.precision)
        return cls.coded(codes, rows.__getitem__, start)

    @classmethod
    def coded(cls, codes: Codes, fetch: Callable[[Numbers], Vectors], start: int) -> "Items":
        """A block whose codes are known."""
        numbers = np.arange(len(codes) + 1)
        return cls(codes, fetch, numbers[:-1] + start, numbers)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def is_merged(self) -> bool:
        """Whether a row may stand for several items."""
        return len(self.members) > len(self)

    @property
    def lowest(self) -> Numbers:
        """The first item of each row."""
        return self.members[self.bounds[:-1]]

    @property
    def unusable(self) -> Numbers:
        """The first items of rows that are zero or not finite."""
        import torch

        at: Numbers = torch.nonzero(self.codes.scale == 0)[:, 0].cpu().numpy()
        return self.lowest[at]

    @property
    def sizes(self) -> Numbers:
        """How many items each row stands for."""
        return np.diff(self.bounds)

    def merged(self) -> "Items":
        """The block with equal rows put together."""
        import torch

        rows = self.fetch(np.arange(len(self)))
        first, owner = distinct(rows)
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(first) + 1))
        kept = torch.from_numpy(first).to(self.codes.scale.device)
        return Items(
            self.codes[kept], lambda places: rows[first[places]], self.members[order], bounds
        )

    def count_below(self, row: Numbers, limit: Numbers) -> Numbers:
        """How many items of each given row have a number below the limit that goes with it."""
        base, span = self.members.min(), len(self.members) + 1
        owner = np.repeat(np.arange(len(self)), self.sizes)
        keys = owner * span + (self.members - base)  # ascending
        wanted = row * span + np.clip(limit - base, 0, span - 1)
        count: Numbers = np.searchsorted(keys, wanted) - self.bounds[row]
        return count
