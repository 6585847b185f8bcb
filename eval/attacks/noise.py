"""Random points of the ball: the floor under every attack of the same eps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.attacks.threat import Ball, Norm, start_noise
from eval.attacks.trail import Trail, TrailAttack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


@dataclass(frozen=True)
class Noise(TrailAttack):
    """The worst of some uniform draws.

    Attributes:
        name: as it is called.
        eps: radius, in 255ths.
        norm: of the ball.
        draws: how many points, at most; an image that is wrong needs no more.
    """

    name: str
    eps: float
    norm: Norm = "linf"
    draws: int = 10

    def facts(self) -> dict[str, Any]:
        """See `Attack.facts`."""
        return {
            "attack": self.name,
            "finds": "within eps",
            "eps": self.eps,
            "norm": self.norm,
            "draws": self.draws,
            "gradients": None,
        }

    def pursue(
        self, trail: Trail, keys: Sequence[str], seed: int, surrogate: nn.Module | None
    ) -> None:
        """See `TrailAttack.pursue`."""
        del surrogate
        ball = Ball(trail.images, self.eps, self.norm)
        shape = tuple(trail.images.shape[1:])
        for number in range(self.draws):
            rows = trail.alive()
            if not len(rows):
                break
            noise = start_noise(keys, seed, shape, self.norm, f"/noise/{number}")
            trail.look(rows, ball.inside(noise)[rows])
