"""Which FAISS index suits how many vectors, and why.

Graphs and product quantisers are not offered: they lose pairs at high thresholds, where duplicates
cluster.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Kind = Literal["flat", "ivf", "ivf-fp16", "ivf-sq8"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""From the largest to the smallest: all vectors side by side; inverted lists of float32 vectors; of
float16; of one byte per number."""

FLAT_LIMIT = 200_000
_BYTES = {"flat": 4, "ivf": 4, "ivf-fp16": 2, "ivf-sq8": 1}
_ID_BYTES = 8
_TRAIN_PER_LIST = 64
_POINTS_PER_LIST = 39
"""Vectors per list below which k-means of faiss complains."""


@dataclass(frozen=True)
class Plan:
    """What index to build, and why.

    Attributes:
        lists: inverted lists of an IVF index; 0 for Flat.
        probes: lists that a search visits by default.
    """

    kind: Kind
    lists: int
    probes: int
    reason: str

    @property
    def sample(self) -> int:
        """Vectors that it is trained on, if there are as many."""
        return self.lists * _TRAIN_PER_LIST


def choose(count: int, dim: int, kind: Kind | None = None, memory: int | None = None) -> Plan:
    """Choose an index for `count` vectors of width `dim`.

    Up to 200,000 vectors are searched whole if `memory` allows it. More are put into lists, of
    vectors as exact as it allows.

    Args:
        count: how many vectors.
        dim: their width.
        kind: is then only sized.
        memory: bytes that the searched index may take; None allows any.

    Raises:
        ValueError: nothing that may be chosen fits into `memory`.
    """
    lists = int(np.clip(4 * np.sqrt(count), 1, max(1, count // _POINTS_PER_LIST)))
    sizes = {name: _size(name, count, dim, lists) for name in KINDS}
    open_ = [kind] if kind else list(KINDS if count <= FLAT_LIMIT else KINDS[1:])
    fitting = [name for name in open_ if memory is None or sizes[name] <= memory]
    if not fitting:
        raise ValueError(
            f"{count} vectors of width {dim} take {readable(sizes[open_[-1]])} as {open_[-1]}, "
            f"{readable(memory or 0)} are allowed"
        )
    chosen = fitting[0]
    reason = f"{count} vectors ({readable(sizes[chosen])})"
    if memory is not None:
        larger = "".join(
            f", {name} would take {readable(sizes[name])}" for name in open_[: open_.index(chosen)]
        )
        reason += f" within {readable(memory)}{larger}"
    if chosen == "flat":
        return Plan("flat", 0, 0, f"{reason}: searched whole, exactly")
    probes = max(1, min(lists, 16 + lists // 32))
    reason += f": {lists} lists, of which a search visits {probes}"
    return Plan(chosen, lists, probes, reason)


def _size(kind: Kind, count: int, dim: int, lists: int) -> int:
    """Bytes of an index file, but for its header."""
    rows = count * dim * _BYTES[kind]
    return rows if kind == "flat" else rows + count * _ID_BYTES + lists * dim * 4


def readable(size: float) -> str:
    """A number of bytes for people, in three digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:  # noqa: PLR2004  # what three digits round to 999
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
