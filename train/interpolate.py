"""Weights between the original and the adapted model.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022 (WiSE-FT); used by Mao
et al., ICLR 2023, figure 7.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_MOST = 1001


def interpolate(
    original: Mapping[str, Tensor], adapted: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """(1 - share) original + share adapted, tensor by tensor.

    At 0 the original and at 1 the adapted model comes out, bit for bit; a value that is equal in
    both stays so at every share. Between the two, the sum is made in fp64 and rounded once.
    Whole numbers (such as counters of BatchNorm) are not mixed: for any share above 0 they are the
    adapted model's.

    Args:
        original: a state dict.
        adapted: a state dict of the same names, shapes and dtypes.
        share: of the adapted model, 0 to 1.

    Raises:
        CurateError: the share is out of range, or the two are of different models.
    """
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise CurateError(f"share {share} of the adapted weights: must lie between 0 and 1")
    strange = sorted(original.keys() ^ adapted.keys())
    if strange:
        raise CurateError(f"interpolation: only one of the two models has {strange[0]}")
    return {name: _mixed(name, value, adapted[name], share) for name, value in original.items()}


def parse_shares(text: str) -> tuple[float, ...]:
    """`FIRST:LAST:STEP` or one share -> shares, both ends among them; `0:1:0.25` gives five.

    Decimal arithmetic: 0.0:1.0:0.1 ends at exactly 1, and on the way is 0.3 and nothing beside it.

    Raises:
        CurateError: no such range within 0 and 1, or a last share that no step meets.
    """
    wanted = f"interpolation {text!r}: give FIRST:LAST:STEP within 0 and 1, such as 0.0:1.0:0.1"
    try:
        numbers = [Decimal(part.strip()) for part in text.split(":")]
        first, last, step = numbers if len(numbers) > 1 else (numbers[0], numbers[0], Decimal(1))
        if not (0 <= first <= last <= 1 and 0 < step <= 1):
            raise CurateError(wanted)
        count = (last - first) / step
    except (ArithmeticError, ValueError) as error:
        raise CurateError(wanted) from error
    if count >= _MOST:
        raise CurateError(f"{wanted}, of at most {_MOST} shares")
    if count != count.to_integral_value():
        raise CurateError(f"{wanted}; from {first} steps of {step} do not meet {last}")
    return tuple(float(first + step * place) for place in range(int(count) + 1))


def _mixed(name: str, original: Tensor, adapted: Tensor, share: float) -> Tensor:
    if original.shape != adapted.shape or original.dtype != adapted.dtype:
        raise CurateError(
            f"interpolation: {name} is {tuple(original.shape)} {original.dtype} in one model and "
            f"{tuple(adapted.shape)} {adapted.dtype} in the other"
        )
    if share in {0, 1} or not original.is_floating_point():
        return (adapted if share else original).detach().clone()
    start, end = original.detach().double(), adapted.detach().double()
    return (start + (end - start) * share).to(original.dtype)
