import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report import words
from curate.report.figures import share

SPLIT = {
    "test": "cifar10-test",
    "train": "laion",
    "threshold": 0.93,
    "comparator": ">=",
    "counts": {"in": 10_000, "overlap": 412, "clean": 9588, "unknown": 0},
}


def test_finding_states_the_numbers_in_one_sentence() -> None:
    assert words.finding(SPLIT, share(412, 10_000)).replace("\N{NO-BREAK SPACE}", " ") == (
        "412 of 10,000 test images (4.1 %, 95 % CI 3.7\N{EN DASH}4.5) "
        "have a near-duplicate in laion at cosine ≥ 0.93"
    )


@pytest.mark.parametrize(
    ("total", "unknown", "hits", "start"),
    [
        (100, 2, 1, "1 of 98 readable test images ("),
        (100, 0, 0, "None of 100 test images has a near-duplicate in laion"),
        (1, 0, 0, "The one test image has no near-duplicate in laion"),
        (1, 0, 1, "1 of 1 test image (100"),
        (7, 7, 0, "None of the 7 test images could be read, so their overlap is unknown"),
        (0, 0, 0, "cifar10-test holds no test images"),
    ],
)
def test_finding_of_small_and_empty_runs(total: int, unknown: int, hits: int, start: str) -> None:
    split = SPLIT | {"counts": {"in": total, "unknown": unknown}}
    assert words.finding(split, share(hits, total - unknown)).startswith(start)


@given(st.floats(0.8125, 1, width=32), st.sampled_from([0.9, 0.93, 0.604169, 0.95]))
def test_a_printed_score_is_on_the_same_side_of_the_threshold_as_the_score(
    value: float, threshold: float
) -> None:
    printed = float(words.score(value, threshold))
    assert (printed >= threshold) == (np.float32(value) >= np.float32(threshold))
    assert printed == pytest.approx(value, abs=5e-5)


def test_a_score_just_short_of_the_threshold_gets_the_decimals_that_show_it() -> None:
    assert words.score(float(np.nextafter(np.float32(0.93), np.float32(0))), 0.93) == "0.9299999"
    assert words.score(0.9412345, 0.93) == "0.9412"


@pytest.mark.parametrize(
    ("hits", "total", "percent", "interval"),
    [
        (412, 10_000, "4.1", "3.7\N{EN DASH}4.5"),
        (231, 993, "23", "21\N{EN DASH}26"),
        (0, 20, "0", "0\N{EN DASH}16"),
    ],
)
def test_percentages_have_the_decimals_their_interval_supports(
    hits: int, total: int, percent: str, interval: str
) -> None:
    part = share(hits, total)
    assert words.percent(part) == f"{percent}\N{NO-BREAK SPACE}%"
    assert words.interval(part) == interval


@given(st.text())
def test_visible_text_holds_no_control_characters_or_direction_overrides(text: str) -> None:
    shown = words.visible(text)
    assert len(shown) == len(text)
    assert all(char.isprintable() or char in "\u200c\u200d" or ord(char) > 127 for char in shown)
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2069\u200e\x00\x1b\x7f\x85")


def test_visible_text_keeps_letters_of_all_scripts_and_joined_emoji() -> None:
    assert words.visible("naïve 猫 👩‍🚀") == "naïve 猫 👩‍🚀"
    assert words.visible("a\x00b\nc\u202ed\ud800") == "a\ufffdb c\ufffdd\ufffd"


@given(st.text(), st.integers(4, 50))
def test_shortened_text_keeps_its_ends(text: str, longest: int) -> None:
    short = words.shorten(text, longest)
    assert len(short) == min(len(text), longest)
    assert short[0:1] == text[0:1]
    assert short[-1:] == text[-1:]


def test_thresholds_are_printed_without_binary_noise() -> None:
    assert words.cosine(float(np.float32(0.93))) == "0.93"
    assert words.cosine(0.8) == "0.80"
    assert words.cosine(0.604169) == "0.604169"
    assert words.cosine(1) == "1.00"


def test_counts_are_grouped_and_agree_in_number() -> None:
    assert words.images(1) == "1 image"
    assert words.images(12_345) == "12,345 images"
