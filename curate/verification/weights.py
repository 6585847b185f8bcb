"""The weights of the `pixels` verifier, as `train.copy_detector.pixels` fitted them."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS_FILE = "pixels.json"
FLOOR = 0.02
"""Scores below it are refused: among nearest neighbours of unrelated pictures most are."""
_LARGEST_CHANGE = 3.0
_DIGITS = 5


def terms(measures: NDArray[np.floating], cosine: NDArray[np.floating]) -> NDArray[np.float64]:
    """What is weighed.

    Args:
        measures: (n, 6), columns as `align.MEASURES`.
        cosine: (n,) of the two pictures' `builtin:copy` vectors.

    Returns:
        (n, 11): the measures, the change at most 3; the gradients' correlation squared, times the
        overlap and times that of the tiles; the cosine and its square.
    """
    m = np.array(measures, np.float64)
    m[:, 5] = np.minimum(m[:, 5], _LARGEST_CHANGE)
    gradient, tiles, overlap, c = m[:, 1], m[:, 3], m[:, 4], cosine.astype(np.float64)
    products = (gradient**2, gradient * overlap, gradient * tiles, c, c**2)
    return np.column_stack([m, *products])


def share(measures: NDArray[np.floating], cosine: NDArray[np.floating]) -> NDArray[np.float32]:
    """Logistic score of pairs, (n, 6) and (n,) -> (n,) float32 in [0, 1], rounded to 5 digits.

    0.5 is where one in 200 planted pairs of unrelated nearest neighbours scores higher.
    """
    logit = terms(measures, cosine) @ np.array(WEIGHTS["weights"]) + WEIGHTS["offset"]
    odds: NDArray[np.float64] = 1 / (1 + np.exp(-logit))
    return odds.round(_DIGITS).astype(np.float32)


def _read() -> dict[str, list[float] | float]:
    data = resources.files(__package__).joinpath(WEIGHTS_FILE).read_text("utf-8")
    found: dict[str, list[float] | float] = json.loads(data)
    return found


WEIGHTS = _read()
