from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from curate.calibration.counts import Estimate
from curate.report import ReportInputs, calibration, calibration_charts, charts
from curate.report.calibration import Calibrated, Cell, Kind

RULE = charts.Rule(0.93, "normalised score")
WIDTHS = (charts.WIDE, charts.NARROW)


@pytest.fixture(scope="module")
def data(run: ReportInputs, calibrate: Callable[..., ReportInputs]) -> Calibrated:
    found = calibration.find(calibrate(run))
    assert found is not None
    return found


def parts(drawing: str, tag: str, kind: str) -> list[ET.Element]:
    return [item for item in ET.fromstring(drawing).iter(tag) if item.get("class") == kind]


def drawings(data: Calibrated) -> list[str]:
    return [
        *(calibration_charts.curves(data, RULE, width) for width in WIDTHS),
        *(calibration_charts.kinds(data.kinds, width) for width in WIDTHS),
    ]


def test_drawings_are_well_formed_named_and_free_of_inline_style(data: Calibrated) -> None:
    for drawing in drawings(data):
        root = ET.fromstring(drawing)
        assert root.get("aria-label")
        assert not any(item.get("style") for item in root.iter())


def test_nothing_is_drawn_outside_the_picture(data: Calibrated) -> None:
    for drawing in drawings(data):
        root = ET.fromstring(drawing)
        *_, width, height = (float(number) for number in root.attrib["viewBox"].split())
        spots = [(item.attrib["cx"], item.attrib["cy"]) for item in root.iter("circle")]
        for item in root.iter("line"):
            spots += [(item.attrib[f"x{end}"], item.attrib[f"y{end}"]) for end in "12"]
        assert spots
        for x, y in spots:
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


def test_precision_and_recall_are_lines_over_bands(data: Calibrated) -> None:
    drawing = calibration_charts.curves(data, RULE, charts.WIDE)
    for kind in ("precision", "recall"):
        assert len(parts(drawing, "path", f"band {kind}")) == 1
        assert len(parts(drawing, "path", f"line {kind}")) == 1
    assert len(parts(drawing, "g", "probe")) == len(data.recall)


def test_a_precision_that_is_not_known_leaves_a_gap(data: Calibrated) -> None:
    middle = len(data.precision) // 2
    gap = replace(data.precision[middle], share=Estimate(None, 0.0, 1.0))
    points = (*data.precision[:middle], gap, *data.precision[middle + 1 :])
    drawing = calibration_charts.curves(replace(data, precision=points), RULE, charts.WIDE)
    assert len(parts(drawing, "path", "line precision")) == 2


def test_the_wanted_precision_and_the_proposed_threshold_are_marked(data: Calibrated) -> None:
    assert data.proposed is not None
    drawing = calibration_charts.curves(data, RULE, charts.WIDE)
    (across,), (down,) = parts(drawing, "line", "wanted"), parts(drawing, "line", "proposed")
    assert across.attrib["y1"] == across.attrib["y2"]
    (dot,) = parts(drawing, "circle", "dot precision")
    assert dot.attrib["cx"] == down.attrib["x1"] == down.attrib["x2"]
    (line,) = parts(drawing, "path", "line precision")
    assert f"{dot.attrib['cx']} {dot.attrib['cy']}" in line.attrib["d"]
    (used,) = parts(drawing, "line", "threshold")
    assert (float(used.attrib["x1"]) < float(down.attrib["x1"])) == (data.proposed > 0.93)
    (unit,) = parts(drawing, "text", "unit")
    assert unit.text == "normalised score"


def test_without_a_proposal_or_labels_nothing_of_them_is_drawn(data: Calibrated) -> None:
    bare = replace(data, proposed=None, precision=())
    drawing = calibration_charts.curves(bare, RULE, charts.WIDE)
    for kind in ("wanted", "proposed"):
        assert not parts(drawing, "line", kind)
    assert not parts(drawing, "path", "line precision")
    assert parts(drawing, "path", "line recall")


def test_each_kind_has_a_dot_on_a_whisker_for_each_strength(data: Calibrated) -> None:
    drawing = calibration_charts.kinds(data.kinds, charts.WIDE)
    for strength in (1, 2, 3):
        marks = parts(drawing, "g", f"strength-{strength}")
        assert len(marks) == len(data.kinds)
        for mark, kind in zip(marks, data.kinds, strict=True):
            cell = kind.cells[strength - 1]
            low, high = (float(mark[1].attrib[name]) for name in ("x1", "x2"))
            assert low <= float(mark[2].attrib["cx"]) <= high
            assert f"{cell.found} of {cell.copies}" in (mark[0].text or "")


def test_names_of_kinds_are_text() -> None:
    cell = Cell(1, "<i>", 2, 1, Estimate(0.5, 0.1, 0.9))
    drawing = calibration_charts.kinds([Kind("<b>_cat", (cell,))], charts.NARROW)
    (name,) = parts(drawing, "text", "name")
    assert name.text == "<b> cat"
