"""Several attacks in turn on what is still right: AutoAttack and its parts, by their own names.

AutoAttack (Croce and Hein 2020) is APGD-CE, APGD-T, FAB-T and Square. The two APGD are ours (they
take the steps of the reference implementation, but an image leaves once it is wrong); FAB-T and
Square are pyautoattack's, called for one stage at a time: its clock as a seed, its log and its
resume file are never reached, and the global generator is as it was. Only all four together are
`autoattack`.

| classes | APGD-T | APGD-DLR | FAB-T |
| --- | --- | --- | --- |
| 4 or more | min(9, C - 1) targets | as it is | min(9, C - 1) targets |
| 3 | APGD-DLR, untargeted | as it is | 2 targets |
| 2 | APGD on the margin, untargeted | left out: TeCoA's binary sets have APGD-CE alone | 1 target |

Square draws one sequence of squares from the seed, and all images follow it. So an image's result
depends on the seed and the image, not on the batch, its order, or what was run before; all that is
left is the last bits of a network, which may differ with the size of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from eval.attacks.apgd import Apgd
from eval.attacks.guard import library
from eval.attacks.losses import DLR_CLASSES, TARGETED_DLR_CLASSES
from eval.attacks.threat import Ball, Norm, entropy
from eval.attacks.trail import Trail, TrailAttack, counted, is_within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

Stage = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square"]
LIBRARY_NORMS = {"linf": "Linf", "l2": "L2"}
TARGETS = 9


@dataclass(frozen=True)
class Ensemble(TrailAttack):
    """Stages, one after the other.

    Attributes:
        name: as it is called.
        stages: in order.
        eps: radius, in 255ths.
        norm: of the ball.
        steps: of APGD and FAB.
        queries: of Square, at most.
    """

    name: str
    stages: tuple[Stage, ...]
    eps: float
    norm: Norm = "linf"
    steps: int = 100
    queries: int = 5000

    def facts(self) -> dict[str, Any]:
        """See `Attack.facts`."""
        is_foreign = bool({"fab-t", "square"} & set(self.stages))
        return {
            "attack": self.name,
            "finds": "within eps",
            "stages": list(self.stages),
            "eps": self.eps,
            "norm": self.norm,
            "steps": self.steps,
            "step": "adaptive",
            "start": "surface",
            "restarts": 1,
            "targets": TARGETS,
            "queries": self.queries,
            "gradients": "scores" if self.stages == ("square",) else "classifier",
            "library": library("pyautoattack") if is_foreign else None,
        }

    def pursue(
        self, trail: Trail, keys: Sequence[str], seed: int, surrogate: nn.Module | None
    ) -> None:
        """See `TrailAttack.pursue`."""
        for stage in self.stages:
            if not len(trail.alive()):
                return
            if stage == "fab-t":
                self._fab(trail)
            elif stage == "square":
                self._square(trail, seed)
            else:
                apgd = self._apgd(stage, trail.classes)
                if apgd is not None:
                    apgd.pursue(trail, keys, seed, surrogate)

    def _apgd(self, stage: Stage, classes: int) -> Apgd | None:
        """What a stage is with so many classes; see the table above."""
        if stage == "apgd-ce":
            return Apgd(stage, self.eps, "ce", self.norm, self.steps)
        if stage == "apgd-t" and classes >= TARGETED_DLR_CLASSES:
            return Apgd(stage, self.eps, "dlr", self.norm, self.steps, TARGETS)
        if classes >= DLR_CLASSES:
            return Apgd(stage, self.eps, "dlr", self.norm, self.steps)
        return Apgd(stage, self.eps, "margin", self.norm, self.steps) if stage == "apgd-t" else None

    def _fab(self, trail: Trail) -> None:
        library("pyautoattack")
        from pyautoattack.fab_pt import FABAttack_PT

        fab = FABAttack_PT(
            trail.classifier,
            norm=LIBRARY_NORMS[self.norm],
            n_iter=self.steps,
            eps=self.eps / 255,
            device=trail.images.device,
        )
        ball = Ball(trail.images, self.eps, self.norm)
        for rank in range(min(TARGETS, trail.classes - 1)):
            rows = trail.alive()
            if not len(rows):
                return
            fab.target_class = rank + 2
            with counted(trail, rows):
                points = fab.attack_single_run(
                    trail.images[rows], trail.labels[rows], is_targeted=True
                )
            is_near = is_within(points, trail.images[rows], self.eps, self.norm)
            near = rows[is_near]
            trail.look(near, ball.project(points[is_near], near))

    def _square(self, trail: Trail, seed: int) -> None:
        library("pyautoattack")
        from pyautoattack.square import SquareAttack

        rows = trail.alive()
        images = trail.images[rows]
        square = SquareAttack(
            trail.classifier,
            norm=LIBRARY_NORMS[self.norm],
            n_queries=self.queries,
            eps=self.eps / 255,
            p_init=0.8,
            resc_schedule=False,
            device=images.device,
        )
        drawn = square.random_choice

        def common(shape: Sequence[int]) -> Tensor:
            """Signs that are equal for all images, so that it does not matter which are left."""
            signs: Tensor = drawn(list(shape[-3:]))
            return signs.expand(tuple(shape))

        square.random_choice = common
        square.init_hyperparam(images)
        # its draws come from the processor's global generator, on whatever device images are
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(entropy("", seed, "/square") % 2**63)
            spent, points = square.attack_single_run(images, trail.labels[rows])
        trail.queries[rows] += spent.long()
        trail.look(rows, points)
