"""Products of coded sketches, and which of their entries cannot be ruled out.

`int8` products are exact integers. `fp32` and `bf16` products are summed in float32, so they are
off by at most gamma_w |c| |c'| for codes of width w (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 3.1), and |c| |c'| is below 2; a `bf16` result is then rounded to
bfloat16, which is monotonic: a sum at or above a bfloat16 number is never rounded below it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from indices.sketch import Codes, Precision, Sketcher, encode
from indices.stored import Numbers

if TYPE_CHECKING:
    import torch

_U = 2.0**-24
_NEVER = {"int8": 2**31 - 1, "bf16": float("inf"), "fp32": float("inf")}


@contextmanager
def plain_float32() -> Iterator[None]:
    """Keep torch from computing float32 products in a narrower type, whatever its user has set."""
    import torch

    settings = torch.backends.cuda.matmul
    precision, reduced = (
        torch.get_float32_matmul_precision(),
        settings.allow_bf16_reduced_precision_reduction,
    )
    torch.set_float32_matmul_precision("highest")
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        settings.allow_bf16_reduced_precision_reduction = reduced


@cache
def precisions(device: str) -> tuple[Precision, ...]:
    """The precisions that are fast and right on a device, fastest first; always has "fp32".

    An int8 product without VNNI instructions may saturate in silence, so it is put to the test.
    """
    import torch

    if device != "cpu":
        return ("bf16", "fp32")
    found: list[Precision] = []
    has = torch.cpu  # there is no public question for these
    if has._is_vnni_supported() and _int8_is_exact():  # noqa: SLF001
        found.append("int8")
    if has._is_avx512_bf16_supported() or has._is_amx_tile_supported():  # noqa: SLF001
        found.append("bf16")
    return (*found, "fp32")


def _int8_is_exact() -> bool:
    """Whether a product whose every step overflows 16 bits comes out right."""
    import torch

    a = torch.full((17, 64), 127, dtype=torch.int8)
    a[::2] = -127
    b = torch.full((24, 64), 127, dtype=torch.int8)
    b[::3] = -127
    try:
        product = torch._int_mm(a, b.t())  # noqa: SLF001  # no public name
    except (AttributeError, RuntimeError):
        return False
    return bool((product.double() == a.double() @ b.double().t()).all())


class QueryBlock:
    """Coded queries that are multiplied together, and what a product with them must reach.

    Attributes:
        numbers: (q,) which queries they are.
    """

    def __init__(self, codes: Codes, precision: Precision, numbers: Numbers) -> None:
        self.numbers = numbers
        self._precision = precision
        self._values = codes.values.t()
        self._scale = float(codes.scale.max())
        self._error = float(codes.error.max())
        self._norm = float((codes.norm + codes.error).max())

    def __len__(self) -> int:
        return int(self._values.shape[1])

    def scores(self, items: Codes, buffer: "torch.Tensor") -> "torch.Tensor":
        """Products with all items: (n, q) int32, bfloat16 or float32, in the buffer's memory."""
        import torch

        out = buffer[: len(items) * len(self)].view(len(items), len(self))
        if self._precision == "int8":
            return torch._int_mm(items.values, self._values, out=out)  # noqa: SLF001
        return torch.mm(items.values, self._values, out=out)

    def limits(self, items: Codes, least: float) -> "torch.Tensor":
        """What a product must reach to stand for an inner product of sketches >= least: (n,).

        By the error bound of `indices.sketch`, rounded down; a row that matches nothing gets a
        limit out of reach.
        """
        import torch

        bound = least - items.norm * self._error - items.error * self._norm
        if self._precision != "int8":
            bound = bound - 4 * items.values.shape[1] * _U
        limit = bound / torch.where(items.scale > 0, items.scale * self._scale, 1)
        limit = self._rounded_down(limit)
        limit[items.scale == 0] = _NEVER[self._precision]
        return limit

    def _rounded_down(self, limit: "torch.Tensor") -> "torch.Tensor":
        import torch

        if self._precision == "int8":
            return (limit.floor() - 1).clamp_(-(2.0**31), 2.0**31 - 1).to(torch.int32)
        kind = torch.bfloat16 if self._precision == "bf16" else torch.float32
        near = limit.to(kind)
        return torch.where(near.double() > limit, torch.nextafter(near, -near.abs() - 1), near)


def query_blocks(
    sketches: "torch.Tensor", sketcher: Sketcher, size: int, first: int = 0
) -> Iterator[QueryBlock]:
    """Blocks of at most `size` queries, numbered from `first`, whose codes share a scale.

    So they are put together by their largest entry. Queries that match nothing are left out.
    """
    import torch

    top = sketches.abs().amax(dim=1)
    order = torch.argsort(top, stable=True)[int((top == 0).sum()) :]
    for chosen in torch.split(order, size):
        if len(chosen):
            codes = encode(sketches[chosen], sketcher.columns, sketcher.precision, one_scale=True)
            yield QueryBlock(codes, sketcher.precision, chosen.cpu().numpy() + first)


def buffer(entries: int, precision: Precision, device: str) -> "torch.Tensor":
    """Memory for scores that is used again and again: fresh pages cost as much as the product."""
    import torch

    kinds = {"int8": torch.int32, "bf16": torch.bfloat16, "fp32": torch.float32}
    return torch.empty(entries, dtype=kinds[precision], device=device)


def candidates(
    scores: "torch.Tensor", limits: "torch.Tensor"
) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
    """Rows and columns of the scores that reach their row's limit, about a million at a time.

    Most rows are done with by their largest score.
    """
    import torch

    rows = torch.nonzero(scores.amax(dim=1) >= limits)[:, 0]
    for piece in torch.split(rows, max(1, 2**20 // max(1, scores.shape[1]))):
        i, j = torch.nonzero(scores[piece] >= limits[piece, None], as_tuple=True)
        yield piece[i], j
