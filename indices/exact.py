"""The exact threshold join: every (query, item) pair with cosine >= floor.

All queries are held as short sketches (`indices.sketch`) and the items are streamed past them. The
product of two sketches bounds the cosine from above, so a pair whose bound stays below the floor,
less a proven allowance for rounding, is no pair; the rest is scored from the stored vectors, in
float64 rounded once to float32. So no pair at or above the floor is missed, and equal input gives
equal pairs whatever the sketch, block sizes, threads or device.

Web-scale sets hold one placeholder image a million times. Equal queries are searched once, and
where a block of items gives very many candidates, its equal rows are scored once.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from indices.items import Items
from indices.kernels import QueryBlock, buffer, candidates, plain_float32, query_blocks
from indices.pairs import PairCollector, Pairs
from indices.planning import Plan, plan_join
from indices.prefix import CodedItems, Records
from indices.reading import read_ahead
from indices.rows import distinct, ranges
from indices.scores import lengths, pair_scores
from indices.sketch import Sketcher
from indices.stored import Matrix, Numbers, Stored, Vectors
from indices.topk import top_k

QUERY_BLOCK = 512
ITEM_BLOCK = 8192
MEMORY = 1 << 30
_READ_BLOCK = 1 << 16
_SORTED_TOGETHER = 1 << 14
"""Queries of a self-join that may change places: a query is compared with all items before it."""
_SKETCHED_TOGETHER = 1 << 17
_CROWD = 8
"""Candidates per row of a block at which a search for equal rows pays."""
_PER_QUERY = 128
"""Bytes that a query takes beside its vector and its sketch."""


def join(
    queries: Vectors | Stored,
    parts: Sequence[Matrix] | Stored | CodedItems,
    floor: float,
    *,
    cap: int = 1000,
    device: str = "cpu",
    memory: int = MEMORY,
    plan: Plan | None = None,
    nearest: bool = False,
    on_part: Callable[[int], None] | None = None,
) -> Pairs:
    """Find all pairs with cosine >= floor.

    Args:
        queries: (q, d), any float type; rows need not have unit length.
        parts: arrays (n_i, d); items are numbered through. They are read once, or once per block
            of queries where the queries take more than the memory allowed. Of `CodedItems`, the
            codes are read so, and the stored vectors of candidates only.
        floor: lowest score that is reported, compared as float32.
        cap: pairs kept per query, the best ones; `Pairs.count` tells where there were more.
        device: where the products run.
        memory: bytes for the queries and what belongs to them; the pairs come on top.
        plan: how to search; None chooses by a sample, or as the items are coded.
        nearest: find the nearest item of queries without a pair too, by the full product, which
            reads the parts again. Without it nothing is known of them but that they have no pair.
        on_part: called with numbers of items that are done; they add up to all.

    Rows that are zero or not finite match nothing.
    """
    held = queries if isinstance(queries, Stored) else Stored([queries])
    items = parts if isinstance(parts, Stored | CodedItems) else Stored(parts)
    if isinstance(items, CodedItems):
        plan, vectors = plan or items.plan(device), items.stored
    else:
        plan, vectors = plan or plan_join(held, items, floor, device), items
    step = queries_at_a_time(plan.sketcher, memory)
    passes = range(0, held.count, step)
    progress = _Progress(items.count * max(1, len(passes)), items.count, on_part)
    found = []
    for at in passes:
        block = Queries(rows_of(held, at, min(at + step, held.count)), floor, plan, cap)
        found.append(block.join(items, progress.step))
    progress.finish()
    pairs = Pairs.together(found)
    if nearest:
        best = top_k(held, vectors, 1, device=device)
        pairs = replace(pairs, nearest_item=best.nearest_item, nearest_score=best.nearest_score)
    return pairs


def self_join(
    parts: Sequence[Matrix] | Stored,
    floor: float,
    *,
    queries: Stored | None = None,
    cap: int = 1000,
    device: str = "cpu",
    memory: int = MEMORY,
    plan: Plan | None = None,
    on_part: Callable[[int], None] | None = None,
) -> Pairs:
    """Find all pairs (query, item) of one set with item < query and cosine >= floor.

    Only the triangle below the diagonal is computed: a block of queries is compared with the items
    up to its own last. Arguments are those of `join`; `queries` are other views of the same items,
    row by row, and None are the items themselves.
    """
    items = parts if isinstance(parts, Stored) else Stored(parts)
    queries = queries or items
    plan = plan or plan_join(queries, items, floor, device, within=True)
    step = queries_at_a_time(plan.sketcher, memory)
    passes = range(0, items.count, step)
    work = sum(min(at + step, items.count) for at in passes)
    progress = _Progress(work, items.count, on_part)
    found = []
    for at in passes:
        end = min(at + step, items.count)
        collector = PairCollector(end - at, cap)
        side = QuerySide(rows_of(queries, at, end), floor, plan, collector, first=at)
        _scan(side, items, 0, end, progress.step)
        found.append(collector.finish())
    progress.finish()
    return Pairs.together(found)


def queries_at_a_time(sketcher: Sketcher, memory: int) -> int:
    """How many queries a join takes at a time for them to stay within so many bytes."""
    each = sketcher.dim * 4 + sketcher.width * 4 + _PER_QUERY
    return max(QUERY_BLOCK, memory // each)


def rows_of(stored: Stored, start: int, stop: int) -> Vectors:
    """Rows in memory; an array that is there already is not copied."""
    blocks = [np.asarray(block) for block in stored.blocks(stop - start, start, stop)]
    if not blocks:
        return np.empty((0, 1), np.float32)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _scan(
    side: "QuerySide",
    items: Stored | CodedItems,
    start: int,
    stop: int,
    tell: Callable[[int], None],
) -> None:
    with plain_float32():
        for rows in read_ahead(items.blocks(_READ_BLOCK, start, stop)):
            for at in range(0, len(rows), ITEM_BLOCK):
                block = rows[at : at + ITEM_BLOCK]
                if isinstance(items, CodedItems):
                    side.meet_codes(block, start + at, items)
                else:
                    side.meet_rows(block, start + at)
            start += len(rows)
            tell(len(rows))


class _Progress:
    """Shares out the items of several passes as if each were done once."""

    def __init__(self, work: int, total: int, tell: Callable[[int], None] | None) -> None:
        self._work, self._total, self._tell = work, total, tell
        self._done = self._told = 0

    def step(self, count: int) -> None:
        self._done += count
        self._say(self._total * self._done // self._work)

    def finish(self) -> None:
        self._say(self._total)

    def _say(self, now: int) -> None:
        if self._tell and now > self._told:
            self._tell(now - self._told)
            self._told = now


class Queries:
    """Queries that are prepared once and joined with any number of sets of items, in turn.

    Args:
        rows: (q, d) stored vectors.
        floor: lowest score that is reported.
        plan: how to search.
        cap: pairs kept per query and set of items.
    """

    def __init__(self, rows: Vectors, floor: float, plan: Plan, cap: int) -> None:
        first, self._owner = distinct(rows)
        self._count, self._cap = len(first), cap
        unlike = rows[first] if len(first) < len(rows) else rows
        self._side = QuerySide(unlike, floor, plan, PairCollector(0, cap))

    def join(
        self, items: Stored | CodedItems, tell: Callable[[int], None] = lambda _rows: None
    ) -> Pairs:
        """All pairs with these items; `tell` is called with numbers of items that are done."""
        collector = PairCollector(self._count, self._cap)
        _scan(self._side.into(collector), items, 0, items.count, tell)
        return collector.finish().spread(self._owner)


class QuerySide:
    """The queries of a join, prepared once, and what happens to each block of items.

    Args:
        rows: (q, d) stored vectors.
        floor: lowest score that is reported.
        plan: how to search.
        collector: takes the pairs; queries are numbered from 0.
        first: in a self-join, the item number of the first query; only items before a query are
            reported.
    """

    def __init__(
        self,
        rows: Vectors,
        floor: float,
        plan: Plan,
        collector: PairCollector,
        first: int | None = None,
    ) -> None:
        self._rows = rows
        self._lengths = lengths(rows)
        self._limit = np.float32(floor)
        self._least = float(self._limit) - plan.sketcher.slack
        self._plan = plan
        self._collector = collector
        self._first = first
        self._buffer = buffer(QUERY_BLOCK * ITEM_BLOCK, plan.sketcher.precision, plan.device)
        with plain_float32():
            self._blocks = list(self._make_blocks())

    def into(self, collector: PairCollector) -> "QuerySide":
        """The same queries, as they are prepared, with their pairs for another collector.

        The two share memory for scores, so they cannot be at work at the same time.
        """
        side = copy.copy(self)
        side._collector = collector  # noqa: SLF001 - its own class
        return side

    def _make_blocks(self) -> Iterator[QueryBlock]:
        sketcher, device = self._plan.sketcher, self._plan.device
        together = _SKETCHED_TOGETHER if self._first is None else _SORTED_TOGETHER
        for at in range(0, len(self._rows), together):
            sketches = sketcher.sketches(self._rows[at : at + together], device)
            yield from query_blocks(sketches, sketcher, QUERY_BLOCK, at)

    def meet_rows(self, rows: Vectors, start: int) -> None:
        """Join all queries with a block of stored items, of which the first has number `start`."""
        if self._blocks:
            self.meet(Items.of(rows, start, self._plan.sketcher, self._plan.device))

    def meet_codes(self, records: Records, start: int, coded: CodedItems) -> None:
        """Join all queries with a block of coded items, of which the first has number `start`."""
        if self._blocks:
            self.meet(coded.items(records, start, self._plan))

    def meet(self, items: Items) -> None:
        """Join all queries with a block of items."""
        self._collector.note_unusable(items.unusable)
        is_merged = False
        for block in self._blocks:
            if self._first is not None and self._first + block.numbers.max() <= items.lowest[0]:
                continue
            found = self._candidates(block, items)
            count = sum(len(i) for i, _ in found)
            if count > _CROWD * (len(block.numbers) + len(items)) and not is_merged:
                items, is_merged = items.merged(), True
                found = self._candidates(block, items)
            for query, row in found:
                self._report(query, row, items)

    def _candidates(self, block: QueryBlock, items: Items) -> list[tuple[Numbers, Numbers]]:
        """Queries and rows of items whose sketches do not rule out a pair."""
        scores = block.scores(items.codes, self._buffer)
        limits = block.limits(items.codes, self._least)
        found = []
        for i, j in candidates(scores, limits):
            row, query = i.cpu().numpy(), block.numbers[j.cpu().numpy()]
            if self._first is not None:
                before = items.lowest[row] < query + self._first
                row, query = row[before], query[before]
            found.append((query, row))
        return found

    def _report(self, query: Numbers, row: Numbers, items: Items) -> None:
        """Score candidates from the stored vectors and keep the pairs."""
        wanted, place = np.unique(row, return_inverse=True)
        if not len(wanted):
            return
        score = pair_scores(self._rows, items.fetch(wanted), query, place, self._lengths)
        kept = score >= self._limit
        query, row, score = query[kept], row[kept], score[kept]
        self._collector.offer_nearest(query, items.lowest[row], score)
        if not items.is_merged:
            self._collector.add(query, items.lowest[row], score)
            return
        sizes = items.sizes[row]
        if self._first is not None:
            sizes = items.count_below(row, query + self._first)
        shown = np.minimum(sizes, self._collector.cap)
        members = items.members[ranges(items.bounds[row], shown)]
        self._collector.add(np.repeat(query, shown), members, np.repeat(score, shown))
        self._collector.add_count(query, sizes - shown)
