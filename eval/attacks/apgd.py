"""APGD: steps of a size that each image finds for itself. Source: Croce and Hein 2020.

A step goes to x + 3/4 (p - x) + 1/4 (x - x_before), where p is the projected gradient step. At
checkpoints, which come after 22 % of the steps and then ever closer, an image whose loss rose in
too few steps, or whose best loss and step size both stayed, halves its step and goes back to its
best point. All of this concerns one image at a time, so an image that is wrong leaves the batch at
once, where libraries walk all of them to the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eval.attacks.gradient import ranked_class
from eval.attacks.loop import gradient_of
from eval.attacks.losses import LossName, attack_loss
from eval.attacks.threat import Ball, Norm, l2_norms, start_noise
from eval.attacks.trail import Trail, TrailAttack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

RISING, INERTIA = 0.75, 0.25
FIRST, LEAST, SHORTER = 0.22, 0.06, 0.03


@dataclass(frozen=True)
class Apgd(TrailAttack):
    """APGD on one loss.

    Attributes:
        name: as it is called.
        eps: radius, in 255ths.
        loss: what is raised.
        norm: of the ball.
        steps: how many.
        targets: 0, or how many of the classes most probable next to the label are led towards, in
            turn, at most all of them.
    """

    name: str
    eps: float
    loss: LossName
    norm: Norm = "linf"
    steps: int = 100
    targets: int = 0

    def facts(self) -> dict[str, Any]:
        """See `Attack.facts`."""
        return {
            "attack": self.name,
            "finds": "within eps",
            "eps": self.eps,
            "norm": self.norm,
            "steps": self.steps,
            "step": "adaptive, from 2 eps",
            "start": "surface",
            "loss": self.loss,
            "restarts": 1,
            "targets": self.targets,
            "gradients": "classifier",
        }

    def pursue(
        self, trail: Trail, keys: Sequence[str], seed: int, surrogate: nn.Module | None
    ) -> None:
        """See `TrailAttack.pursue`."""
        del surrogate
        shape = tuple(trail.images.shape[1:])
        for number in range(max(1, min(self.targets, trail.classes - 1))):
            if not len(trail.alive()):
                break
            aims = ranked_class(trail, number + 1) if self.targets else None
            noise = start_noise(keys, seed, shape, self.norm, f"/{self.name}/{number}")
            self.climb(trail, noise, aims)

    def climb(self, trail: Trail, noise: Tensor, aims: Tensor | None) -> None:
        """Walk once, from the point of the ball's surface that (n, 3, H, W) noise points to."""
        ball = Ball(trail.images, self.eps, self.norm)
        noise = noise.to(trail.images)
        length = noise.abs().amax((1, 2, 3), True) if self.norm == "linf" else l2_norms(noise)  # noqa: FBT003
        state = _State.at(trail.alive(), ball.inside(noise / length), 2 * ball.eps)
        state = self._seen(trail, state, aims).begin()
        gaps = checkpoints(self.steps)
        gap, since = next(gaps), 0
        for number in range(self.steps):
            if not len(state.rows):
                return
            state.move(ball, INERTIA if number else 0.0)
            state = self._seen(trail, state, aims)
            since += 1
            if since == gap:
                state.check(gap)
                gap, since = next(gaps), 0

    def _seen(self, trail: Trail, state: _State, aims: Tensor | None) -> _State:
        """Look at the points, take gradients; keep what is still right."""
        rows = state.rows
        kept: list[Tensor] = []

        def loss(images: Tensor) -> Tensor:
            logits = trail.classifier(images).float()
            kept.append(logits)
            return attack_loss(
                self.loss, logits, trail.labels[rows], None if aims is None else aims[rows]
            )

        values, gradient = gradient_of(loss, state.point)
        trail.queries[rows] += 1
        trail.see(rows, state.point, kept[0])
        trail.feel(rows, gradient)
        state.learn(values, gradient)
        return state.take(trail.robust[rows])


def checkpoints(steps: int) -> Iterator[int]:
    """How many steps lie between one check of an image's progress and the next, for ever."""
    gap = max(int(FIRST * steps), 1)
    while True:
        yield gap
        gap = max(gap - max(int(SHORTER * steps), 1), int(LEAST * steps), 1)


@dataclass
class _State:
    """Where m images stand; every tensor has a row for each.

    Attributes:
        rows: their places in the batch.
        point: (m, 3, H, W), `before` the one before it, `best` the one of the highest loss.
        gradient: at the point; `best_gradient` likewise.
        step: (m, 1, 1, 1), in units of the pixel range.
        loss: at the point; `best_loss` likewise; `checked_loss` the best at the last check.
        rises: steps since the last check in which the loss rose.
        is_halved: bool, the step was halved at the last check.
    """

    rows: Tensor
    point: Tensor
    before: Tensor
    best: Tensor
    gradient: Tensor
    best_gradient: Tensor
    step: Tensor
    loss: Tensor
    best_loss: Tensor
    checked_loss: Tensor
    rises: Tensor
    is_halved: Tensor

    @classmethod
    def at(cls, rows: Tensor, points: Tensor, step: float) -> _State:
        """Before anything is known, at some rows of (n, 3, H, W) points."""
        point = points[rows]
        lowest = torch.full((len(rows),), -torch.inf, device=point.device)
        return cls(
            rows=rows,
            point=point,
            before=point.clone(),
            best=point.clone(),
            gradient=torch.zeros_like(point),
            best_gradient=torch.zeros_like(point),
            step=torch.full((len(rows), 1, 1, 1), step, device=point.device),
            loss=lowest.clone(),
            best_loss=lowest.clone(),
            checked_loss=lowest,
            rises=torch.zeros_like(rows),
            is_halved=torch.ones_like(rows, dtype=torch.bool),
        )

    def begin(self) -> _State:
        """After the first look, and before the first step."""
        # the reference implementation compares the first step's loss with 0, not with the start's
        self.loss = torch.zeros_like(self.loss)
        self.rises = torch.zeros_like(self.rises)
        self.checked_loss = self.best_loss.clone()
        return self

    def move(self, ball: Ball, inertia: float) -> None:
        """Go to the next point."""
        inertial = (self.point - self.before) * inertia
        self.before = self.point
        ahead = ball.project(self.point + self.step * ball.ascent(self.gradient), self.rows)
        onward = self.point + (ahead - self.point) * (1 - inertia) + inertial
        self.point = ball.project(onward, self.rows)

    def learn(self, loss: Tensor, gradient: Tensor) -> None:
        """Take in the (m,) losses and the gradient at the point."""
        is_better = loss > self.best_loss
        self.rises = self.rises + (loss > self.loss)
        self.loss, self.gradient = loss, gradient
        self.best_loss = torch.where(is_better, loss, self.best_loss)
        wide = is_better[:, None, None, None]
        self.best = torch.where(wide, self.point, self.best)
        self.best_gradient = torch.where(wide, gradient, self.best_gradient)

    def check(self, gap: int) -> None:
        """Halve the step of images that do not get on, and send them back to their best point."""
        is_stuck = ~self.is_halved & (self.checked_loss >= self.best_loss)
        self.is_halved = (self.rises <= gap * RISING) | is_stuck
        self.checked_loss = self.best_loss.clone()
        self.rises = torch.zeros_like(self.rises)
        wide = self.is_halved[:, None, None, None]
        self.step = torch.where(wide, self.step / 2, self.step)
        self.point = torch.where(wide, self.best, self.point)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)

    def take(self, is_kept: Tensor) -> _State:
        """Some of the images, (m,) bool."""
        if bool(is_kept.all()):
            return self
        return _State(**{name: value[is_kept] for name, value in vars(self).items()})
