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
    """What is weighed: measures, powers, and products that let one count as another allows.

    Of pictures that lie on each other almost as they are, the network has to find them alike; of a
    small crop or a turned copy it need not, if the gradients agree. Drawings of one composition
    agree in all but fine detail: where there is some, it has to agree; small pictures have none.

    Args:
        measures: (n, 9), columns as `align.MEASURES`.
        cosine: (n,) of the two pictures' `builtin:copy` vectors.

    Returns:
        (n, 22).
    """
    light, gradient, colour, tiles, overlap, change, kept, fine, detail = np.asarray(
        measures, np.float64
    ).T
    change = np.minimum(change, _LARGEST_CHANGE)
    c, moved = cosine.astype(np.float64), np.minimum(change, 1.0)
    return np.column_stack(
        [
            *(light, gradient, colour, tiles, overlap, change, kept, c),
            *(gradient**2, gradient * overlap, gradient * tiles),
            *(kept**2, kept * overlap, kept * moved, moved**2),
            *(c**2, c * moved, c**2 * moved),
            *(kept**4, fine, detail, fine * detail),
        ]
    )


def share(measures: NDArray[np.floating], cosine: NDArray[np.floating]) -> NDArray[np.float32]:
    """Logistic score of pairs, (n, 9) and (n,) -> (n,) float32 in [0, 1], rounded to 5 digits."""
    logit = terms(measures, cosine) @ np.array(WEIGHTS["weights"]) + WEIGHTS["offset"]
    odds: NDArray[np.float64] = 1 / (1 + np.exp(-logit))
    return odds.round(_DIGITS).astype(np.float32)


def _read() -> dict[str, list[float] | float]:
    data = resources.files(__package__).joinpath(WEIGHTS_FILE).read_text("utf-8")
    found: dict[str, list[float] | float] = json.loads(data)
    return found


WEIGHTS = _read()
