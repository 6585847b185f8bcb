"""Populations of scores and true answers on which calibration is tried out."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.calibration import plan, precision
from curate.calibration.precision import Sample

FLOOR, LIKELY = 0.70, 0.82

TRUTHS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float64]]] = {
    "sharp": lambda s: 1 / (1 + np.exp(-(s.astype(np.float64) - 0.82) / 0.008)),
    "flat": lambda s: np.full(len(s), 0.6),
    "all true": lambda s: np.ones(len(s)),
    "rare": lambda s: np.full(len(s), 0.02),
    "nearly all": lambda s: np.full(len(s), 0.96),
    "not monotone": lambda s: np.where((s > 0.84) & (s < 0.88), 0.4, 0.97),
}
"""The chance that a unit with a score is a copy."""


def population(count: int, seed: int) -> NDArray[np.float32]:
    """Scores from the floor up, most of them low."""
    rng = np.random.default_rng([seed, 1])
    return np.clip(FLOOR + rng.exponential(0.06, count), FLOOR, 1).astype(np.float32)


def surveyed(truth: str, count: int, labels: int, seed: int) -> tuple[Sample, NDArray[np.bool_]]:
    """A population of which some pairs were drawn and judged, and what is true of all."""
    scores = population(count, seed)
    is_copy = np.random.default_rng([seed, 2]).random(count) < TRUTHS[truth](scores)
    ids = [f"t:{number}" for number in range(count)]
    units = pl.DataFrame({"unit": ids, "test_id": ids, "train_id": ids, "score": scores})
    drawn = plan.draw(units, plan.zones(scores, FLOOR, LIKELY), labels, seed)
    words = pl.DataFrame({"test_id": ids, "train_id": ids, "copy": is_copy})
    return Sample(scores, precision.answered(drawn, words)), is_copy


def covered(
    truth: str, count: int, labels: int, repeats: int, thresholds: Sequence[float]
) -> dict[float, float]:
    """The share of repeated surveys whose interval holds the true number, by threshold."""
    hits = dict.fromkeys(thresholds, 0)
    for seed in range(repeats):
        sample, is_copy = surveyed(truth, count, labels, seed)
        for threshold in thresholds:
            found = precision.at(sample, threshold, 0.95)
            assert found is not None
            true = int(is_copy[plan.at_least(sample.scores, threshold)].sum())
            hits[threshold] += found.copies.low - 1e-6 <= true <= found.copies.high + 1e-6
    return {threshold: count / repeats for threshold, count in hits.items()}
