from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.calibration.counts import Estimate
from curate.copies import STRENGTHS
from curate.report import words
from curate.report.calibration import Calibrated, Point
from curate.report.figures import share

SPLIT: dict[str, Any] = {
    "detector": {"name": "builtin:layout"},
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


@pytest.mark.parametrize(
    ("stated", "reduced"),
    [({}, False), ({"preprocessing": {"size": 32}}, False),
     ({"preprocessing": {"jpeg": {"decode": "scaled"}}}, True)],
)  # fmt: skip
def test_a_split_says_whether_jpegs_were_decoded_at_a_reduced_size(
    stated: dict[str, Any], *, reduced: bool
) -> None:
    assert words.is_reduced(SPLIT | {"detector": SPLIT["detector"] | stated}) is reduced


PIXELS = {"name": "builtin:copy", "verify": {"name": "pixels"}}
NORMALISED = {"name": "builtin:layout", "normalisation": {"beta": 1}}
CONFIRMED = {"name": "builtin:layout", "verify": {"name": "sscd:disc_mixup"}}


@pytest.mark.parametrize(
    ("detector", "name", "first"),
    [
        (SPLIT["detector"], "cosine", "cosine"),
        (NORMALISED, "normalised score", "normalised score"),
        (PIXELS, "score of the aligned pixels", "cosine"),
        (NORMALISED | PIXELS, "score of the aligned pixels", "normalised score"),
        (CONFIRMED, "cosine", "cosine"),
    ],
)
def test_scores_have_the_name_of_what_they_are(
    detector: dict[str, Any], name: str, first: str
) -> None:
    split = SPLIT | {"detector": detector}
    assert words.score_name(split) == name
    assert words.first_score_name(split) == first
    article = "a " if " " in name else ""
    assert f"in laion at {article}{name} ≥ 0.93" in words.finding(split, share(1, 9))


def test_the_rule_names_who_else_has_a_say() -> None:
    assert words.rule(SPLIT | {"detector": PIXELS}) == "score of the aligned pixels ≥ 0.93"
    said = SPLIT | {"detector": CONFIRMED, "labels": {"judged_copy": 1}}
    assert words.rule(said) == "cosine ≥ 0.93, confirmed by sscd:disc_mixup, or as people judged"
    assert words.second_look(SPLIT) is None


CALIBRATED = Calibrated(
    confidence=0.9, floor=0.7, units=1543, judged=180, leaked=Estimate(632.6, 539.7, 725.2),
    precision=(Point(0.93, 400, 90, Estimate(0.97, 0.951, 0.99)),),
    recall=(
        Point(0.93, 85, 100, Estimate(0.85, 0.84, 0.86)),
        Point(0.95, 75, 100, Estimate(0.75, 0.74, 0.76)),
    ),
    wanted=0.95, proposed=None, reason="", planted=9, unreadable=0, kinds=(), kinds_at=0.93,
)  # fmt: skip


def plain(text: str | None) -> str:
    return (text or "").replace("\N{NO-BREAK SPACE}", " ").replace("\N{EN DASH}", "-")


def test_leaked_images_are_told_with_their_interval_and_what_it_rests_on() -> None:
    assert plain(words.leaked(CALIBRATED, SPLIT | {"counts": {"in": 10_000}})) == (
        "About 633 (90 % CI 540-725) of the 10,000 test images are estimated to have a "
        "near-duplicate in laion that scores 0.70 or more, judging by 180 of 1,543 best pairs, "
        "labelled by hand"
    )


def test_where_a_zone_was_not_judged_only_the_bounds_are_told() -> None:
    data = replace(CALIBRATED, leaked=Estimate(None, 10, 725))
    assert plain(words.leaked(data, SPLIT)).startswith("Between 10 and 725 of the 10,000 test")
    assert words.leaked(replace(CALIBRATED, leaked=None), SPLIT) is None


def test_quality_is_told_of_the_threshold_in_use() -> None:
    assert plain(words.quality(CALIBRATED, SPLIT)) == (
        "At the threshold in use, 97 % (90 % CI 95-99) of what it flags are copies, by hand "
        "labels, and 85 % (90 % CI 84-86) of planted copies are found"
    )
    assert words.quality(replace(CALIBRATED, precision=(), recall=()), SPLIT) is None


def test_recall_at_a_threshold_that_was_not_measured_is_that_of_the_next_one() -> None:
    told = plain(words.quality(CALIBRATED, SPLIT | {"threshold": 0.94}))
    assert told == (
        "At the threshold in use, 75 % (90 % CI 74-76) of planted copies are found at 0.95"
    )


def test_a_share_that_is_not_known_is_a_dash() -> None:
    assert words.percent(Estimate(None, 0.1, 0.9)) == "\N{EN DASH}"


def test_strengths_have_names() -> None:
    assert [words.strength(number) for number in STRENGTHS] == ["mild", "medium", "strong"]


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
    assert words.level(float(np.float32(0.93))) == "0.93"
    assert words.level(0.8) == "0.80"
    assert words.level(0.604169) == "0.604169"
    assert words.level(1) == "1.00"


def test_counts_are_grouped_and_agree_in_number() -> None:
    assert words.images(1) == "1 image"
    assert words.images(12_345) == "12,345 images"
