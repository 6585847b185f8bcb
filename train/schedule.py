"""Learning rates by step."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Share of the full rate for an update: a straight rise, then half a cosine down to zero.

    Args:
        step: of the update, from 0.
        total: updates of the run.
        warmup: updates of the rise; the last of them has the full rate.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
