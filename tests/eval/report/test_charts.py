from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from curate.report.charts import NARROW, WIDE
from eval.figures.effective import find_baseline, read_baselines
from eval.report import Inputs, charts
from eval.report.figures import Numbers, numbers


@pytest.fixture(scope="module")
def found(inputs: Inputs) -> Numbers:
    return numbers(inputs)


def drawn(found: Numbers, width: float) -> dict[str, str]:
    models = found.models
    return {
        "scatter": charts.scatter(found.scatters[0], models, width),
        "corruptions": charts.corruptions(found.corrupted[0], models, width),
        "attacks": charts.attacks(found.attacks[0], models, width),
        "dumbbells": charts.dumbbells(found.compared[:30], models, width),
        "sweep": charts.sweep(found.sweeps[0], width),
    }


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_drawing_is_whole_and_stays_inside_its_frame(found: Numbers, width: float) -> None:
    for name, text in drawn(found, width).items():
        root = ET.fromstring(text)
        _, _, wide, high = (float(part) for part in root.attrib["viewBox"].split())
        assert wide == width
        for element in root.iter():
            for key, value in element.attrib.items():
                if key in {"x", "x1", "x2", "cx"}:
                    assert -0.5 <= float(value) <= wide + 0.5, (name, element.tag, key, value)
                if key in {"y", "y1", "y2", "cy"}:
                    assert -0.5 <= float(value) <= high + 0.5, (name, element.tag, key, value)
            for a, b in re.findall(r"([-\d.]+) ([-\d.]+)", element.attrib.get("d", "")):
                assert -0.5 <= float(a) <= wide + 0.5, (name, a)
                assert -0.5 <= float(b) <= high + 0.5, (name, b)


def test_foreign_names_are_escaped_and_tamed(found: Numbers) -> None:
    for text in drawn(found, WIDE).values():
        assert "<img" not in text
        assert "\u202e" not in text


def test_a_model_has_one_colour_everywhere(found: Numbers) -> None:
    assert [charts.colour(found.models, model) for model in found.models] == ["m0", "m1"]
    many = [f"net-{i}" for i in range(20)]
    assert {charts.colour(many, model) for model in many} == {f"m{i}" for i in range(8)}


def test_models_are_where_their_accuracies_are(found: Numbers) -> None:
    text = charts.scatter(found.scatters[0], found.models, WIDE)
    places = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="5"', text)
    (x0, y0), (x1, y1) = ((float(a), float(b)) for a, b in places)
    # the second model is five points worse on both sets, so left of and below the first
    assert x1 < x0
    assert y1 > y0
    assert text.count('class="standard"') == 85
    assert text.count('class="baseline"') == 1


def test_a_kinked_baseline_is_two_lines(inputs: Inputs, found: Numbers) -> None:
    kinked = replace(
        found.scatters[0].shift, baseline=find_baseline(read_baselines(), "imagenet-a")
    )
    text = charts.scatter(replace(found.scatters[0], shift=kinked), found.models, WIDE)
    assert text.count('class="baseline"') == 2


def test_doubtful_bars_are_marked_with_their_reason(found: Numbers) -> None:
    text = charts.attacks(found.attacks[0], found.models, WIDE)
    assert text.count('class="m1 doubt"') == 5
    assert "unreliable: the gradient vanished" in text
    assert text.count("m0 doubt") == 0


def test_every_split_of_every_row_is_drawn(found: Numbers) -> None:
    text = charts.dumbbells(found.compared[:4], found.models, WIDE)
    for name in charts.PARTS:
        assert text.count(f'class="part-{name}"') == 4
    assert text.count("<rect") == 4
    own = [row for row in found.compared if row.model == found.models[0]]
    assert "<rect" not in charts.dumbbells(own[:4], found.models[:1], WIDE)


def test_the_threshold_in_use_is_marked(found: Numbers) -> None:
    text = charts.sweep(found.sweeps[0], WIDE)
    assert "threshold 0.90" in text
    known = [point for point in found.sweeps[0].points if point.change.value is not None]
    assert text.count('class="dot"') == len(known)
