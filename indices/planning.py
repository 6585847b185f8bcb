"""How an exact join is searched: the sketch that a sample says is fastest.

Results never depend on the plan, so its figures may be rough. They are nanoseconds of a machine
with two AVX-512 cores; other machines differ by a common factor more than in their order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from indices.kernels import buffer, candidates, plain_float32, precisions, query_blocks
from indices.sketch import Codes, Precision, Sketcher, directions, encode
from indices.stored import Stored, Vectors

_WIDTHS = (32, 64, 96, 128, 192, 256, 384)
_SAMPLE = 8192
_RUN = 256
"""Rows of the sample that lie side by side, as far parts are read in runs."""
_SMALL = 1 << 24
"""Pairs below which looking for the best plan takes longer than any plan."""


@dataclass(frozen=True)
class Cost:
    """Nanoseconds on the CPU: of a product per pair and per pair and column."""

    pair: float
    column: float


_COSTS: dict[Precision, Cost] = {
    "int8": Cost(0.10, 0.0011),
    "bf16": Cost(0.20, 0.0025),
    "fp32": Cost(0.15, 0.0120),
}
_ITEM = 350.0
"""Nanoseconds to read, convert and measure an item."""
_PROJECTED = 0.016
"""Nanoseconds per item, dimension and column of the basis."""
_CANDIDATE = 2000.0


@dataclass(frozen=True)
class Plan:
    """How to search.

    Attributes:
        sketcher: what is compared in place of the vectors.
        device: where.
        candidates: share of the pairs that are expected to be scored exactly.
        seconds: expected on a machine with two AVX-512 cores.
        reason: the same in words.
    """

    sketcher: Sketcher
    device: str = "cpu"
    candidates: float = float("nan")
    seconds: float = float("nan")
    reason: str = "given"


def plan_join(
    queries: Stored, items: Stored, floor: float, device: str = "cpu", *, within: bool = False
) -> Plan:
    """Choose the sketch with the least expected time, by a sample of both sides.

    Args:
        queries: all queries.
        items: all items.
        floor: lowest score that is reported.
        device: where products run.
        within: the queries are the items, and only half of the pairs are looked at.
    """
    dim = width_of(items) or width_of(queries) or 1
    full = Sketcher(dim, None, precisions(device)[0])
    pairs = queries.count * items.count / (2 if within else 1)
    if pairs < _SMALL or floor <= 0:
        return Plan(full, device, reason=f"full product in {full.precision}, too few to choose")
    trial = _Trial(sample(queries), sample(items), floor, device)
    plans = [trial.plan(option, pairs, items.count) for option in trial.options(dim)]
    return min(plans, key=lambda plan: plan.seconds)


def width_of(stored: Stored) -> int:
    """Width of the vectors; 0 if there is none."""
    first = next(stored.blocks(1), None)
    return 0 if first is None else int(first.shape[1])


def sample(stored: Stored, size: int = _SAMPLE) -> Vectors:
    """About `size` rows in runs spread evenly over all: (s, d)."""
    if stored.count <= size:
        return np.concatenate([np.asarray(block) for block in stored.blocks(size)])
    starts = np.linspace(0, stored.count - _RUN, size // _RUN).astype(np.int64)
    runs = [np.asarray(block) for at in starts for block in stored.blocks(_RUN, at, at + _RUN)]
    return np.concatenate(runs)


class _Trial:
    """A sample of both sides, on which plans are tried."""

    def __init__(self, queries: Vectors, items: Vectors, floor: float, device: str) -> None:
        # a basis fits what it was learnt from better than the rest
        self._learnt_from = np.concatenate([queries[::2], items[::2]])
        self._queries = queries[1::2] if len(queries) > 1 else queries
        self._items = items[1::2] if len(items) > 1 else items
        self._floor = floor
        self._device = device

    def options(self, dim: int) -> Iterator[Sketcher]:
        """All sketches that are worth a trial."""
        ways = precisions(self._device)
        leading = directions(self._learnt_from)
        for width in _WIDTHS:
            if width < dim:
                for precision in ways[:1]:
                    yield Sketcher.of_width(width, leading, precision)
        for precision in ways:
            yield Sketcher(dim, None, precision)

    def plan(self, sketcher: Sketcher, pairs: float, items: int) -> Plan:
        """What a search with this sketch is expected to take."""
        share = self._share(sketcher)
        cost = _COSTS[sketcher.precision]
        projected = 0 if sketcher.basis is None else sketcher.dim * sketcher.columns
        seconds = 1e-9 * (
            pairs * (cost.pair + cost.column * sketcher.width + share * _CANDIDATE)
            + items * (_ITEM + _PROJECTED * projected + 2 * sketcher.width)
        )
        kind = "full product" if sketcher.basis is None else f"{sketcher.columns} of {sketcher.dim}"
        reason = f"{kind} in {sketcher.precision}; 1 pair in {1 / share:.2g} is scored exactly"
        return Plan(sketcher, self._device, share, seconds, reason)

    def _share(self, sketcher: Sketcher) -> float:
        """Share of the sample's pairs that the sketch does not rule out; one more than seen."""
        with plain_float32():
            items = self._codes(sketcher)
            sketches = sketcher.sketches(self._queries, self._device)
            least, seen = self._floor - sketcher.slack, 1
            memory = buffer(len(self._items) * 1024, sketcher.precision, self._device)
            for block in query_blocks(sketches, sketcher, 1024):
                scores, limits = block.scores(items, memory), block.limits(items, least)
                seen += sum(len(i) for i, _ in candidates(scores, limits))
        return seen / (len(self._queries) * len(self._items))

    def _codes(self, sketcher: Sketcher) -> Codes:
        sketches = sketcher.sketches(self._items, self._device)
        return encode(sketches, sketcher.columns, sketcher.precision)
