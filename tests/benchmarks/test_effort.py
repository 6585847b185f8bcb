"""Labels that a plan needs, against those of plain random samples."""

import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_truths import FLOOR, LIKELY, TRUTHS, population

from curate.calibration import plan
from curate.stats import wilson

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import effort


def zones_and_shares(truth: str, units: int = 20_000) -> tuple[list[plan.Zone], list[float]]:
    scores = population(units, 0)
    zones = plan.zones(scores, FLOOR, LIKELY)
    edges = [np.inf if zone.high is None else zone.high for zone in zones]
    chance = TRUTHS[truth](scores)
    return zones, [
        float(chance[(scores >= zone.low) & (scores < high)].mean())
        for zone, high in zip(zones, edges, strict=True)
    ]


def test_a_plain_sample_needs_what_wilsons_interval_says() -> None:
    zones = [plan.Zone(1, 0.8, None, 10**8, 0.9), plan.Zone(2, 0.7, 0.8, 3 * 10**8, 0.1)]
    flagged, everything = effort.plain_labels(zones, [0.9, 0.1], 0.8, 0.02)
    low, high = wilson(round(flagged * 0.9), flagged)
    assert (high - low) / 2 <= 0.02
    low, high = wilson(round((flagged - 8) * 0.9), flagged - 8)
    assert (high - low) / 2 > 0.0199
    assert everything == 4 * flagged


def test_planned_labels_reach_the_width_and_no_fewer_do() -> None:
    zones, shares = zones_and_shares("sharp")
    needed = effort.planned_labels(zones, shares, LIKELY, 0.02)
    widths = [
        effort.half_width(zones, shares, plan.allocate(zones, labels), LIKELY)
        for labels in (needed - 20, needed)
    ]
    assert widths[1] <= 0.02 < widths[0]


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_plan_needs_less_than_half_of_a_plain_sample_of_all_units(truth: str) -> None:
    zones, shares = zones_and_shares(truth)
    _, everything = effort.plain_labels(zones, shares, LIKELY, 0.02)
    assert effort.planned_labels(zones, shares, LIKELY, 0.02) < everything / 2
