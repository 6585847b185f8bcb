"""Recall of real faiss indices against slow twins, and what the gate lets through."""

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexing import build
from numpy.typing import NDArray
from scipy.stats import binomtest
from slow_twins import DTYPES, SHAPES, cosine, make_vectors, naive_join, split

from indices.faiss_plan import Kind, Plan
from indices.recall import (
    Measurement,
    Recall,
    Sample,
    clopper_pearson,
    draw,
    measure,
    plant,
    queries_needed,
)
from indices.scores import pair_scores, unit_rows
from indices.stored import Stored

faiss = pytest.importorskip("faiss")
Parts = list[NDArray[np.floating]]
TAU = 0.95


def ivf(parts: Parts, lists: int) -> Any:
    return build(Plan("ivf", lists, 1, ""), parts)


def flat(parts: Parts) -> Any:
    return build(Plan("flat", 0, 0, ""), parts)


def product_quantised(parts: Parts, lists: int) -> Any:
    units = unit_rows(np.concatenate(parts))
    coarse = faiss.IndexFlatIP(units.shape[1])
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFPQ(coarse, units.shape[1], lists, 4, 8, metric)
    index.train(units)
    index.add(units)
    return index


@pytest.fixture(scope="module")
def crowd() -> Parts:
    """Items of which many are near the borders of lists."""
    rng = np.random.default_rng(0)
    scale = np.linspace(2, 0.1, 16)
    items = (rng.standard_normal((4000, 16)) * scale).astype(np.float16)
    return split(items, [0, 1000, 2500])


@pytest.fixture(scope="module")
def sample(crowd: Parts) -> Sample:
    """Some of the user's queries have pairs, others have none."""
    rng = np.random.default_rng(1)
    near = crowd[1][:300] + 0.3 * rng.standard_normal((300, 16))
    far = rng.standard_normal((200, 16))
    own = np.concatenate([near, far]).astype(np.float16)
    return draw(Stored(crowd), Stored([own]), TAU, own=400, planted=600)


# --- intervals ---------------------------------------------------------------------------------


@given(st.data(), st.integers(1, 5000), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_is_the_interval_of_the_exact_binomial_test(
    data: st.DataObject, total: int, confidence: float
) -> None:
    found = data.draw(st.integers(0, total))
    expected = binomtest(found, total).proportion_ci(confidence, method="exact")
    got = clopper_pearson(found, total, confidence)
    assert got == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 10**6))
def test_none_and_all_have_closed_forms(total: int) -> None:
    edge = 0.025 ** (1 / total)
    assert clopper_pearson(total, total) == (pytest.approx(edge, rel=1e-12), 1.0)
    assert clopper_pearson(0, total) == (0.0, pytest.approx(1 - edge, rel=1e-9))


def test_nothing_observed_says_nothing() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@given(st.floats(0.01, 0.9999))
def test_no_fewer_queries_could_show_a_recall(recall: float) -> None:
    needed = queries_needed(recall)
    assert clopper_pearson(needed, needed)[0] >= recall
    assert needed == 1 or clopper_pearson(needed - 1, needed - 1)[0] < recall


def test_the_numbers_of_queries_that_people_will_ask_for() -> None:
    assert [queries_needed(recall) for recall in (0.9, 0.95, 0.99, 0.999)] == [36, 72, 368, 3688]


def test_pairs_of_queries_with_one_pair_each_have_the_interval_of_the_queries() -> None:
    found = np.array([1] * 90 + [0] * 10)
    recall = Recall.of(found, np.ones(100, np.int64))
    assert astuple(recall.items) == (90, 100, *clopper_pearson(90, 100))
    assert astuple(recall.pairs) == pytest.approx(astuple(recall.items))
    many = Recall.of(7 * found, np.full(100, 7))  # found or missed together: nothing more is known
    assert (many.pairs.found, many.pairs.total) == (630, 700)
    assert (many.pairs.low, many.pairs.high) == pytest.approx(clopper_pearson(90, 100))


def test_a_query_with_most_of_the_pairs_makes_their_interval_wide() -> None:
    true = np.array([500] + [1] * 500)
    alone = Recall.of(np.array([0] + [1] * 500), true).pairs
    assert (alone.found, alone.total) == (500, 1000)
    assert alone.low < 0.1
    assert alone.high > 0.9


def test_all_found_and_none_found_are_told_without_rounding() -> None:
    true = np.array([3, 1, 7, 0])
    assert Recall.of(true, true).pairs.high == 1
    assert Recall.of(0 * true, true).pairs.low == 0
    empty = Recall.of(0 * true, 0 * true)
    assert astuple(empty) == ((0, 0, 0.0, 1.0), (0, 0, 0.0, 1.0))


def test_the_interval_of_pairs_covers_the_truth_where_clusters_are_missed_whole() -> None:
    rng = np.random.default_rng(5)
    covered, trials = 0, 400
    for _ in range(trials):
        true = rng.geometric(0.3, 150)
        pairs = Recall.of(true * (rng.random(150) < 0.9), true).pairs
        covered += pairs.low <= 0.9 <= pairs.high
    assert covered / trials >= 0.94


# --- queries -----------------------------------------------------------------------------------


def test_a_direction_that_is_drawn_along_its_row_gives_a_copy_too() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 2))  # what `plant` draws from seed 0
    cosines = [cosine(*both) for both in zip(plant(rows, np.full(3, 0.5), 0), rows, strict=True)]
    assert cosines == pytest.approx([0.5] * 3, abs=1e-6)


@settings(max_examples=150)
@given(st.data(), SHAPES, DTYPES, st.sampled_from([2, 3, 24, 100]))
def test_a_planted_copy_has_its_cosine(
    data: st.DataObject, shape: str, dtype: str, dim: int
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = make_vectors(rng, data.draw(st.integers(1, 20)), dim, shape, dtype)
    rows = rows[np.isfinite(rows).all(axis=1) & rows.any(axis=1)]
    cosines = rng.uniform(-1, 1, len(rows)).round(data.draw(st.integers(0, 9)))
    copies = plant(rows, cosines, data.draw(st.integers(0, 2**31)))
    assert (copies.dtype, copies.shape) == (np.float32, rows.shape)
    for copy, row, wanted in zip(copies, rows, cosines, strict=True):
        assert cosine(copy, row) == pytest.approx(wanted, abs=1e-6)
        if wanted == 1 and dtype != "float64":
            assert cosine(copy, row) == 1


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1e30])
def test_very_short_and_very_long_rows_are_copied_too(size: float) -> None:
    rows = (size * np.random.default_rng(0).standard_normal((50, 8))).astype(np.float32)
    cosines = np.linspace(0.9, 1, 50)
    every = np.arange(50)
    scores = pair_scores(plant(rows, cosines, 0), rows, every, every)
    np.testing.assert_allclose(scores, cosines, atol=1e-6)
    assert scores[-1] == 1


def test_copies_of_one_row_go_in_directions_of_their_own() -> None:
    row = np.random.default_rng(0).standard_normal((1, 400)).astype(np.float32)
    copies = unit_rows(plant(np.repeat(row, 200, axis=0), np.full(200, 0.6), 3))
    among = (copies @ copies.T)[np.triu_indices(200, 1)]
    assert among.mean() == pytest.approx(0.36, abs=0.01)  # 0.6 squared: all else is at random
    assert among.std() == pytest.approx(0.64 / math.sqrt(399), rel=0.05)


def test_copies_of_a_seed_are_the_same_bytes() -> None:
    rows = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float16)
    cosines = np.linspace(0.9, 1, 9)
    assert plant(rows, cosines, 1).tobytes() == plant(rows, cosines, 1).tobytes()
    assert plant(rows, cosines, 1).tobytes() != plant(rows, cosines, 2).tobytes()


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_row_that_matches_nothing_has_no_copies(bad: float) -> None:
    rows = np.ones((3, 2), np.float16)
    rows[1] = bad
    with pytest.raises(ValueError, match="row 1 is zero or not finite"):
        plant(rows, np.full(3, 0.9), 0)


def test_a_cosine_that_cannot_be_is_refused() -> None:
    for cosines in ([0.5, 1.01], [0.5, np.nan]):
        with pytest.raises(ValueError, match="between -1 and 1"):
            plant(np.ones((2, 2)), np.array(cosines), 0)
    rows = np.array([[3.0], [-2.0], [5.0]], np.float32)
    with pytest.raises(ValueError, match="width 1"):
        plant(rows, np.array([1, 0.5, 1]), 0)
    copies = plant(rows, np.array([1.0, 1.0, -1.0]), 0)
    assert [cosine(*pair) for pair in zip(copies, rows, strict=True)] == [1, 1, -1]


def test_a_sample_is_the_users_queries_without_repetition_then_copies_of_any_vector(
    crowd: Parts,
) -> None:
    own = np.random.default_rng(2).standard_normal((50, 16)).astype(np.float16)
    drawn = draw(Stored(crowd), Stored(split(own, [20])), 0.9, own=30, planted=200, seed=4)
    assert (drawn.own, drawn.queries.shape) == (30, (230, 16))
    places = {row.tobytes(): n for n, row in enumerate(own.astype(np.float32))}
    chosen = [places[row.tobytes()] for row in drawn.queries[:30]]
    assert len(set(chosen)) == 30
    assert max(chosen) > 30
    best = (unit_rows(drawn.queries[30:]) @ unit_rows(np.concatenate(crowd)).T).max(axis=1)
    steps = 0.9 + 0.1 * (np.arange(200) + 0.5) / 200
    assert (best >= steps - 1e-6).all()
    assert np.median(best - steps) < 1e-6  # as a rule nothing else is as near


def test_a_seed_draws_the_same_bytes_and_another_draws_others(crowd: Parts) -> None:
    stored = Stored(crowd)

    def content(seed: int, parts: Stored) -> bytes:
        return draw(parts, stored, TAU, own=9, planted=9, seed=seed).queries.tobytes()

    other_parts = Stored(split(np.concatenate(crowd), [7]))
    assert content(0, stored) == content(0, stored) == content(0, other_parts)
    assert content(0, stored) != content(1, stored)


def test_vectors_that_match_nothing_are_not_drawn() -> None:
    rows = np.ones((40, 3), np.float16)
    rows[::2] = 0
    rows[1::4] = np.nan
    drawn = draw(Stored([rows]), Stored([rows]), TAU, own=40, planted=100)
    assert drawn.own == 10
    assert 10 < len(drawn.queries) - drawn.own < 50
    assert np.isfinite(drawn.queries).all()
    only = draw(Stored([rows]), Stored([0 * rows[::2]]), TAU, planted=100)
    assert only.own == 0
    with pytest.raises(ValueError, match="no query to measure with"):
        draw(Stored([rows[::2]]), None, TAU)
    with pytest.raises(ValueError, match="no query to measure with"):
        draw(Stored([rows]), None, TAU, planted=0)


def test_of_vectors_of_width_one_only_equal_copies_are_planted() -> None:
    drawn = draw(Stored([np.array([[2.0], [-3.0]], np.float32)]), None, TAU, planted=20)
    assert set(np.sign(drawn.queries[:, 0]).tolist()) == {-1.0, 1.0}


# --- operating points --------------------------------------------------------------------------


def naive_counts(index: Any, parts: Parts, sample: Sample) -> list[dict[int, tuple[int, int]]]:
    """By number of lists, less one: query -> pairs found and pairs there are; slow, by hand."""
    items = np.concatenate(parts)
    centroids = index.quantizer.reconstruct_n(0, index.nlist)
    home = (unit_rows(items) @ centroids.T).argmax(axis=1)
    order = (-(unit_rows(sample.queries) @ centroids.T)).argsort(axis=1, kind="stable")
    true: dict[int, list[int]] = {}
    pairs = naive_join(sample.queries, items, TAU, cap=len(items))
    for query, item in zip(pairs.query.tolist(), pairs.item.tolist(), strict=True):
        true.setdefault(query, []).append(item)
    return [
        {
            query: (sum(home[item] in order[query, :probes] for item in found), len(found))
            for query, found in true.items()
        }
        for probes in range(1, index.nlist + 1)
    ]


def test_recall_is_what_counting_by_hand_gives(crowd: Parts) -> None:
    parts = [part[:60] for part in crowd[1:]]
    own = parts[0] + 0.2 * np.random.default_rng(3).standard_normal((60, 16))
    sample = draw(Stored(parts), Stored([own]), TAU, own=40, planted=60)
    index = ivf(parts, 8)
    by_hand = naive_counts(index, parts, sample)
    sizes = np.array([index.invlists.list_size(n) for n in range(8)])
    order = index.quantizer.search(unit_rows(sample.queries), 8)[1]
    for probes in range(1, 9):
        point = measure(index, parts, sample, TAU, 0.5, probes=probes).points[0]
        counts = by_hand[probes - 1]
        for recall, numbers in (
            (point.together, range(100)),
            (point.queries, range(sample.own)),
            (point.planted, range(sample.own, 100)),
        ):
            here = [count for query, count in counts.items() if query in numbers]
            assert (recall.items.found, recall.items.total) == (
                sum(found > 0 for found, _ in here),
                len(here),
            )
            assert recall.pairs.found == sum(found for found, _ in here)
            assert recall.pairs.total == sum(total for _, total in here)
            interval = clopper_pearson(recall.items.found, recall.items.total)
            assert (recall.items.low, recall.items.high) == interval
        assert point.visited == pytest.approx(sizes[order[:, :probes]].sum() / (100 * 180))
    assert by_hand[0] != by_hand[-1]


@pytest.mark.parametrize("min_recall", [0.5, 0.8, 0.9, 0.95, 0.98])
@pytest.mark.parametrize("lists", [1, 13, 32])
def test_the_lists_that_are_chosen_are_the_fewest_that_a_scan_over_all_finds(
    crowd: Parts, sample: Sample, lists: int, min_recall: float
) -> None:
    index = ivf(crowd, lists)
    got = measure(index, crowd, sample, TAU, min_recall)
    passing = [
        probes
        for probes in range(1, lists + 1)
        if measure(index, crowd, sample, TAU, min_recall, probes=probes).chosen is not None
    ]
    assert passing == list(range(passing[0], lists + 1))
    assert got.chosen is not None
    point = got.points[got.chosen]
    assert point.probes == passing[0]
    assert point.together.items.low >= min_recall
    assert all(before.together.items.low < min_recall for before in got.points[: got.chosen])
    assert [p.probes for p in got.points] == sorted({p.probes or 0 for p in got.points})
    assert len(got.seconds) == len(got.points)


def without_seconds(measured: Measurement) -> tuple[Any, ...]:
    return measured.points, measured.chosen


def test_a_measurement_repeated_is_the_same(crowd: Parts, sample: Sample) -> None:
    index = ivf(crowd, 32)
    one, two = (measure(index, crowd, sample, TAU, 0.95) for _ in range(2))
    assert without_seconds(one) == without_seconds(two)
    other = measure(index, split(np.concatenate(crowd), [17]), sample, TAU, 0.95)
    assert without_seconds(one) == without_seconds(other)


def test_an_index_that_may_visit_one_list_only_fails_on_crowded_data(
    crowd: Parts, sample: Sample
) -> None:
    index = ivf(crowd, 64)
    bad = measure(index, crowd, sample, TAU, 0.95, probes=1)
    assert bad.chosen is None
    assert [point.probes for point in bad.points] == [1]
    assert bad.points[0].together.items.high < 0.95
    good = measure(index, crowd, sample, TAU, 0.95)
    assert good.chosen is not None
    assert good.points[good.chosen].visited < 0.5


def test_a_product_quantised_index_fails_with_all_lists_visited(
    crowd: Parts, sample: Sample
) -> None:
    got = measure(product_quantised(crowd, 16), crowd, sample, TAU, 0.9)
    assert got.chosen is None
    assert [point.probes for point in got.points] == [1, 2, 4, 8, 16]
    assert got.points[-1].visited == 1
    assert got.points[-1].together.items.high < 0.9


@pytest.mark.parametrize("kind", ["ivf-fp16", "ivf-sq8"])
def test_scalar_quantised_lists_pass_as_they_allow_for_their_error(
    crowd: Parts, sample: Sample, kind: Kind
) -> None:
    index = build(Plan(kind, 32, 1, ""), crowd)
    whole = measure(index, crowd, sample, TAU, 0.95, probes=32)
    assert whole.points[0].together.pairs.found == whole.points[0].together.pairs.total
    got = measure(index, crowd, sample, TAU, 0.95)
    assert got.chosen is not None
    assert got.points[got.chosen].visited < 1


def test_a_flat_index_passes_as_it_cannot_miss_however_small_the_sample(crowd: Parts) -> None:
    small = draw(Stored(crowd), None, TAU, planted=5)
    got = measure(flat(crowd), crowd, small, TAU, 0.99, probes=3)
    assert got.chosen == 0
    (point,) = got.points
    assert (point.probes, point.visited) == (None, 1.0)
    assert astuple(point.together.items)[:2] == (5, 5)
    assert point.queries.items.total == 0


def test_a_flat_index_of_other_vectors_fails(crowd: Parts, sample: Sample) -> None:
    other = [part[::-1] for part in crowd]
    assert measure(flat(other), crowd, sample, TAU, 0.5).chosen is None


def test_a_sample_that_is_too_small_shows_nothing_and_is_not_searched_at_length(
    crowd: Parts,
) -> None:
    small = draw(Stored(crowd), None, TAU, planted=367)
    got = measure(ivf(crowd, 64), crowd, small, TAU, 0.99)
    assert got.chosen is None
    assert all(point.visited <= 1 / 8 for point in got.points)
    enough = draw(Stored(crowd), None, TAU, planted=368)
    assert measure(ivf(crowd, 64), crowd, enough, TAU, 0.99).chosen is not None


def test_cheap_points_beyond_the_chosen_one_are_measured(crowd: Parts, sample: Sample) -> None:
    got = measure(ivf(crowd, 64), crowd, sample, TAU, 0.3)
    assert got.chosen == 0
    probes = [point.probes for point in got.points]
    assert probes == [1, 2, 4, 8][: len(probes)]
    assert len(probes) > 2


def test_queries_with_more_pairs_than_any_search_keeps_are_counted_whole() -> None:
    rng = np.random.default_rng(6)
    base = rng.standard_normal((2, 8))
    items = np.repeat(base, [5000, 3], axis=0)
    items = (items + 0.02 * rng.standard_normal(items.shape)).astype(np.float32)
    parts = split(items, [2000])
    drawn = draw(Stored(parts), Stored([base.astype(np.float32)]), 0.99, planted=0)
    expected = naive_join(drawn.queries, items, 0.99, cap=10)
    assert expected.count.tolist() == [5000, 3]
    found = measure(flat(parts), parts, drawn, 0.99, 0.9).points[0].together.pairs
    assert (found.found, found.total) == (5003, 5003)
    index = ivf(parts, 40)
    some = [
        measure(index, parts, drawn, 0.99, 0.9, probes=n).points[0].together for n in (1, 10, 40)
    ]
    assert [recall.items.found for recall in some] == [2, 2, 2]
    counts = [recall.pairs.found for recall in some]
    assert counts[0] < 1000 < counts[1] < counts[2] == 5003


def test_identical_copies_are_found_at_threshold_one(crowd: Parts) -> None:
    drawn = draw(Stored(crowd), None, 1.0, planted=80)
    point = measure(ivf(crowd, 8), crowd, drawn, 1.0, 0.9).points[0]
    assert astuple(point.planted.items)[:2] == (80, 80)


def test_an_index_of_another_size_is_told_before_the_join(crowd: Parts, sample: Sample) -> None:
    joined: list[int] = []
    with pytest.raises(ValueError, match="the index holds 4000 vectors"):
        measure(ivf(crowd, 8), crowd[:2], sample, TAU, 0.9, on_part=joined.append)
    assert joined == []
    measure(ivf(crowd, 8), crowd, sample, TAU, 0.9, on_part=joined.append)
    assert sum(joined) == 4000


def test_an_index_that_holds_a_vector_twice_is_refused() -> None:
    items = np.eye(4, dtype=np.float32)
    index = ivf([items], 1)
    index.reset()
    index.add_with_ids(items[[0, 0, 1, 2]], np.array([0, 0, 1, 2]))
    with pytest.raises(ValueError, match="a vector twice"):
        measure(index, [items], Sample(items[:2], 2), TAU, 0.1)
