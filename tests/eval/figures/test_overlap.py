from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_rows import rows, split_rows
from scipy.stats import binomtest

from curate.errors import CurateError
from eval.figures.effective import find_baseline, read_baselines
from eval.figures.overlap import (
    Comparison,
    adjust,
    compare,
    effective_change,
    random_removal,
    sweep,
)
from eval.figures.rates import clopper_pearson, rate, weighted


def test_a_setting_is_compared_on_its_splits() -> None:
    found = compare(split_rows((60, 40), (18, 2), unknown=5))
    assert (found.full, found.clean, found.overlap) == (rate(78, 120), rate(60, 100), rate(18, 20))
    assert (found.unknown, found.control) == (5, None)
    assert found.contamination == pytest.approx(1 / 6)
    assert found.change.value == pytest.approx(78 / 120 - 0.6)
    assert (found.exact_low, found.exact_high) == clopper_pearson(18, 20, 0.995)
    assert found.p == pytest.approx(binomtest(18, 20, 0.6, "greater").pvalue)


def test_the_change_has_the_interval_of_the_difference_that_it_is() -> None:
    found = compare(split_rows((60, 40), (18, 2)))
    expected = weighted([(1 / 6, rate(18, 20)), (-1 / 6, rate(60, 100))])
    assert (found.change.low, found.change.high) == (expected.low, expected.high)


def test_the_interval_of_the_change_covers_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        a, b = generator.binomial(200, 0.6), generator.binomial(20, 0.8)
        change = compare(split_rows((a, 200 - a), (b, 20 - b)), draws=2).change
        inside += change.low <= 20 / 220 * 0.2 <= change.high
    assert inside / 400 >= 0.93


def test_a_change_on_clustered_images_is_less_sure() -> None:
    groups = [f"v{i // 10}" for i in range(120)]
    alone = compare(split_rows((60, 40), (18, 2)))
    videos = compare(split_rows((60, 40), (18, 2), group=list(groups)))
    assert videos.change.value == pytest.approx(alone.change.value)
    assert videos.change.high - videos.change.low > 1.5 * (alone.change.high - alone.change.low)


def test_a_stored_control_split_is_one_random_removal() -> None:
    frame = split_rows((3, 1), (1, 1), control=[True, True, True, False, True, False])
    assert compare(frame).control == rate(4, 4)


def test_without_overlap_nothing_changes_and_nothing_is_tested() -> None:
    found = compare(split_rows((3, 1), (0, 0)))
    assert (found.change.value, found.change.low, found.change.high) == (0.0, 0.0, 0.0)
    assert (found.p, found.visible, found.random) == (None, None, None)


def test_without_clean_images_the_change_is_not_known() -> None:
    found = compare(split_rows((0, 0), (3, 1)))
    assert found.change.value is None
    assert (found.p, found.random, found.contamination) == (None, None, 1.0)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(CurateError, match="no image is clean or overlap"):
        compare(split_rows((0, 0), (0, 0), unknown=3))
    with pytest.raises(CurateError, match="has no split"):
        compare(rows([True]))


def test_random_removal_is_that_of_all_choices_class_by_class() -> None:
    # class 0: 2 of 4 images overlap; class 1: 1 of 3
    correct = [True, True, False, True, True, False, False]
    frame = rows(
        correct,
        label=[0] * 4 + [1] * 3,
        split=["clean", "overlap", "clean", "overlap", "clean", "overlap", "clean"],
    )
    full = sum(correct) / 7
    every = [
        full - sum(c for i, c in enumerate(correct) if i not in {*first, second}) / 4
        for first in combinations(range(4), 2)
        for second in range(4, 7)
    ]
    found = random_removal(frame, draws=20_000)
    assert found.mean == pytest.approx(np.mean(every))
    kept = full - sum(correct[i] for i in (0, 2, 4, 6)) / 4
    far = np.mean([abs(x - found.mean) >= abs(kept - found.mean) - 1e-12 for x in every])
    assert found.p == pytest.approx(far, abs=0.01)
    assert min(every) <= found.low <= found.high <= max(every)


def test_overlap_in_an_easy_class_is_told_from_overlap_that_helps() -> None:
    # the overlap is all of one class on which the model is always right, also on clean images
    labels: list[object] = [1] * 50 + [0] * 100 + [1] * 50
    easy = compare(split_rows((90, 60), (50, 0), label=labels))
    assert easy.p is not None
    assert easy.p < 1e-6
    assert easy.random is not None
    assert easy.random.p == 1.0
    assert easy.random.mean == pytest.approx(easy.change.value)


def test_overlap_that_helps_moves_further_than_random_removal() -> None:
    found = compare(split_rows((50, 50), (50, 0)))
    assert found.random is not None
    assert found.random.p < 0.001
    assert found.random.mean == pytest.approx(0)


def test_the_visible_change_is_seen_four_times_in_five() -> None:
    found = compare(split_rows((600, 400), (30, 20)))
    assert found.visible is not None
    truth = found.visible / found.contamination + 0.6
    generator = np.random.default_rng(0)
    rejected = [
        binomtest(int(k), 50, 0.6, "greater").pvalue <= 0.05
        for k in generator.binomial(50, truth, 2000)
    ]
    assert np.mean(rejected) == pytest.approx(0.8, abs=0.03)


def test_an_overlap_too_small_to_be_significant_says_so() -> None:
    assert compare(split_rows((60, 40), (2, 0))).visible is None
    assert compare(split_rows((60, 0), (2, 0))).visible is None


@given(
    st.dictionaries(
        st.text(max_size=3), st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=8
    )
)
def test_adjusted_values_keep_the_order_and_holm_is_never_the_larger(
    values: dict[str, float | None],
) -> None:
    holm, bonferroni = adjust(values), adjust(values, "bonferroni")
    tested = [name for name, value in values.items() if value is not None]
    assert {name for name in values if holm[name] is None} == set(values) - set(tested)
    for name in tested:
        assert (values[name] or 0.0) <= (holm[name] or 0.0) <= (bonferroni[name] or 0.0) <= 1
    ordered = sorted(tested, key=lambda name: values[name] or 0.0)
    assert [holm[name] for name in ordered] == sorted(holm[name] or 0.0 for name in ordered)


def test_holm_is_as_published() -> None:
    found = adjust({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
    assert found == {
        "a": pytest.approx(0.03),
        "b": pytest.approx(0.06),
        "c": pytest.approx(0.06),
        "d": None,
    }
    with pytest.raises(ValueError, match="holm, bonferroni"):
        adjust({}, "sidak")  # type: ignore[arg-type]


def test_the_change_of_effective_robustness_is_that_of_both_sets() -> None:
    baseline = find_baseline(read_baselines(), "imagenet-sketch")
    ordinary = compare(split_rows((600, 300), (90, 10)))
    shifted = compare(split_rows((400, 500), (80, 20)))
    found = effective_change(baseline, ordinary, shifted)
    full = 480 / 1000 - baseline.predict(690 / 1000)
    clean = 400 / 900 - baseline.predict(600 / 900)
    assert found.value == pytest.approx(full - clean)
    assert found.low < full - clean < found.high
    same = compare(split_rows((600, 400), (0, 0)))
    nothing = effective_change(baseline, same, same)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    with pytest.raises(CurateError, match="nothing is clean"):
        effective_change(baseline, same, compare(split_rows((0, 0), (1, 1))))


def test_a_sweep_moves_images_from_one_split_to_the_other() -> None:
    frame = rows([True, True, False, True])
    decisions = pl.DataFrame(
        {
            "id": ["a:0", "a:1", "a:2", "a:3"],
            "decision": ["overlap", "overlap", "clean", "unknown"],
            "score": pl.Series([0.99, 0.9, None, None], dtype=pl.Float32),
        }
    )
    strict, loose = sweep(frame, decisions, [0.95, 0.9])[::-1]
    assert (strict.threshold, strict.overlap, strict.clean) == (0.95, rate(1, 1), rate(1, 2))
    assert (loose.threshold, loose.overlap, loose.clean) == (0.9, rate(2, 2), rate(0, 1))
    assert loose.change.value == pytest.approx(2 / 3)
    with pytest.raises(CurateError, match="a:3 has no decision"):
        sweep(frame, decisions.head(3), [0.9])
    with pytest.raises(CurateError, match="split is empty"):
        sweep(frame.tail(1), decisions, [0.9])


def test_the_same_rows_give_the_same_comparison() -> None:
    frame = split_rows((60, 40), (18, 2))
    first: Comparison = compare(frame)
    assert first == compare(frame)
    assert not math.isnan(first.change.low)
