"""What is weighed, and how the weights of the file become a share."""

from __future__ import annotations

import json
import math
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.verification import weights
from curate.verification.align import MEASURES
from curate.verification.verifiers import PIXELS_THRESHOLD

UNIT = st.floats(-1, 1)
ROW = st.tuples(
    *(UNIT, UNIT, UNIT, UNIT, st.floats(0, 1), st.floats(0, 40), UNIT, UNIT, st.floats(-5, 0), UNIT)
)
COUNT = len(MEASURES)


@given(st.lists(ROW, min_size=1, max_size=5))
def test_the_terms_are_the_measures_their_products_and_the_cosine(
    rows: list[tuple[float, ...]],
) -> None:
    measures, cosine = np.array(rows)[:, :COUNT], np.array(rows)[:, COUNT]
    before = measures.copy()
    found = weights.terms(measures, cosine)
    assert np.array_equal(measures, before)
    for line, row in zip(found, rows, strict=True):
        by_name = dict(zip(MEASURES, row[:COUNT], strict=True))
        gradient, kept, cosine_of_pair = by_name["gradient"], by_name["kept"], row[COUNT]
        fine, detail = by_name["fine"], by_name["detail"]
        moved = min(by_name["change"], 1.0)
        expected = [
            *row[:5], min(by_name["change"], 3.0), kept, cosine_of_pair,
            gradient**2, gradient * by_name["overlap"], gradient * by_name["tiles"],
            kept**2, kept * by_name["overlap"], kept * moved, moved**2,
            cosine_of_pair**2, cosine_of_pair * moved, cosine_of_pair**2 * moved,
            kept**4, fine, detail, fine * detail,
        ]  # fmt: skip
        assert line.tolist() == pytest.approx(expected, abs=1e-12)


@given(st.lists(ROW, min_size=1, max_size=5))
def test_a_share_is_the_logistic_of_the_weighted_sum(rows: list[tuple[float, ...]]) -> None:
    measures, cosine = np.array(rows)[:, :COUNT], np.array(rows)[:, COUNT]
    found = weights.share(measures, cosine)
    stored = json.loads(resources.files("curate.verification").joinpath("pixels.json").read_text())
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    for share, line in zip(found, weights.terms(measures, cosine), strict=True):
        total = math.fsum(w * x for w, x in zip(stored["weights"], line, strict=True))
        expected = 1 / (1 + math.exp(-(total + stored["offset"])))
        assert share == pytest.approx(expected, abs=1e-5)
        assert share == np.float32(round(float(share), 5))


def test_measures_in_single_precision_are_weighed_in_double() -> None:
    rng = np.random.default_rng(0)
    measures, cosine = rng.random((9, COUNT), np.float32), rng.random(9, np.float32)
    wide = weights.share(measures.astype(np.float64), cosine.astype(np.float64))
    assert np.array_equal(weights.share(measures, cosine), wide)


def test_no_measures_have_no_shares() -> None:
    assert weights.share(np.zeros((0, COUNT)), np.zeros(0)).shape == (0,)


def test_there_is_a_finite_weight_for_every_term() -> None:
    assert set(weights.WEIGHTS) == {"weights", "offset"}
    numbers = np.array([*weights.WEIGHTS["weights"], weights.WEIGHTS["offset"]])  # type: ignore[misc]
    assert len(numbers) == weights.terms(np.zeros((1, COUNT)), np.zeros(1)).shape[1] + 1
    assert np.isfinite(numbers).all()


def test_what_is_refused_is_far_below_what_is_a_copy() -> None:
    assert 0 < weights.FLOOR < PIXELS_THRESHOLD / 4
