"""What a network costs for an image: FLOPs, width of its vectors, seconds of a core or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.planning.rates import Rates


def facts_name(model: str) -> str:
    """The name under which a network's numbers are kept: weights do not change what it costs.

    Args:
        model: such as `open_clip:ViT-L-14-quickgelu/openai`, `sscd:disc_large`, `builtin:copy`.
    """
    family, _, rest = model.partition(":")
    if family == "open_clip":
        return f"{family}:{rest.partition('/')[0].removesuffix('-quickgelu')}"
    if family == "timm":
        return f"{family}:{rest.partition('.')[0]}"
    if family == "phash":
        return family
    return model


def width(rates: Rates, model: str) -> int:
    """Width of a vector."""
    return int(rates(f"width.{facts_name(model)}"))


def flops(rates: Rates, model: str) -> float:
    """FLOPs of an image in one view, forwards; a multiplication and an addition are two."""
    return rates(f"flops.{facts_name(model)}")


def forward(rates: Rates, model: str, *, gpu: bool) -> float:
    """Seconds of a prepared image through the network.

    A measured rate of the network counts first; else its FLOPs at the speed of a core, or at the
    peak of a GPU and the share of it that networks are taken to reach.
    """
    name = facts_name(model)
    where = "gpu" if gpu else "core"
    if rates.has(f"forward.{where}.{name}"):
        return rates(f"forward.{where}.{name}")
    if gpu:
        return flops(rates, model) / (rates("gpu.peak") * rates("gpu.utilisation"))
    return flops(rates, model) / rates("core.flops")


def in_large_batches(rates: Rates, model: str, *, gpu: bool) -> float:
    """Seconds of an image in one pass of a training or an evaluation; embedding has small batches.

    On a GPU there is no such difference.
    """
    name = f"forward.large.{facts_name(model)}"
    return rates(name) if not gpu and rates.has(name) else forward(rates, model, gpu=gpu)


def prepared(rates: Rates, model: str) -> float:
    """Seconds of a core to turn a decoded image into one view of the network's input."""
    return rates.first(f"prepare.{facts_name(model)}", "prepare.224")


def loading(rates: Rates, model: str) -> tuple[tuple[str, float], ...]:
    """What a process that computes with a network loads once."""
    name = facts_name(model)
    own = (model, rates.first(f"load.{name}", "load.network"))
    return (own,) if name in _WITHOUT_TORCH else (library(rates), own)


def library(rates: Rates) -> tuple[str, float]:
    """Torch, which a process loads once."""
    return ("torch", rates("load.library"))


_WITHOUT_TORCH = ("builtin:layout", "phash")
