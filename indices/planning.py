"""How an exact join is searched: the sketch that a sample says is fastest.

Results never depend on the plan, so its figures may be rough. They are nanoseconds of a machine
with two AVX-512 cores; other machines differ by a common factor more than in their order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
_BYTE = 0.5
"""Nanoseconds per byte that is read, while others are worked on: of a disk with 2 GB/s."""
_UNPACKED = 20.0
"""Nanoseconds to take an item's code from a file."""
_FETCHED = 8000.0
"""Nanoseconds to read the stored vector of one candidate, far from the last one."""
_BOUNDS = 12
"""Bytes beside the values of a code in a file."""
_BYTES: dict[Precision, int] = {"int8": 1, "bf16": 2, "fp32": 4}
_QUERIES = 1000
"""Queries that stored codes are made for: the fewer, the more it matters what is read."""


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

    def for_this_machine(self) -> "Plan":
        """The same sketch, where and in a precision in which this machine computes it right.

        A plan may come from another machine: one with a GPU, or with instructions without which an
        int8 product overflows in silence.
        """
        import torch

        device = self.device
        if device.startswith("cuda") and not torch.cuda.is_available():
            device = "cpu"
        usable = precisions(device)
        if self.sketcher.precision in usable:
            return replace(self, device=device)
        return replace(self, device=device, sketcher=replace(self.sketcher, precision=usable[0]))


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
    return trial.best(dim, pairs, items.count)


@dataclass(frozen=True)
class Rescan:
    """What a join is expected to take by the vectors, and by codes of them that are stored.

    Attributes:
        queries: of the join.
        vector_bytes: read per item by the one.
        code_bytes: read per item by the other, which also reads some vectors.
        fetched: share of the items whose vectors it reads.
        by_vectors: seconds on a machine with two AVX-512 cores.
        by_codes: likewise.
    """

    queries: int
    vector_bytes: int
    code_bytes: int
    fetched: float
    by_vectors: float
    by_codes: float

    @property
    def ratio(self) -> float:
        """How many times as long the one takes as the other."""
        return self.by_vectors / self.by_codes


def rescan(
    plan: Plan, items: int, vector_bytes: int, queries: int = _QUERIES, byte: float = _BYTE
) -> Rescan:
    """Predict what stored codes gain.

    Args:
        plan: the sketch, and the share of candidates.
        items: how many; at least one.
        vector_bytes: per item.
        queries: of a join.
        byte: nanoseconds to read one.
    """
    sketcher, share = plan.sketcher, plan.candidates
    cost, width = _COSTS[sketcher.precision], sketcher.width
    scored = queries * share * _CANDIDATE
    product = queries * (cost.pair + cost.column * width)
    fetched = 1 - (1 - share) ** queries
    code_bytes = width * _BYTES[sketcher.precision] + _BOUNDS
    by_vectors = max(byte * vector_bytes, 1e9 * _product_seconds(sketcher, queries, 1) + scored)
    by_codes = max(byte * code_bytes, product + scored + _UNPACKED + fetched * _FETCHED)
    scale = 1e-9 * items
    return Rescan(queries, vector_bytes, code_bytes, fetched, scale * by_vectors, scale * by_codes)


def plan_codes(items: Stored, floor: float) -> Plan:
    """Choose the sketch whose stored codes are joined with in the least expected time.

    The queries to come are taken to be like the items.

    Args:
        items: all items; at least one.
        floor: lowest score that joins will ask for; they may ask for less, and take longer.
    """
    rows = sample(items, 2 * _SAMPLE)
    # what is searched for must not be in what is searched
    trial = _Trial(rows[::2], rows[1::2] if len(rows) > 1 else rows, floor, "cpu")
    size, count = rows.shape[1] * rows.itemsize, items.count
    fastest = precisions("cpu")[0]
    options = trial.options(rows.shape[1])
    plans = (trial.plan(option) for option in options if option.precision == fastest)
    best = min(plans, key=lambda plan: rescan(plan, count, size).by_codes)
    return replace(best, seconds=rescan(best, count, size).by_codes)


def expected(
    sketcher: Sketcher, queries: Stored, items: Stored, floor: float, device: str = "cpu"
) -> Plan:
    """What a join by stored codes is expected to take, by a sample of both sides.

    Args:
        sketcher: of the codes.
        queries: at least one.
        items: at least one.
        floor: lowest score that is reported.
        device: where products run.
    """
    rows = sample(items)
    trial = _Trial(sample(queries), rows, floor, device)
    plan = trial.plan(sketcher)
    size = rows.shape[1] * rows.itemsize
    return replace(plan, seconds=rescan(plan, items.count, size, queries.count).by_codes)


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

    def best(self, dim: int, pairs: float, items: int) -> Plan:
        """The plan with the least expected time; none is tried whose product alone takes longer."""
        found: Plan | None = None
        options = [(_product_seconds(option, pairs, items), option) for option in self.options(dim)]
        for least, option in sorted(options, key=lambda pair: pair[0]):
            if found is None or least < found.seconds:
                plan = self.plan(option, least, pairs)
                found = plan if found is None or plan.seconds < found.seconds else found
        assert found is not None
        return found

    def options(self, dim: int) -> Iterator[Sketcher]:
        """All sketches that are worth a trial."""
        ways = precisions(self._device)
        leading = directions(self._learnt_from)
        for width in _WIDTHS:
            if width < dim:
                yield Sketcher.of_width(width, leading, ways[0])
        for precision in ways:
            yield Sketcher(dim, None, precision)

    def plan(self, sketcher: Sketcher, product: float = 0, pairs: float = 0) -> Plan:
        """What a search with this sketch is expected to take."""
        share = self._share(sketcher)
        seconds = product + 1e-9 * pairs * share * _CANDIDATE
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


def _product_seconds(sketcher: Sketcher, pairs: float, items: int) -> float:
    """What sketching the items and multiplying is expected to take."""
    cost = _COSTS[sketcher.precision]
    projected = 0 if sketcher.basis is None else sketcher.dim * sketcher.columns
    return 1e-9 * (
        pairs * (cost.pair + cost.column * sketcher.width)
        + items * (_ITEM + _PROJECTED * projected + 2 * sketcher.width)
    )
