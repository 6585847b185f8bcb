from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from curate.calibration.recall import ALL
from curate.report import ReportInputs, calibration
from curate.report.calibration import Calibrated

Calibrate = Callable[..., ReportInputs]


def found(inputs: ReportInputs) -> Calibrated:
    made = calibration.find(inputs)
    assert made is not None
    return made


def at(inputs: ReportInputs, threshold: float) -> ReportInputs:
    """The same split at another threshold, after it was calibrated."""
    return replace(inputs, split={**inputs.split, "threshold": threshold})


def test_a_run_without_a_calibration_has_none(run: ReportInputs) -> None:
    assert calibration.find(run) is None


def test_precision_and_leaked_images_are_those_of_the_calibration(
    run: ReportInputs, calibrate: Calibrate
) -> None:
    inputs = calibrate(run)
    data = found(inputs)
    assert inputs.calibration is not None
    rows = inputs.calibration["precision"]
    assert [point.threshold for point in data.precision] == [row["threshold"] for row in rows]
    assert [point.share.low for point in data.precision] == [row["low"] for row in rows]
    assert [point.number for point in data.precision] == [row["flagged"] for row in rows]
    assert data.leaked is not None
    assert data.leaked.low <= (data.leaked.value or 0) <= data.leaked.high
    assert (data.judged, data.units) == (90, inputs.pairs["test_id"].n_unique())


def test_recall_is_of_all_copies_by_rising_threshold(
    run: ReportInputs, calibrate: Calibrate
) -> None:
    inputs = calibrate(run)
    data = found(inputs)
    assert inputs.recall is not None
    pooled = inputs.recall.filter((pl.col("transformation") == ALL) & (pl.col("strength") == 0))
    assert [point.number for point in data.recall] == pooled.sort("threshold")["found"].to_list()
    assert {point.seen for point in data.recall} == {3 * 3 * 12}
    assert data.planted == 12


def test_kinds_stand_hardest_first_with_their_strengths_in_words(
    run: ReportInputs, calibrate: Calibrate
) -> None:
    inputs = calibrate(run)
    data = found(inputs)
    assert [kind.name for kind in data.kinds] == ["rotate", "crop_centre", "jpeg"]
    shares = [kind.recall for kind in data.kinds]
    assert shares == sorted(shares)
    assert [cell.words for cell in data.kinds[2].cells] == [
        "quality 75",
        "quality 40",
        "quality 10",
    ]
    assert inputs.recall is not None
    for kind in data.kinds:
        for cell in kind.cells:
            row = inputs.recall.filter(
                transformation=kind.name, strength=cell.strength, threshold=data.kinds_at
            )
            assert (cell.found, cell.share.low) == (row["found"][0], row["low"][0])


@pytest.mark.parametrize(("threshold", "measured"), [(0.93, 0.93), (0.9021, 0.905), (1.0, 1.0)])
def test_kinds_are_told_at_the_threshold_in_use_or_the_next_measured_one(
    run: ReportInputs, calibrate: Calibrate, threshold: float, measured: float
) -> None:
    data = found(at(calibrate(run), threshold))
    assert data.kinds_at == measured
    point = data.recall_at(threshold)
    assert point is not None
    assert point.threshold == measured


def test_precision_is_told_of_thresholds_that_were_measured_only(
    run: ReportInputs, calibrate: Calibrate
) -> None:
    data = found(calibrate(run))
    point = data.precision_at(0.93)
    assert point is not None
    assert point.number == run.split["counts"]["overlap"]
    assert data.precision_at(0.9021) is None


def test_what_was_not_measured_is_empty(run: ReportInputs, calibrate: Calibrate) -> None:
    data = found(calibrate(run, judged=False, planted=False))
    assert (data.precision, data.recall, data.kinds, data.leaked) == ((), (), (), None)
    assert data.proposed is None
    assert "no pair of the plan is judged" in data.reason
