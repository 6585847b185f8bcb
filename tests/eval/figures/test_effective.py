from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from curate.errors import CurateError
from eval.figures.effective import (
    PAIRS,
    Pair,
    effective_robustness,
    expit,
    find_baseline,
    fit,
    fit_csv,
    logit,
    read_baselines,
    resampled_predictions,
    write_baselines,
)
from eval.figures.rates import rate

if TYPE_CHECKING:
    from pathlib import Path

V2 = "imagenetv2-matched-frequency-format-val"
VID, YTBB = "imagenet-vid-robust", "ytbb-robust"

# columns of the testbed's table: x, y; accuracies of its two zero-shot CLIP rows, in percent; and
# the effective robustness of each in points
CLIP = [
    ("val", V2, 63.302, 55.77, 5.63, 59.808, 52.53, 5.79),
    ("val", "imagenet-sketch", 63.302, 42.37, 28.02, 59.808, 35.38, 22.86),
    ("val-on-imagenet-r-classes", "imagenet-r", 88.10, 69.26, 38.95, 85.76, 60.46, 32.86),
    ("val-on-objectnet-classes", "objectnet-1.0-beta", 70.93, 43.96, 18.10, 66.85, 40.28, 17.85),
    ("val-on-vid-robust-classes", f"{VID}_pm0", 97.69, 82.24, 19.16, 97.22, 75.56, 14.85),
    (f"{VID}_pm0", f"{VID}_pm10", 82.24, 66.01, -4.58, 75.56, 53.92, -6.80),
    ("val-on-ytbb-robust-classes", f"{YTBB}_pm0", 98.41, 67.00, 9.91, 98.37, 63.99, 7.09),
    (f"{YTBB}_pm0", f"{YTBB}_pm10", 67.00, 54.38, -0.82, 63.99, 49.41, -1.59),
    ("val", "stylized_imagenet", 63.302, 21.24, 10.28, 59.808, 12.72, 3.59),
]
CASES = [(x, y, *row) for x, y, *rest in CLIP for row in (rest[:3], rest[3:])]


@pytest.mark.parametrize(("x", "y", "on_x", "on_y", "expected"), CASES)
def test_zero_shot_clip_has_its_known_effective_robustness(
    x: str, y: str, on_x: float, on_y: float, expected: float
) -> None:
    baseline = find_baseline(read_baselines(), y, x)
    found = on_y - 100 * baseline.predict(on_x / 100)
    assert found == pytest.approx(expected, abs=0.05)


def test_the_lines_that_ship_are_those_of_the_models_that_ship() -> None:
    for item in read_baselines():
        usable = [p for p in item.points if 0 < p[0] < 1 and 0 < p[1] < 1]
        knot = math.inf if item.knot is None else item.knot
        parts = [[p for p in usable if p[0] < knot], [p for p in usable if p[0] >= knot]]
        assert sum(line.n for line in item.lines) == len(usable)
        for line, part in zip(item.lines, parts, strict=False):
            oracle = linregress(*logit(np.array(part)).T)
            assert line.slope == pytest.approx(oracle.slope, abs=1e-9)
            assert line.intercept == pytest.approx(oracle.intercept, abs=1e-9)
            assert line.r2 == pytest.approx(oracle.rvalue**2, abs=1e-9)
            assert line.n == len(part)


def test_every_baseline_ships_with_source_and_licence() -> None:
    assert [(item.x, item.y) for item in read_baselines()] == [(pair.x, pair.y) for pair in PAIRS]
    sizes = {item.y: [line.n for line in item.lines] for item in read_baselines()}
    assert sizes[V2] == [85]
    assert sizes["imagenet-a"] == [33, 51]


def test_imagenet_a_has_a_kink_at_a_resnet_50() -> None:
    baseline = find_baseline(read_baselines(), "imagenet-a")
    assert baseline.knot == pytest.approx(0.9186)
    below, above = baseline.lines
    for share, line in ((0.9185, below), (0.9187, above)):
        expected = expit(line.slope * logit(np.float64(share)) + line.intercept)
        assert baseline.predict(share) == pytest.approx(float(expected))
    # made of what it gets wrong, so that model itself is on neither line
    assert dict(zip(baseline.models, baseline.points, strict=True))["resnet50"][1] == 0


@given(st.floats(0.001, 0.999))
def test_logits_and_shares_are_inverse(share: float) -> None:
    assert float(expit(logit(np.float64(share)))) == pytest.approx(share)


def test_nothing_right_and_everything_right_have_predictions_too() -> None:
    baseline = find_baseline(read_baselines(), V2)
    assert (baseline.predict(0.0), baseline.predict(1.0)) == (0.0, 1.0)


def made_up(noise: float = 0.0) -> pl.DataFrame:
    """Forty models near the line of slope 0.8 and intercept -0.5."""
    generator = np.random.default_rng(3)
    x = np.linspace(0.3, 0.9, 40)
    y = expit(0.8 * logit(x) - 0.5 + noise * generator.standard_normal(40))
    names = [f"net-{i}" for i in range(40)]
    return pl.DataFrame({"model": names, "plain": 100 * x, "shifted": 100 * y})


PAIR = (Pair("plain", "shifted"),)


def test_a_line_is_found_again() -> None:
    (found,) = fit(made_up(), PAIR)
    (line,) = found.lines
    assert (line.slope, line.intercept) == (pytest.approx(0.8), pytest.approx(-0.5))
    assert (line.r2, line.n) == (pytest.approx(1.0), 40)


def test_models_without_one_accuracy_are_left_out() -> None:
    table = made_up().with_columns(
        shifted=pl.when(pl.col("model") == "net-3").then(None).otherwise("shifted")
    )
    (found,) = fit(table, PAIR)
    assert found.lines[0].n == 39
    assert "net-3" not in found.models


def test_a_model_that_is_never_right_is_in_no_line() -> None:
    table = pl.concat(
        [made_up(), pl.DataFrame({"model": ["z"], "plain": [50.0], "shifted": [0.0]})]
    )
    (found,) = fit(table, PAIR)
    assert found.lines[0].n == 40
    assert "z" in found.models


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (made_up().drop("model"), "a column named model"),
        (made_up().drop("plain"), "column plain: missing"),
        (pl.concat([made_up(), made_up().head(1)]), "model net-0: has more than one row"),
        (made_up().with_columns(plain=pl.col("plain") * 2), "percent, from 0 to 100"),
        (made_up().head(2), "2 models have both accuracies"),
        (made_up().with_columns(plain=pl.lit(50.0)), "that differ"),
    ],
)
def test_tables_that_give_no_line_are_refused(table: pl.DataFrame, message: str) -> None:
    with pytest.raises(CurateError, match=message):
        fit(table, PAIR)


def test_a_kink_needs_its_model() -> None:
    with pytest.raises(CurateError, match="kink at resnet50, which is missing"):
        fit(made_up(), (Pair("plain", "shifted", "resnet50"),))


def test_a_csv_file_is_fitted_where_it_has_both_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    made_up().rename({"plain": "val", "shifted": V2}).write_csv(path)
    (found,) = fit_csv(path)
    assert (found.x, found.y) == ("val", V2)
    made_up().write_csv(path)
    with pytest.raises(CurateError, match=r"mine\.csv: has both columns of no baseline; wanted"):
        fit_csv(path)
    with pytest.raises(CurateError, match=r"none\.csv: not readable"):
        fit_csv(tmp_path / "none.csv")


def test_baselines_come_back_from_a_file(tmp_path: Path) -> None:
    rounded = made_up(0.1).with_columns(pl.col("plain", "shifted").round(3))
    found = fit(rounded, PAIR)
    write_baselines(tmp_path / "lines.json", found, "a study", "MIT")
    (again,) = read_baselines(tmp_path / "lines.json")
    assert again.lines == found[0].lines
    points = dict(zip(found[0].models, found[0].points, strict=True))
    assert np.allclose(again.points, [points[name] for name in again.models], atol=1e-12)
    assert json.loads((tmp_path / "lines.json").read_text())["licence"] == "MIT"


def test_a_file_that_holds_no_baselines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_text('{"format": 1}')
    with pytest.raises(CurateError, match=r"lines\.json: not readable as baselines"):
        read_baselines(path)
    path.write_text('{"format": 9, "baselines": []}')
    with pytest.raises(CurateError, match="format 9, not 1"):
        read_baselines(path)
    with pytest.raises(CurateError, match="no baseline from any set to mnist"):
        find_baseline(read_baselines(), "mnist")


def test_resampled_lines_are_those_of_refits() -> None:
    (baseline,) = fit(made_up(0.3), PAIR)
    found = resampled_predictions(baseline, np.full(3000, 0.6), np.random.default_rng(0))
    generator = np.random.default_rng(1)
    points = logit(np.array(baseline.points))
    slow = []
    for _ in range(1000):
        line = linregress(*points[generator.integers(0, 40, 40)].T)
        slow.append(float(expit(line.slope * logit(np.float64(0.6)) + line.intercept)))
    assert found.mean() == pytest.approx(np.mean(slow), abs=1e-3)
    assert found.std() == pytest.approx(np.std(slow), rel=0.1)


def test_resampled_lines_keep_their_kink() -> None:
    baseline = find_baseline(read_baselines(), "imagenet-a")
    for share in (0.8, 0.95):
        drawn = resampled_predictions(baseline, np.full(500, share), np.random.default_rng(0))
        assert np.nanmedian(drawn) == pytest.approx(baseline.predict(share), rel=0.1)


def test_an_interval_holds_the_uncertainty_of_images_and_of_the_line() -> None:
    exact, rough = fit(made_up(), PAIR)[0], fit(made_up(0.5), PAIR)[0]
    x, y = rate(600, 1000), rate(700, 1000)
    found = effective_robustness(exact, x, y)
    assert found.value == pytest.approx(0.7 - exact.predict(0.6))
    assert found.low < found.value < found.high
    many = effective_robustness(exact, rate(60_000, 100_000), rate(70_000, 100_000))
    assert many.high - many.low < (found.high - found.low) / 5
    unsure = effective_robustness(rough, rate(60_000, 100_000), rate(70_000, 100_000))
    assert unsure.high - unsure.low > 3 * (many.high - many.low)
    assert effective_robustness(exact, x, y) == found


def test_an_empty_set_has_no_effective_robustness() -> None:
    with pytest.raises(ValueError, match="no images"):
        effective_robustness(read_baselines()[0], rate(0, 0), rate(1, 2))
