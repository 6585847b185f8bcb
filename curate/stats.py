"""Interval estimates that more than one part of the product states."""

from statistics import NormalDist
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray


@overload
def wilson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]: ...
@overload
def wilson(
    k: NDArray[np.integer], n: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def wilson(
    k: int | NDArray[np.integer], n: ArrayLike, confidence: float = 0.95
) -> tuple[float, float] | tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson score interval of a binomial share, two-sided, no continuity correction.

    With p = k/n and z the normal quantile at (1 + confidence) / 2, the bounds are the roots of
    |p - q| = z sqrt(q (1 - q) / n):

        (p + z^2/2n  -+  z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927) 209-212. The lower bound is exactly 0 at k = 0 and the upper one exactly 1 at
    k = n. Nothing observed (n = 0) says nothing: (0, 1).

    Args:
        k: successes, an integer or an integer array of any shape.
        n: trials, broadcast against `k`.
        confidence: two-sided coverage, strictly between 0 and 1.

    Returns:
        Lower and upper bound: two floats for two integers, else two float64 arrays.

    Raises:
        ValueError: unless 0 <= k <= n and 0 < confidence < 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    hits, trials = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    if np.any(hits < 0) or np.any(hits > trials):
        raise ValueError("wilson needs 0 <= k <= n")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    size = np.maximum(trials, 1)
    share = hits / size
    centre = share + z * z / (2 * size)
    spread = z * np.sqrt(share * (1 - share) / size + (z / (2 * size)) ** 2)
    scale = 1 + z * z / size
    low = np.where(hits == 0, 0.0, (centre - spread) / scale)
    high = np.where(hits == trials, 1.0, (centre + spread) / scale)
    if low.ndim == 0:
        return float(low), float(high)
    return low, high
