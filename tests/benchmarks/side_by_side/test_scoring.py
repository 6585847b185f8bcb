"""Agreement of ranked test images with a list."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.side_by_side.scoring import Truth, among_best, at_threshold, best_threshold, figures

SCORES = {"a": 0.9, "b": 0.8, "c": 0.8, "d": 0.8, "e": 0.1}
TRUTH = Truth(
    near=frozenset("ab"),
    listed=frozenset("abe"),
    test_class=dict.fromkeys("abcdef", 1),
    train_class={"x": 1, "y": 2},
)
BEST = {name: ("y" if name == "d" else "x", score) for name, score in SCORES.items()} | {"f": None}


def recalls_of_every_order(scores: dict[str, float], listed: set[str], count: int) -> list[float]:
    """The slow twin: the share found by each order that the scores allow."""
    found = []
    for order in permutations(scores):
        ranked = [scores[name] for name in order]
        if ranked == sorted(ranked, reverse=True):
            found.append(len(listed & set(order[:count])) / len(listed))
    return found


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.1, 0.2, 0.3]), min_size=2),
    st.sets(st.sampled_from("abcdef"), min_size=1),
    st.integers(1, 2),
)
def test_ties_at_the_cut_give_the_range_and_mean_of_all_orders(
    scores: dict[str, float], listed: set[str], count: int
) -> None:
    found = among_best(scores, listed, count)
    every = recalls_of_every_order(scores, listed, count)
    assert found is not None
    assert found["low"] == pytest.approx(min(every), abs=0.001)
    assert found["high"] == pytest.approx(max(every), abs=0.001)
    assert found["expected"] == pytest.approx(sum(every) / len(every), abs=0.001)


def test_there_is_no_recall_among_more_images_than_have_a_score() -> None:
    assert among_best(SCORES, {"a"}, 6) is None


def test_a_threshold_flags_what_reaches_it_and_tells_other_classes_apart() -> None:
    found = at_threshold(BEST, TRUTH, 0.8)
    assert found["flagged"] == 4
    assert found["recall"] == 1.0
    assert found["recall_listed"] == pytest.approx(2 / 3, abs=0.001)
    assert found["same_class"] == 0.75


def test_a_threshold_above_all_flags_nothing_and_says_no_share() -> None:
    found = at_threshold(BEST, TRUTH, 0.95)
    assert (found["flagged"], found["recall"], found["same_class"]) == (0, 0.0, None)


def test_the_best_threshold_has_the_highest_f1_and_takes_equal_scores_together() -> None:
    assert best_threshold(SCORES, {"a"}) == 0.9
    assert best_threshold(SCORES, {"b"}) == 0.8
    assert best_threshold(SCORES, {"a", "b", "c", "d", "e"}) == 0.1


def test_a_tool_without_scores_or_default_has_neither_figure() -> None:
    found = figures(dict.fromkeys("abcdef"), TRUTH, None)
    assert found == {
        "recall": {"@250": None, "@500": None, "@1000": None},
        "recall_listed": {"@250": None, "@500": None, "@1000": None},
    }
