"""Which pairs are judged, and in which order, so that few labels say most.

Pairs fall into bands by score, about the threshold; in a band each test image's best pair comes
first, in an order drawn at random. So whoever judges a band from its start judges a simple random
sample of it, and the share of copies among these is an unbiased estimate for the band.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import tables
from curate.errors import CurateError

Rows = NDArray[np.int32]

ALL = "all"
PLAN = "plan"
"""The pairs that `curate calibrate --plan` drew, in its order; only where it drew some."""
BANDS: Final = ("above", "below", "rejected", "low", "high")
"""By the order in which they take turns in `ALL`."""
_TURNS: Final = {"above": 3, "below": 3, "rejected": 2, "low": 1, "high": 1}
"""How many pairs of each band come in one round: most where the doubts are biggest."""
_NEAR = 0.25
"""Part of the way from the threshold to the floor, and to the top, that is just about it."""


@dataclass(frozen=True)
class Band:
    """A range of scores, from `low` on and below `high` (None: no bound)."""

    name: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Pairs:
    """The pairs of a run in the order they are stored in, without what judging does not need.

    Attributes:
        names: test_id, train_id, view, rejected and same, as categories.
        score: (n,) float32, compared with the threshold.
        cosine: (n,) float32, the first stage's score where a second one re-scored the pair, else
            NaN.
        path: where the rest of their columns is.
    """

    names: pl.DataFrame
    score: NDArray[np.float32]
    cosine: NDArray[np.float32]
    path: Path

    def __len__(self) -> int:
        return len(self.score)

    @cached_property
    def is_rejected(self) -> NDArray[np.bool_]:
        """(n,) whether the second stage says that the pair is no copy."""
        rejected: NDArray[np.bool_] = self.names["rejected"].is_not_null().to_numpy()
        return rejected

    @cached_property
    def is_best(self) -> NDArray[np.bool_]:
        """(n,) whether no pair of its test image scores higher, rejected ones among themselves."""
        test, _ = _codes(self.names)
        order = np.lexsort((np.arange(len(self)), -self.score, self.is_rejected, test))
        ordered, rejected = test[order], self.is_rejected[order]
        first = np.ones(len(self), bool)
        first[1:] = (ordered[1:] != ordered[:-1]) | (rejected[1:] != rejected[:-1])
        best = np.zeros(len(self), bool)
        best[order[first]] = True
        return best

    def rows_of(self, wanted: pl.DataFrame) -> Rows:
        """The numbers of pairs by test_id and train_id; -1 for those that are not there."""
        few = wanted.select(pl.col("test_id", "train_id").cast(pl.Categorical))
        test, train = _codes(self.names)
        keys = list(zip(*(codes.tolist() for codes in _codes(few)), strict=True))
        near = np.flatnonzero(np.isin(test, [key[0] for key in keys]))
        places = zip(test[near].tolist(), train[near].tolist(), strict=True)
        found = dict(zip(places, near.tolist(), strict=True))
        return np.array([found.get(key, -1) for key in keys], np.int32)

    def digests(self, row: int) -> tuple[str, str]:
        """SHA-256 (hex) of both images as they were stored when they were matched."""
        columns = ("test_sha256", "train_sha256")
        scan = pl.scan_parquet(self.path, glob=False)
        (found,) = scan.select(columns).slice(row, 1).collect().rows()
        return str(found[0] or ""), str(found[1] or "")


def read_pairs(path: Path) -> Pairs:
    """Read what judging needs of a `pairs.parquet`.

    Raises:
        CurateError: it is missing, damaged, or lacks columns.
    """
    if not path.is_file():
        raise CurateError(f"{path}: no such table; run `curate dedup` again.")
    category = pl.Categorical
    kinds = {"test_id": category, "train_id": category, "view": category, "score": pl.Float32}
    try:
        scan = pl.scan_parquet(path, glob=False)
        given = scan.collect_schema()
        missing = [name for name in (*kinds, "test_sha256", "train_sha256") if name not in given]
        if missing:
            raise CurateError(f"{path}: columns {missing} are missing; run `curate dedup` again.")
        equal = pl.col("test_sha256") == pl.col("train_sha256")
        same = pl.when(equal).then(pl.lit("bytes"))
        for name, stand_in in (
            ("rejected", pl.lit(None)),
            ("cosine", pl.lit(None)),
            ("same", same),
        ):
            if name not in given:
                scan = scan.with_columns(stand_in.alias(name))
        kinds |= {"rejected": category, "cosine": pl.Float32, "same": category}
        frame = scan.select(pl.col(name).cast(kind) for name, kind in kinds.items()).collect()
    except tables.DAMAGE as error:
        raise CurateError(f"{path}: not readable as a table ({error}).") from error
    score = frame["score"].to_numpy()
    cosine = frame["cosine"].fill_null(float("nan")).to_numpy()
    return Pairs(frame.drop("score", "cosine"), score, cosine, path)


def _codes(names: pl.DataFrame) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Numbers in the place of ids, the same in every frame of this process."""
    return names["test_id"].to_physical().to_numpy(), names["train_id"].to_physical().to_numpy()


@dataclass(frozen=True)
class Queue:
    """The pairs sorted into bands, and the order of each.

    Attributes:
        bands: those of `BANDS` that can have pairs, by name.
        band: (n,) int8, each pair's place in `BANDS`.
        orders: int32 pair numbers in the order of judging, by band, for `ALL`, and for `PLAN` if
            there is one.
        images: how many of a band's pairs, the first ones, are a test image's best.
    """

    bands: Mapping[str, Band]
    band: NDArray[np.int8]
    orders: Mapping[str, Rows]
    images: Mapping[str, int]


def arrange(
    pairs: Pairs,
    threshold: float,
    floor: float,
    seed: int = 0,
    plan: pl.DataFrame | None = None,
) -> Queue:
    """Sort pairs into bands and say in which order to judge them.

    The draw does not depend on the threshold: when it moves, the same pairs come first again.

    Args:
        pairs: all pairs of a run.
        threshold: lowest score of a match; compared as float32.
        floor: lowest score that was stored.
        seed: of the order.
        plan: test_id and train_id of pairs that were drawn to be judged, in their order.
    """
    bands = _bands(pairs, threshold, floor)
    band = _band_of(pairs, bands)
    draw = np.random.default_rng(seed).permutation(len(pairs))
    best = pairs.is_best
    order = np.lexsort((draw, ~best, band)).astype(np.int32)
    ends = np.searchsorted(band[order], np.arange(len(BANDS) + 1))
    orders = {name: order[ends[n] : ends[n + 1]] for n, name in enumerate(BANDS)}
    images = {name: int(best[rows].sum()) for name, rows in orders.items()}
    drawn = {} if plan is None else {PLAN: pairs.rows_of(plan)}
    drawn = {name: rows[rows >= 0] for name, rows in drawn.items()}  # another search may lack some
    return Queue(bands, band, {**drawn, ALL: _interleaved(orders, images), **orders}, images)


def _bands(pairs: Pairs, threshold: float, floor: float) -> dict[str, Band]:
    tau = float(np.float32(threshold))
    top = max(1.0, float(pairs.score.max(initial=tau)))
    under = round(tau - _NEAR * (tau - floor), 4)
    over = round(tau + _NEAR * (top - tau), 4)
    bands = [
        Band("above", threshold, over),
        Band("below", under, threshold),
        Band("rejected", None, None),
        Band("low", floor, under),
        Band("high", over, None),
    ]
    return {band.name: band for band in bands}


def _band_of(pairs: Pairs, bands: Mapping[str, Band]) -> NDArray[np.int8]:
    score = pairs.score
    edges = [bands[name].low for name in ("high", "above", "below")]
    high, above, below = (score >= np.float32(edge) for edge in edges if edge is not None)
    names = np.select([pairs.is_rejected, high, above, below], [2, 4, 0, 1], 3)
    return names.astype(np.int8)


def _interleaved(orders: Mapping[str, Rows], images: Mapping[str, int]) -> Rows:
    """All bands taking turns, first with the best pairs of test images, then with the others."""
    first = {name: rows[: images[name]] for name, rows in orders.items()}
    rest = {name: rows[images[name] :] for name, rows in orders.items()}
    return np.concatenate([_by_turns(first), _by_turns(rest)])


def _by_turns(orders: Mapping[str, Rows]) -> Rows:
    moments = [(np.arange(len(rows)) + 0.5) / _TURNS[name] for name, rows in orders.items()]
    places = np.argsort(np.concatenate(moments), kind="stable")
    return np.concatenate(list(orders.values()))[places]
