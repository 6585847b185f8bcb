"""The sign-gradient family, white-box, from a surrogate and from scores: one loop, few switches.

| attack | gradient of | momentum | start | source |
| --- | --- | --- | --- | --- |
| FGSM, BIM | the classifier, one or several steps | no | image | Goodfellow 2015, Kurakin 2017 |
| PGD | the classifier | no | uniform | Madry et al. 2018 |
| MIM | the classifier | yes | image | Dong et al. 2018 |
| DIM | the classifier, of varied images | yes | image | Xie et al. 2019 |
| transfer-* | a surrogate | as above | image | Papernot et al. 2016 |
| NES, SPSA | nobody: estimated from scores | no | image | Ilyas 2018, Uesato 2018 |

White-box and score attacks look at the classifier after every step, and an image that is wrong
leaves. A transfer attacker cannot look: only the last point counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from curate.errors import CurateError
from eval.attacks.diversity import Diversity, diversify, draw
from eval.attacks.guard import frozen, full_precision
from eval.attacks.loop import gradient_of, walk
from eval.attacks.losses import LossName, attack_loss
from eval.attacks.threat import Threat, entropy, start_noise
from eval.attacks.trail import Trail, TrailAttack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eval.attacks.estimate import Estimator


@dataclass(frozen=True)
class GradientAttack(TrailAttack):
    """An attack of the family.

    Attributes:
        name: as it is called.
        threat: ball, steps, start.
        loss: what is raised.
        decay: of the momentum, or None.
        diversity: how images are varied before a gradient is taken, or None.
        estimator: how gradients are estimated from scores, or None for true ones.
        is_transfer: gradients come from a surrogate.
        restarts: how often, from starts of their own.
        targets: 0 to lead away from the label; k to lead towards each of the k classes that are
            most probable next to it, in turn, at most all of them. Any wrong class counts.
    """

    name: str
    threat: Threat
    loss: LossName = "ce"
    decay: float | None = None
    diversity: Diversity | None = None
    estimator: Estimator | None = None
    is_transfer: bool = False
    restarts: int = 1
    targets: int = 0

    def facts(self) -> dict[str, Any]:
        """See `Attack.facts`."""
        return {
            "attack": self.name,
            "finds": "within eps",
            **asdict(self.threat),
            "loss": self.loss,
            "decay": self.decay,
            "diversity": self.diversity and asdict(self.diversity),
            "estimator": self.estimator and asdict(self.estimator),
            "gradients": "surrogate" if self.is_transfer else "classifier",
            "restarts": self.restarts,
            "targets": self.targets,
        }

    def pursue(
        self, trail: Trail, keys: Sequence[str], seed: int, surrogate: nn.Module | None
    ) -> None:
        """See `TrailAttack.pursue`.

        Raises:
            CurateError: a transfer attack without a surrogate, or one of more or fewer classes;
                an estimate with a classifier in low precision.
        """
        model = trail.classifier
        if self.is_transfer:
            if surrogate is None:
                raise CurateError(f"attack {self.name}: needs a surrogate to take gradients from")
            model = surrogate
        shape = tuple(trail.images.shape[1:])
        with frozen(model):
            for number, (stream, aims) in enumerate(self._rounds(trail)):
                noise = None
                if self.threat.start == "uniform":
                    noise = start_noise(keys, seed, shape, self.threat.norm, stream)
                seeds = [entropy(key, seed, f"/walk/{number}") for key in keys]
                walker = _Walker(self, trail, model, aims, seeds)
                source, decay = walker.source, self.decay
                point = walk(trail.images, self.threat, noise, source, trail.alive, decay=decay)
                rows = trail.alive()
                trail.look(rows, point[rows])

    def _rounds(self, trail: Trail) -> Iterator[tuple[str, Tensor | None]]:
        """For each walk: the stream of its start, and the classes aimed at."""
        count = self.restarts * max(1, min(self.targets, trail.classes - 1))
        for number in range(count):
            rank = number // self.restarts
            aims = ranked_class(trail, rank + 1) if self.targets else None
            yield (f"/{number}" if number else ""), aims


def ranked_class(trail: Trail, rank: int) -> Tensor:
    """(n,) int64, on the originals the rank-th most probable class; 0 is the predicted one."""
    order: Tensor = trail.clean_logits.argsort(dim=1, descending=True, stable=True)
    return order[:, rank]


class _Walker:
    """Where the gradients of one walk come from."""

    def __init__(
        self,
        attack: GradientAttack,
        trail: Trail,
        model: nn.Module,
        aims: Tensor | None,
        seeds: Sequence[int],
    ) -> None:
        """Give each image, by its own seed, what it draws from in the course of the walk."""
        self.attack = attack
        self.trail = trail
        self.model = model
        self.aims = aims
        self._generators: list[torch.Generator] = []
        self._rngs: list[np.random.Generator] = []
        if attack.estimator:
            device = trail.images.device
            self._generators = [torch.Generator(device).manual_seed(s % 2**63) for s in seeds]
        elif attack.diversity:
            self._rngs = [np.random.default_rng(s) for s in seeds]

    def source(self, rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `loop.walk`: look at the points where that is allowed, and take gradients."""
        attack, trail = self.attack, self.trail
        if not (attack.is_transfer or attack.diversity or attack.estimator):
            return self._seen(rows, points)
        if not attack.is_transfer:
            trail.look(rows, points)
            still = trail.robust[rows]
            rows, points = rows[still], points[still]
        if not len(rows):
            return rows, points
        gradient = self._estimate(rows, points) if attack.estimator else self._true(rows, points)
        trail.feel(rows, gradient)
        return rows, gradient

    def _seen(self, rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Look at the points and take gradients, both in one pass."""
        kept: list[Tensor] = []

        def loss(images: Tensor) -> Tensor:
            logits = self.model(images)
            kept.append(logits)
            return self._loss(logits, rows)

        _, gradient = gradient_of(loss, points)
        self.trail.queries[rows] += 1
        self.trail.see(rows, points, kept[0])
        self.trail.feel(rows, gradient)
        still = self.trail.robust[rows]
        return rows[still], gradient[still]

    def _true(self, rows: Tensor, points: Tensor) -> Tensor:
        size = (points.shape[2], points.shape[3])
        varied = self.attack.diversity
        draws = [draw(varied, size, self._rngs[row]) for row in rows.tolist()] if varied else None

        def loss(images: Tensor) -> Tensor:
            seen = images if draws is None else diversify(images, draws)
            return self._loss(self.model(seen), rows)

        self.trail.queries[rows] += 1
        return gradient_of(loss, points)[1]

    def _estimate(self, rows: Tensor, points: Tensor) -> Tensor:
        estimator = self.attack.estimator
        assert estimator is not None
        found = []
        with full_precision(self.model, self.attack.name):
            for row, point in zip(rows, points, strict=True):
                loss = self._of_scores(row.expand(estimator.samples))
                found.append(estimator.gradient(loss, point, self._generators[int(row)]))
        self.trail.queries[rows] += estimator.samples
        return torch.stack(found)

    def _of_scores(self, rows: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda images: self._loss(self.model(images), rows)

    def _loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        if logits.shape[1] != self.trail.classes:
            raise CurateError(
                f"attack {self.attack.name}: the surrogate tells {logits.shape[1]} classes apart, "
                f"and the classifier {self.trail.classes}; give a surrogate over the same ones"
            )
        aims = None if self.aims is None else self.aims[rows]
        return attack_loss(self.attack.loss, logits.float(), self.trail.labels[rows], aims)
