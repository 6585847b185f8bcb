"""The score that decides: the cosine of two stored vectors, the same bits on every path.

Products of float16 or float32 entries are exact in float64. They are summed in a balanced tree
whose shape depends on the width alone, and the cosine is rounded once to float32. Every step is one
IEEE 754 operation, so neither vector units, threads, block sizes nor a GPU show in a score.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 17
"""Entries of float64 that are worked on at a time, so that they stay in a core's cache."""

_MIDDLE = (2.0**-64, 2.0**64)
"""Lengths whose reciprocal, and whose entries' quotients, stay well inside float32."""


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to unit length: (n, d) any float -> (n, d) float32, C-contiguous.

    A row that is zero or not finite becomes zero, so it matches nothing. Each entry is off by at
    most 3 u of itself, u = 2^-24, or 2^-62 where that is more.
    """
    out = np.empty(vectors.shape, dtype=np.float32)
    step = max(1, _CHUNK // vectors.shape[1])
    for at in range(0, len(vectors), step):
        out[at : at + step] = _unit(np.asarray(vectors[at : at + step]))
    return out


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        rows = vectors.astype(np.float32)
        length = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        odd = np.flatnonzero(~((length > _MIDDLE[0]) & (length < _MIDDLE[1])))
        if len(odd):
            rows[odd] = balanced(vectors[odd]).astype(np.float32)
            length[odd] = lengths(rows[odd])
        usable = np.isfinite(length) & (length > 0)
        scale = (1 / length).astype(np.float32)
        return np.where(usable[:, None], rows * scale[:, None], np.float32(0))


def usable_rows(units: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows of `unit_rows` are of a vector that can match: (n,)."""
    return np.asarray(units.any(axis=1))


def lengths(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Length of each row as `pair_scores` takes it, float64 rows scaled first: (n, d) -> (n,)."""
    out = np.empty(len(vectors))
    step = max(1, _CHUNK // vectors.shape[1])
    for at in range(0, len(vectors), step):
        rows = _exact(vectors[at : at + step])
        out[at : at + step] = _tree_sum(rows.square_()).numpy()
    return np.sqrt(out, out=out)  # torch's square root is not always the nearest float64


def pair_scores(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    a_lengths: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Cosine of `a[i]` and `b[j]`: (p,) float32; -inf where a row is zero or not finite.

    Args:
        a: (n, d) stored vectors of any float type and any length.
        b: (m, d) likewise; may be memory-mapped.
        i: (p,) rows of `a`.
        j: (p,) rows of `b`.
        a_lengths: (n,) `lengths(a)`, if they are known.
    """
    out = np.empty(len(i), dtype=np.float32)
    step = max(1, _CHUNK // a.shape[1])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        left = _lengths_at(a, i) if a_lengths is None else a_lengths[i]
        length = left * _lengths_at(b, j)
        for at in range(0, len(i), step):
            part = slice(at, at + step)
            dot = _tree_sum(_exact(a[i[part]]).mul_(_exact(b[j[part]])))
            cosine = dot.numpy() / length[part]
            out[part] = np.where(np.isfinite(cosine), cosine, -np.inf)
    return out + np.float32(0)  # no negative zero: equal scores have equal bits


def _lengths_at(vectors: NDArray[np.floating], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    if len(vectors) <= len(rows):
        return lengths(vectors)[rows]
    wanted, place = np.unique(rows, return_inverse=True)
    return lengths(vectors[wanted])[place]


def _exact(vectors: NDArray[np.floating]) -> "torch.Tensor":
    """Rows as float64 whose squares cannot overflow: only float64 itself needs scaling for that.

    torch rather than numpy, which converts float16 ten times as slowly, and on one core.
    """
    import torch

    if vectors.dtype.itemsize >= np.dtype(np.float64).itemsize:
        return torch.from_numpy(balanced(vectors))
    rows = vectors if vectors.flags.writeable else vectors.copy()
    return torch.from_numpy(np.ascontiguousarray(rows)).float().double()


def balanced(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Each row times the power of two that brings its largest entry into [1/2, 1)."""
    rows = vectors.astype(np.float64)
    _, exponent = np.frexp(np.abs(rows).max(axis=1))
    return np.asarray(np.ldexp(rows, -exponent[:, None]))


def _tree_sum(terms: "torch.Tensor") -> "torch.Tensor":
    """Sum of each row by halving, in place: (n, d) -> (n,). `terms` is spoilt."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0].contiguous()


def rounding_allowance(dim: int) -> float:
    """How far a float32 product of unit rows can be from the score that decides.

    Let u = 2^-24 and gamma_d = d u / (1 - d u). The inner product of two float32 rows x, y of width
    d, summed in any order, with or without fused operations, is off by at most
    gamma_d * sum |x_k y_k| <= gamma_d |x| |y| (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., section 3.1). To this come:

    - `unit_rows` rounds each entry at most three times (to float32, the scale, the product), so
      |x| |y| <= (1 + 4 u)^2, and the exact product of the rounded rows is within 6 u + 9 u^2 of the
      cosine, by Cauchy and Schwarz;
    - the score is rounded to float32: u / 2 for a cosine of at most 1; its float64 operations add
      less than (log2 d + 6) 2^-52;
    - underflow: an entry or a product below 2^-126 may be lost whole where the hardware flushes
      such numbers to zero; entries are scaled by 2^64 at most, so all together lose under
      3 d 2^-62.

    For d < 2^20 the three are below 8 u. The bound doubles that.

    Args:
        dim: width of the vectors, below 2^20.
    """
    u = 2.0**-24
    gamma = dim * u / (1 - dim * u)
    return gamma * (1 + 16 * u) + 16 * u
