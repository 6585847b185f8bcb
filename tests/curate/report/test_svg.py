from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report import svg


def test_attributes_and_content_are_escaped() -> None:
    made = svg.text("<b>&", 1, 2.5, class_='x" onload="alert(1)', text_anchor="end")
    root = ET.fromstring(made)
    assert root.text == "<b>&"
    assert root.attrib == {
        "x": "1", "y": "2.5", "class": 'x" onload="alert(1)', "text-anchor": "end",
    }  # fmt: skip


def test_a_drawing_is_one_named_image() -> None:
    root = ET.fromstring(svg.drawing(10, 20, "a <name>", [svg.title("t"), svg.element("g")]))
    assert (root.attrib["role"], root.attrib["aria-label"]) == ("img", "a <name>")
    assert root.attrib["viewBox"] == "0 0 10 20"
    assert [child.tag for child in root] == ["title", "g"]


def test_a_path_visits_its_points_and_closes() -> None:
    assert svg.path([(0, 1), (2.126, 3)]) == "M0 1 L2.13 3"
    assert svg.path([(0, 0), (1, 1)], closed=True).endswith("Z")


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_a_scale_maps_its_domain_onto_its_range(low: float, span: float, part: float) -> None:
    scale = svg.Scale(low, low + span, 50, 150)
    assert scale(low) == 50
    assert scale(low + part * span) == pytest.approx(50 + 100 * part, abs=1e-3)


def test_a_scale_of_nothing_stays_at_its_start() -> None:
    assert svg.Scale(1, 1, 7, 9)(1) == 7


@given(st.floats(-10, 10), st.floats(0.01, 100), st.integers(2, 9))
def test_ticks_are_few_readable_and_inside(low: float, span: float, about: int) -> None:
    marks = svg.ticks(low, low + span, about)
    assert len(marks) <= about + 1
    assert all(low - 1e-6 <= mark <= low + span + 1e-6 for mark in marks)
    steps = {f"{b - a:.6e}"[:1] for a, b in pairwise(marks)}
    assert steps <= {"1", "2", "5", "4", "9"}  # a rounded difference may print as 4.99 or 9.99


def test_ticks_of_an_empty_span_are_its_one_value() -> None:
    assert svg.ticks(1, 1, 5) == [1]
