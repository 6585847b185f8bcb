"""What holds while a classifier is attacked: weights are frozen, numbers finite, fp32 where needed.

A gradient that reaches a weight would leak into the next update of a training. A loss that is not
finite would let its image pass for robust. Finite differences and searches for the least
perturbation need more digits than bfloat16 and TF32 have.
"""

from __future__ import annotations

import contextlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class NotFiniteError(CurateError):
    """A loss or a gradient is NaN or infinite.

    Attributes:
        rows: places of the images in the batch that was given.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = tuple(rows)
        shown = ", ".join(str(row) for row in self.rows[:5])
        more = ", ..." if len(self.rows) > 5 else ""  # noqa: PLR2004 - enough to look at
        super().__init__(f"the loss under attack is NaN or infinite for images {shown}{more}")


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient inside; what did before does again afterwards.

    Raises:
        CurateError: the module or a part of it is in training mode, in which batch statistics
            would follow the attacked images and dropout would blur their gradients; or a
            parameter's `.grad` changed meanwhile, which would leak into the next update.
    """
    training = [name or "the module" for name, part in module.named_modules() if part.training]
    if training:
        raise CurateError(f"attack: {training[0]} is in training mode; call .eval() before")
    before = [
        (name, parameter, parameter.requires_grad, parameter.grad, _version(parameter.grad))
        for name, parameter in module.named_parameters()
    ]
    for _, parameter, *_ in before:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for _, parameter, is_required, *_ in before:
            parameter.requires_grad = is_required
    for name, parameter, _, gradient, count in before:
        if parameter.grad is not gradient or _version(gradient) != count:
            raise CurateError(f"attack: parameter {name} got a gradient; take it of the image only")


@contextlib.contextmanager
def full_precision(module: nn.Module, attack: str) -> Iterator[None]:
    """All arithmetic inside is fp32; TF32 is switched off and comes back as it was.

    Raises:
        CurateError: the module computes in bfloat16 or another low precision.
    """
    low = [part for part in module.modules() if getattr(part, "dtype", None) == torch.bfloat16]
    if low or any(weight.dtype != torch.float32 for weight in module.parameters()):
        raise CurateError(
            f"attack {attack}: takes differences too fine for bfloat16; load the model in fp32"
        )
    switches: tuple[Any, Any] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    try:
        yield
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.allow_tf32 = was


def library(name: str) -> str:
    """An optional library with its version, as facts state it.

    Raises:
        CurateError: it is not installed.
    """
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError as error:
        raise CurateError(
            f"attack: needs {name}; install it with: pip install 'curate[eval]'"
        ) from error


def finite_rows(values: Tensor) -> Tensor:
    """(n, ...) -> (n,) bool, all numbers of a row are finite."""
    return values.detach().isfinite().flatten(1).all(dim=1)


def require_finite(is_finite: Tensor, rows: Tensor | None = None) -> None:
    """Raise for the rows of a (n,) bool that are False.

    Args:
        is_finite: (n,) bool.
        rows: (n,) int64, places in the whole batch where `is_finite` is of a part of it.

    Raises:
        NotFiniteError: names the places.
    """
    places = (~is_finite).nonzero()[:, 0]
    if len(places):
        raise NotFiniteError((places if rows is None else rows[places]).tolist())


def _version(gradient: Tensor | None) -> int:
    return -1 if gradient is None else gradient._version  # noqa: SLF001 - torch's own counter
