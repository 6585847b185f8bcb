"""Short stand-ins for vectors whose inner product is an upper bound of the cosine.

Let W be a (d, k) matrix with spectral norm at most 1, so that I - W W^T is positive semidefinite.
For unit vectors a, b with p = W^T a, q = W^T b, by Cauchy and Schwarz in that semidefinite form,

    a.b = p.q + a^T (I - W W^T) b <= p.q + r s,   r = sqrt(1 - |p|^2),  s = sqrt(1 - |q|^2).

So the inner product of the (k + 1)-wide sketches (p, r) and (q, s), again of unit length, bounds
the cosine. W spans the leading principal directions of a sample, uncentred, where r and s are
smallest; it is turned at random within that span, which changes no bound but spreads a vector's
length over all coordinates, as a fixed-point code wants it. The residual stands in several equal
coordinates, r / sqrt(m) each, for the same reason. k = d, W = I is the full product.

A sketch is stored as a code c = s C in int8, bfloat16 or float32. With e = |sketch - c| measured
for each row over the first k coordinates, and residuals rounded up, the product of two sketches is
at most c.c' + |c| e' + e |sketch'|: nothing of the certificate rests on how well the code fits,
only its speed does.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from indices.scores import unit_rows

if TYPE_CHECKING:
    import torch

Precision = Literal["int8", "bf16", "fp32"]

_U = 2.0**-24
_TOP = 126.5
"""Largest coordinate of a sketch in steps of its int8 code; rounds to 127 at most."""
_COPIES = 2
"""Coordinates that share the residual; fewest candidates of 1, 2, 4, 8 on most sets tried."""
_SQUARES = (2.0**-60, 2.0**60)
"""Squared lengths that float32 sums up without loss."""


@dataclass(frozen=True)
class Sketcher:
    """How vectors of width `dim` become sketches of width `width`.

    Attributes:
        basis: (d, k) float32 with spectral norm at most 1; None is the identity.
        precision: how sketches are coded.
    """

    dim: int
    basis: NDArray[np.float32] | None
    precision: Precision

    @classmethod
    def of_width(cls, width: int, leading: NDArray[np.float64], precision: Precision) -> "Sketcher":
        """A sketch of that width along the leading of orthogonal directions (d, d)."""
        return cls(len(leading), turned(leading, width - _COPIES), precision)

    @property
    def width(self) -> int:
        """Coordinates of a sketch."""
        return self.columns + (0 if self.basis is None else _COPIES)

    @property
    def columns(self) -> int:
        """Coordinates of a sketch before its residual."""
        return self.dim if self.basis is None else self.basis.shape[1]

    @property
    def slack(self) -> float:
        """How far a cosine may be above the product of two computed sketches.

        With u = 2^-24, gamma = d u / (1 - d u): each of the k coordinates of W^T x is off by at
        most gamma |x| |w_i|, all together by gamma sqrt(k) |x|; the length |x| by gamma / 2 of
        itself, entry and quotient by 8 u. So p is off by delta = gamma (sqrt(k) + 1) + 8 u, p.q by
        2 delta + delta^2, and `_residual` only ever rounds r up. The score that decides is
        rounded to float32 (`indices.scores`): u.
        """
        delta = self._delta
        return 2 * delta + delta**2 + 2 * _U

    @property
    def _delta(self) -> float:
        gamma = self.dim * _U / (1 - self.dim * _U)
        products = 0 if self.basis is None else self.columns
        return float(gamma * (products**0.5 + 1) + 8 * _U)

    def sketches(self, rows: "NDArray[np.floating]", device: str) -> "torch.Tensor":
        """Sketch rows: (n, d) any float -> (n, width) float32 on `device`.

        A row that is zero or not finite becomes zero.
        """
        import torch

        # a copy in any case: what follows works in place
        given = torch.from_numpy(np.require(rows, requirements=["C", "W"]))
        x = given.to(device, torch.float32, copy=True)
        length = torch.linalg.vector_norm(x, dim=1)
        odd = ~((length > _SQUARES[0] ** 0.5) & (length < _SQUARES[1] ** 0.5))
        if odd.any():
            at = torch.nonzero(odd)[:, 0].cpu().numpy()
            x[odd] = torch.from_numpy(unit_rows(np.asarray(rows)[at])).to(device)
            length = torch.linalg.vector_norm(x, dim=1)
        inverse = torch.where(length > 0, 1 / length, 0)
        if self.basis is None:
            return x.mul_(inverse[:, None])
        p = torch.mm(x, torch.from_numpy(self.basis).to(device)).mul_(inverse[:, None])
        residual = self._residual(p).mul_(_COPIES**-0.5 * (length > 0))
        return torch.cat([p, *[residual[:, None]] * _COPIES], dim=1)

    def _residual(self, p: "torch.Tensor") -> "torch.Tensor":
        """At least sqrt(1 - |p|^2) for the exact p, of which this one is off by `_delta`."""
        spare = 2 * self._delta + 4 * (self.width + 4) * _U
        return ((1 - (p * p).sum(dim=1)).clamp_(min=0) + spare).sqrt_().mul_(1 + 8 * _U)


@dataclass(frozen=True)
class Codes:
    """Coded sketches: `scale * values`, within `error` of the sketch but for its residual.

    The residual is rounded up, so that the product of two is at least that of the sketches.

    Attributes:
        values: (n, width) int8, bfloat16 or float32.
        scale: (n,) float64; 0 marks a row that matches nothing.
        error: (n,) float64, at least the distance of code and sketch, without the residual.
        norm: (n,) float64, at least the length of the code, without the residual.
    """

    values: "torch.Tensor"
    scale: "torch.Tensor"
    error: "torch.Tensor"
    norm: "torch.Tensor"

    def __getitem__(self, rows: "slice | torch.Tensor") -> "Codes":
        """The codes of some rows."""
        return Codes(self.values[rows], self.scale[rows], self.error[rows], self.norm[rows])

    def __len__(self) -> int:
        return len(self.values)


def _fixed_point(
    sketches: "torch.Tensor", columns: int, *, one_scale: bool
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Values in int8, and the scale of each row."""
    import torch

    top = sketches.abs().amax(dim=1)
    if one_scale and len(top):
        top = top.amax().expand_as(top)
    scale = torch.where(top > 0, top / _TOP, 1)
    steps = sketches / scale[:, None]
    steps[:, :columns].round_()
    steps[:, columns:].mul_(1 + 8 * _U).ceil_()
    return steps.to(torch.int8), scale


def _brain_float(sketches: "torch.Tensor", columns: int) -> "torch.Tensor":
    """Values in bfloat16."""
    import torch

    values = sketches.to(torch.bfloat16)
    values[:, columns:] = (sketches[:, columns:] * (1 + 2.0**-7)).to(torch.bfloat16)
    return values


def encode(
    sketches: "torch.Tensor", columns: int, precision: Precision, *, one_scale: bool = False
) -> Codes:
    """Code sketches.

    Args:
        sketches: (n, width) float32.
        columns: coordinates before the residual; width if there is none.
        precision: of the values.
        one_scale: all rows by the scale that the largest of them needs.
    """
    import torch

    is_usable = sketches.any(dim=1)
    scale = torch.ones(len(sketches), device=sketches.device)
    if precision == "int8":
        values, scale = _fixed_point(sketches, columns, one_scale=one_scale)
    elif precision == "bf16":
        values = _brain_float(sketches, columns)
    else:
        values = sketches
    code = values[:, :columns].float() * scale[:, None]
    # float32 sums of squares of entries that are off by 2 u each
    more = 1 + (2 * columns + 16) * _U
    error = torch.linalg.vector_norm(sketches[:, :columns] - code, dim=1) * more + 4 * _U
    norm = torch.linalg.vector_norm(code, dim=1) * more
    return Codes(values, torch.where(is_usable, scale, 0).double(), error.double(), norm.double())


def directions(sample: NDArray[np.floating]) -> NDArray[np.float64]:
    """Principal directions of a sample, uncentred, the leading one first: (n, d) -> (d, d).

    Rows that are zero or not finite do not count.
    """
    units = unit_rows(sample).astype(np.float64)
    _, vectors = np.linalg.eigh(units.T @ units)
    return np.ascontiguousarray(vectors[:, ::-1])


def turned(leading: NDArray[np.float64], columns: int) -> NDArray[np.float32]:
    """The first columns of an orthogonal matrix, turned at random within their span, as a basis.

    Args:
        leading: (d, d).
        columns: at most d.

    Returns:
        (d, columns) float32 with spectral norm at most 1.
    """
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(columns, columns)))
    basis = leading[:, :columns] @ turn
    # rounding to float32 moves the norm by less than 2^-24 sqrt(columns)
    margin = 1 - _U * (columns**0.5 + 1)
    scaled: NDArray[np.float32] = (basis * (margin / np.linalg.norm(basis, 2))).astype(np.float32)
    return scaled
