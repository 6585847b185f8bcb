"""What the fast code must equal, written the slow and obvious way."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from indices.exact import join
from indices.pairs import Pairs

if TYPE_CHECKING:
    import multiprocessing


def cosine(x: NDArray[np.floating], y: NDArray[np.floating]) -> np.float32:
    """The cosine in float64, rounded once; -inf for rows that cannot match."""
    u, v = ([float(number) for number in row] for row in (x, y))
    if not all(map(math.isfinite, u + v)) or not any(u) or not any(v):
        return np.float32(-np.inf)
    u, v = ([math.ldexp(n, -math.frexp(max(map(abs, row)))[1]) for n in row] for row in (u, v))
    product = math.fsum(a * b for a, b in zip(u, v, strict=True))
    lengths = [math.sqrt(math.fsum(a * a for a in row)) for row in (u, v)]
    return np.float32(product / (lengths[0] * lengths[1]))


def naive_join(
    queries: NDArray[np.floating],
    items: NDArray[np.floating],
    floor: float,
    cap: int,
    *,
    within: bool = False,
    nearest: bool = False,
) -> Pairs:
    """Two loops, one pair at a time; without `nearest` no score below the floor is known."""
    found, counts, best = [], [], []
    for i, query in enumerate(queries):
        last = i if within else len(items)
        scored = [(-cosine(query, items[j]), j) for j in range(last)]
        scored = sorted((score, j) for score, j in scored if score < np.inf)
        above = [(i, j, -score) for score, j in scored if -score >= np.float32(floor)]
        found += above[:cap]
        counts.append(len(above))
        is_known = bool(scored) and (nearest or bool(above))
        best.append((scored[0][1], -scored[0][0]) if is_known else (-1, -np.inf))
    columns = list(zip(*found, strict=True)) or [(), (), ()]
    columns_of_best = list(zip(*best, strict=True)) or [(), ()]
    return Pairs(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float32),
        np.array(counts, np.int64),
        np.array(columns_of_best[0], np.int64),
        np.array(columns_of_best[1], np.float32),
    )


def assert_same(got: Pairs, expected: Pairs) -> None:
    """Equal bit for bit, types included."""
    names = ("query", "item", "score", "count", "nearest_item", "nearest_score")
    for name in names:
        ours, theirs = getattr(got, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype, name
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
        assert ours.tobytes() == theirs.tobytes(), f"{name}: equal values, other bits"


def split(items: NDArray[np.floating], cuts: Sequence[int]) -> list[NDArray[np.floating]]:
    """Parts that begin at the cuts; empty ones where a cut is repeated."""
    return np.split(items, sorted(min(cut, len(items)) for cut in cuts))


def make_vectors(
    rng: np.random.Generator, count: int, dim: int, shape: str, dtype: str
) -> NDArray[np.floating]:
    """Vectors of one of the kinds that hurt."""
    x = rng.standard_normal((count, dim))
    if shape == "clustered" and count:
        x = x[rng.integers(0, max(1, count // 4), count)] + 1e-4 * x
    if shape == "tied":
        x = rng.integers(-1, 2, (count, dim)).astype(float)
    if shape == "duplicated" and count:
        x = x[rng.integers(0, max(1, count // 5), count)]
    if shape == "odd" and count:
        x *= 10.0 ** rng.integers(-3, 4, (count, 1))
        bad = rng.random(count)
        x[bad < 0.3] = 0
        x[bad < 0.2, 0] = np.nan
        x[bad < 0.1, 0] = np.inf
    if shape == "opposed":
        x = np.abs(x) * np.where(np.arange(count) % 2, 1, -1)[:, None]
    return x.astype(dtype)


SHAPES = st.sampled_from(["random", "clustered", "tied", "duplicated", "odd", "opposed"])
DTYPES = st.sampled_from(["float16", "float32", "float64"])


def naive_top_k(
    queries: NDArray[np.floating], items: NDArray[np.floating], k: int
) -> list[list[tuple[np.float32, int]]]:
    """Scores and items of the k best of each query, by sorting all."""
    scored = [[(cosine(query, item), j) for j, item in enumerate(items)] for query in queries]
    usable = [[pair for pair in row if pair[0] > -np.inf] for row in scored]
    return [sorted(row, key=lambda pair: (-pair[0], pair[1]))[:k] for row in usable]


def join_a_million(folder: str, answer: "multiprocessing.Queue[tuple[int, int, int]]") -> None:
    """Run in a process of its own: put peak memory, pairs and queries into `answer`."""
    parts = [np.load(path, mmap_mode="r") for path in sorted(Path(folder).glob("*.npy"))]
    queries = np.concatenate([part[:50] for part in parts])
    found = join(queries, parts, 0.9)
    # Not getrusage: its maximum is handed down by the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    answer.put((peak, int(found.count.sum()), len(queries)))


def naive_keep(
    scores: dict[tuple[int, int], float], order: Sequence[int], cut: set[int]
) -> dict[int, tuple[int, bool] | None]:
    """Item to None where it is kept, else to its evidence and whether that is kept.

    Args:
        scores: of the pairs at the threshold, each with the later item first.
        order: the items that are in a pair, the most preferred first.
        cut: items that have lost pairs.
    """
    both = scores | {(j, i): score for (i, j), score in scores.items()}
    kept: list[int] = []
    for item in order:
        if item not in cut and not any((item, other) in both for other in kept):
            kept.append(item)
    found: dict[int, tuple[int, bool] | None] = dict.fromkeys(kept)
    for item in set(order) - set(kept):
        others = [j for i, j in both if i == item]
        before = kept if item in cut else [j for j in kept if order.index(j) < order.index(item)]
        good = [j for j in others if j in before]
        best = min(good or others, key=lambda j: (-both[item, j], j))
        found[item] = best, bool(good)
    return found


def naive_components(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected items, by repeated union of sets; in order."""
    parts = [set(pair) for pair in pairs]
    merged: list[set[int]] = []
    while parts:
        part = parts.pop()
        touching = [other for other in parts if other & part]
        parts = [other for other in parts if not other & part]
        if touching:
            parts.append(part.union(*touching))
        else:
            merged.append(part)
    return sorted(sorted(part) for part in merged)
