"""The order of judging: bands as told, best pairs first, drawn fairly, the same every time."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reviewing import FLOOR, TAU, item, row, write_pairs

from curate.errors import CurateError
from curate.review.queue import ALL, BANDS, Pairs, arrange, read_pairs

SCORES = st.floats(0.75, 1.0, width=32)


def made(path: Path, rows: list[dict[str, object]]) -> Pairs:
    return read_pairs(write_pairs(path / "pairs.parquet", rows))


def many(path: Path, count: int = 400, tests: int = 150) -> Pairs:
    draw = np.random.default_rng(0)
    ids = np.sort(draw.integers(0, tests, count))
    return made(path, [row(int(t), n, float(draw.uniform(0.8, 1))) for n, t in enumerate(ids)])


def test_pairs_fall_into_bands_about_the_threshold(tmp_path: Path) -> None:
    scores = [0.8, 0.87, 0.875, 0.899, 0.9, 0.92, 0.925, 1.0, 0.95]
    rows = [row(n, n, score) for n, score in enumerate(scores)]
    rows[-1]["rejected"] = "another scene"
    queue = arrange(made(tmp_path, rows), TAU, FLOOR)
    names = [BANDS[n] for n in queue.band]
    assert names == [
        "low", "low", "below", "below", "above", "above", "high", "high", "rejected",
    ]  # fmt: skip
    assert (queue.bands["below"].low, queue.bands["above"].high) == (0.875, 0.925)


def test_the_threshold_itself_is_above_it_as_float32(tmp_path: Path) -> None:
    pairs = made(tmp_path, [row(0, 0, 0.82), row(1, 1, float(np.nextafter(np.float32(0.82), 0)))])
    queue = arrange(pairs, 0.82, 0.7)
    assert [BANDS[n] for n in queue.band] == ["above", "below"]


def test_at_the_ends_of_the_scale_every_pair_still_has_a_band(tmp_path: Path) -> None:
    pairs = made(tmp_path, [row(0, 0, 1.0), row(1, 1, 0.9)])
    for threshold, floor in ((1.0, 0.9), (0.9, 0.9), (1.0, 1.0)):
        assert len(arrange(pairs, threshold, floor).orders[ALL]) == 2


@given(st.lists(st.tuples(st.integers(0, 4), SCORES, st.booleans()), max_size=12))
def test_best_are_those_without_a_better_pair_of_their_image(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[tuple[int, float, bool]]
) -> None:
    rows = [
        row(test, n, score, rejected="no" if gone else None)
        for n, (test, score, gone) in enumerate(given_rows)
    ]
    pairs = made(tmp_path_factory.mktemp("best"), rows)
    best = set()
    for test in range(5):
        for gone in (False, True):
            own = [(-s, n) for n, (t, s, g) in enumerate(given_rows) if (t, g) == (test, gone)]
            best |= {min(own)[1]} if own else set()
    assert set(np.flatnonzero(pairs.is_best)) == best


def test_every_pair_comes_once_and_best_ones_first(tmp_path: Path) -> None:
    pairs = many(tmp_path)
    queue = arrange(pairs, TAU, FLOOR)
    for name, order in queue.orders.items():
        best = pairs.is_best[order]
        assert list(best) == sorted(best, reverse=True)
        if name != ALL:
            assert set(order) == set(np.flatnonzero(queue.band == BANDS.index(name)))
            assert queue.images[name] == best.sum()
    assert sorted(queue.orders[ALL]) == list(range(len(pairs)))
    assert queue.orders[ALL].dtype == np.int32


def test_the_bands_take_turns_and_keep_their_own_order(tmp_path: Path) -> None:
    queue = arrange(many(tmp_path), TAU, FLOOR)
    first = queue.orders[ALL][:32]
    counts = {name: int((queue.band[first] == n).sum()) for n, name in enumerate(BANDS)}
    assert counts == {"above": 12, "below": 12, "rejected": 0, "low": 4, "high": 4}
    for n, name in enumerate(BANDS):
        own = [r for r in queue.orders[ALL] if queue.band[r] == n]
        assert own == list(queue.orders[name])


def test_the_order_is_the_same_every_time_and_another_with_another_seed(tmp_path: Path) -> None:
    pairs = many(tmp_path)
    orders = [arrange(pairs, TAU, FLOOR, seed).orders[ALL].tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_near_another_threshold_the_same_pairs_come_first(tmp_path: Path) -> None:
    pairs = many(tmp_path)
    one, other = (arrange(pairs, tau, FLOOR).orders["high"].tolist() for tau in (0.9, 0.89))
    both = set(one) & set(other)
    assert len(both) > 50
    assert [r for r in one if r in both] == [r for r in other if r in both]


def test_the_front_of_a_band_is_a_fair_sample_of_it(tmp_path: Path) -> None:
    """Over many seeds the mean of the first 10 is the mean of the band."""
    pairs = many(tmp_path)
    rows = arrange(pairs, TAU, FLOOR).orders["high"]
    rows = rows[pairs.is_best[rows]]
    means = [
        pairs.score[arrange(pairs, TAU, FLOOR, seed).orders["high"][:10]].mean()
        for seed in range(300)
    ]
    spread = pairs.score[rows].std() / np.sqrt(10 * 300)
    assert abs(np.mean(means) - pairs.score[rows].mean()) < 4 * spread


def test_pairs_are_found_by_their_ids(tmp_path: Path) -> None:
    pairs = many(tmp_path, 50, 5)
    names = pairs.names.select(pl.col("test_id", "train_id").cast(pl.String))
    assert pairs.rows_of(names[[7, 3, 49]]).tolist() == [7, 3, 49]
    strange = pl.DataFrame({"test_id": [item(0), "x"], "train_id": ["x", item(0)]})
    assert pairs.rows_of(strange).tolist() == [-1, -1]
    assert pairs.rows_of(names.clear()).tolist() == []


def test_what_older_tables_lack_is_null_but_equal_files_are_seen(tmp_path: Path) -> None:
    pairs = made(tmp_path, [row(0, 1, 0.9), row(2, 2, 0.9)])
    assert pairs.names["same"].to_list() == [None, "bytes"]
    assert not pairs.is_rejected.any()
    assert np.isnan(pairs.cosine).all()
    assert pairs.digests(0) != pairs.digests(1)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    with pytest.raises(CurateError, match="no such table"):
        read_pairs(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(CurateError, match="not readable"):
        read_pairs(path)
    pl.DataFrame({"score": [1.0]}).write_parquet(path)
    with pytest.raises(CurateError, match=r"columns \['test_id', .* are missing"):
        read_pairs(path)
