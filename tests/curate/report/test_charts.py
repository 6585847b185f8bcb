from collections.abc import Callable
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from curate.report import charts, figures

Scores = figures.Scores
SCORES: Scores = np.sort(np.linspace(0.8, 1, 400).astype(np.float32) ** np.float32(1.5))
SCORES = SCORES[np.searchsorted(SCORES, np.float32(0.8)) :]
CURVE = figures.sweep(SCORES, 500, figures.sweep_curve(0.8, 0.93))
RULE = charts.Rule(0.93, "cosine")
ROWS = figures.groups({
    "<b>cat": {"in": 10, "overlap": 5, "unknown": 0},
    "none": {"in": 2, "overlap": 0, "unknown": 2},
})  # fmt: skip
DRAWINGS: dict[str, Callable[[float], str]] = {
    "proportion": lambda w: charts.proportion({"clean": 10**6, "overlap": 1, "unknown": 0}, w),
    "histogram": lambda w: charts.histogram(figures.histogram(SCORES, 500, 0.8, 0.93), RULE, w),
    "sweep": lambda w: charts.sweep(CURVE, RULE, w),
    "classes": lambda w: charts.classes(ROWS, w),
}


def parts(drawing: str, tag: str, kind: str) -> list[ET.Element]:
    return [item for item in ET.fromstring(drawing).iter(tag) if item.get("class") == kind]


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_well_formed_named_and_free_of_inline_style(name: str) -> None:
    for drawing in charts.both(DRAWINGS[name]):
        root = ET.fromstring(drawing)
        assert root.get("aria-label")
        assert not any(item.get("style") for item in root.iter())


@pytest.mark.parametrize("name", DRAWINGS)
def test_nothing_is_drawn_outside_the_picture(name: str) -> None:
    for drawing in charts.both(DRAWINGS[name]):
        root = ET.fromstring(drawing)
        *_, width, height = (float(number) for number in root.attrib["viewBox"].split())
        for item in root.iter("rect"):
            x, y, w, h = (float(item.attrib[key]) for key in ("x", "y", "width", "height"))
            assert -0.1 <= x <= x + w <= width + 0.1
            assert -0.1 <= y <= y + h <= height + 0.1


def test_histogram_has_a_titled_bar_for_each_filled_bin_in_the_colour_of_its_side() -> None:
    data = figures.histogram(SCORES, 500, 0.8, 0.93)
    drawing = DRAWINGS["histogram"](charts.WIDE)
    for kind, side in (("overlap", True), ("clean", False)):
        bars = parts(drawing, "rect", kind)
        filled = [item for item in data.bins if item.count and item.flagged == side]
        assert len(bars) == len(filled)
        assert [bar[0].text.split(": ")[1] for bar in bars if bar[0].text] == [
            f"{item.count} image{'s' * (item.count != 1)}" for item in filled
        ]


def test_log_bars_keep_the_order_of_their_counts() -> None:
    scores = np.sort(np.repeat(np.array([0.85, 0.9, 0.96], np.float32), [1000, 1, 3]))
    data = figures.histogram(scores, 1004, 0.8, 0.93)
    assert data.log
    root = ET.fromstring(charts.histogram(data, RULE, charts.WIDE))
    bars = [item for item in root.iter("rect") if item.get("class") in {"clean", "overlap"}]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[0] > heights[2] > heights[1] > 5


def test_the_smallest_part_of_a_million_is_still_seen() -> None:
    (sliver,) = parts(DRAWINGS["proportion"](charts.NARROW), "rect", "overlap")
    assert float(sliver.attrib["width"]) >= 1.5
    assert sliver[0].text == "overlap: 1 image"


def test_an_empty_set_draws_an_empty_bar() -> None:
    drawing = charts.proportion({"clean": 0, "overlap": 0, "unknown": 0}, charts.WIDE)
    assert "no images" in drawing


def test_sweep_marks_the_threshold_in_use_on_the_curve() -> None:
    (dot,) = parts(DRAWINGS["sweep"](charts.WIDE), "circle", "dot")
    (line,) = parts(DRAWINGS["sweep"](charts.WIDE), "path", "line")
    assert f"{dot.get('cx')} {dot.get('cy')}" in line.attrib["d"]


@pytest.mark.parametrize("name", ["histogram", "sweep"])
def test_the_axis_says_what_the_scores_are(name: str) -> None:
    data = figures.histogram(SCORES, 500, 0.8, 0.93)
    rule = charts.Rule(0.93, "score of <pixels>")
    drawn = {
        "histogram": charts.histogram(data, rule, charts.WIDE),
        "sweep": charts.sweep(CURVE, rule, charts.WIDE),
    }
    (unit,) = parts(drawn[name], "text", "unit")
    assert unit.text == "score of <pixels>"


def test_class_names_are_text_and_a_class_without_readable_images_has_no_whisker() -> None:
    root = ET.fromstring(DRAWINGS["classes"](charts.WIDE))
    names = [item.text for item in root.iter("text") if item.get("class") == "name"]
    assert names == ["<b>cat", "none"]
    assert [len(item) for item in root.iter("g") if item.get("class") == "whisker"] == [3, 0]


def test_gauge_is_decoration_and_takes_the_colour_of_its_side() -> None:
    for score, kind in ((float(np.float32(0.95)), "overlap"), (0.9, "clean")):
        drawing = charts.gauge(score, 0.8, 0.95)
        assert ET.fromstring(drawing).get("aria-hidden") == "true"
        assert len(parts(drawing, "circle", kind)) == 1
