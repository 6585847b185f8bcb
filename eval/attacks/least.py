"""Attacks that look for the least perturbation, by foolbox: DeepFool, Carlini and Wagner, FMN.

They are run in fp32, for they end at the boundary itself. What they find is the nearest wrong
point; whether an image is robust at eps follows from its distance. Sources: Moosavi-Dezfooli et al.
2016, Carlini and Wagner 2017, Pintor et al. 2021; foolbox: Rauber et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from eval.attacks.guard import frozen, full_precision, library
from eval.attacks.loop import gradient_of
from eval.attacks.losses import attack_loss
from eval.attacks.threat import TINY, l2_norms
from eval.attacks.trail import Trail, Verdict, counted, distances, is_within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.attacks.threat import Norm

Method = Literal["LinfDeepFoolAttack", "L2CarliniWagnerAttack", "LInfFMNAttack", "L2FMNAttack"]
BEYOND = 1 + 1e-4


@dataclass(frozen=True)
class LeastAttack:
    """A foolbox attack, and the eps at which its verdict is given.

    Attributes:
        name: as it is called.
        method: class of `foolbox.attacks`.
        eps: in 255ths, where an image counts as broken.
        norm: in which the perturbation is least, and eps measured.
        settings: keyword arguments of the method, as pairs.
    """

    name: str
    method: Method
    eps: float
    norm: Norm
    settings: tuple[tuple[str, float], ...]

    def facts(self) -> dict[str, Any]:
        """See `Attack.facts`."""
        return {
            "attack": self.name,
            "finds": "least perturbation",
            "eps": self.eps,
            "norm": self.norm,
            "method": self.method,
            "gradients": "classifier",
            "library": library("foolbox"),
            "mended": f"projection, x {BEYOND}" if self.method == "L2FMNAttack" else None,
            **dict(self.settings),
        }

    def run(  # noqa: PLR0917 - a batch and what is drawn for it
        self,
        classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        keys: Sequence[str],
        seed: int,
        surrogate: nn.Module | None = None,
    ) -> Verdict:
        """See `Attack.run`; nothing is drawn.

        Raises:
            CurateError: also for a classifier in low precision.
        """
        del keys, seed, surrogate
        with frozen(classifier), full_precision(classifier, self.name):
            trail = Trail(classifier, images, labels)
            rows = trail.alive()
            if not len(rows):
                return trail.verdict()
            self._feel(trail, rows)
            with counted(trail, rows):
                points = self._search(trail, rows)
            return _judge(trail, rows, points, self.eps, self.norm)

    def _search(self, trail: Trail, rows: Tensor) -> Tensor:
        """(m, 3, H, W), the wrong points found; the image itself where none was."""
        library("foolbox")
        import foolbox
        from foolbox.models.pytorch import PyTorchModel

        model = PyTorchModel(trail.classifier, bounds=(0, 1), device=trail.images.device)
        method = getattr(foolbox.attacks, self.method)(**dict(self.settings))
        if self.method == "L2FMNAttack":
            method.project = _project_l2
        criterion = foolbox.criteria.Misclassification(trail.labels[rows])
        with torch.enable_grad():
            found: Tensor = method.run(model, trail.images[rows].clamp(0, 1), criterion)
        return found.detach()

    def _feel(self, trail: Trail, rows: Tensor) -> None:
        """Foolbox shows no gradients; take those of the margin at the images."""

        def loss(points: Tensor) -> Tensor:
            logits = trail.classifier(points).float()
            return attack_loss("margin", logits, trail.labels[rows])

        _, gradient = gradient_of(loss, trail.images[rows])
        trail.queries[rows] += 1
        trail.feel(rows, gradient)


def _project_l2(x: Any, x0: Any, epsilon: Any) -> Any:
    """Points within a distance of others, eagerpy tensors (n, 3, H, W), (n,).

    Foolbox 3.3.4 divides a norm by itself here, so that nothing is ever projected. The distance
    that FMN asks for ends on a boundary that is flat, and rounding decides about its side: we go
    a little further.
    """
    change = x.raw - x0.raw
    share = BEYOND * epsilon.raw[:, None, None, None] / l2_norms(change).clamp(min=TINY)
    return type(x)(x0.raw + change * share.clamp(max=1))


def _judge(trail: Trail, rows: Tensor, points: Tensor, eps: float, norm: Norm) -> Verdict:
    """What was found, and at eps, what it means.

    Args:
        trail: before any of the points was seen.
        rows: (m,) int64, the images that were attacked.
        points: (m, 3, H, W), one for each.
        eps: in 255ths.
        norm: of the distance.
    """
    # C&W answers with a black image where it found nothing
    is_found = points.flatten(1).any(dim=1)
    with torch.no_grad():
        logits = trail.classifier(points).float()
    is_wrong = is_found & (logits.argmax(dim=1) != trail.labels[rows])
    rows, points, logits = rows[is_wrong], points[is_wrong], logits[is_wrong]
    is_near = is_within(points, trail.images[rows], eps, norm)
    nothing = trail.robust.clone()
    nothing[rows] = False
    trail.see(rows[is_near], points[is_near], logits[is_near])
    nearest = trail.images.clone()
    nearest[rows] = points
    linf, l2 = distances(nearest, trail.images)
    linf[nothing] = torch.inf
    l2[nothing] = torch.inf
    return replace(trail.verdict(), images=nearest, linf=linf, l2=l2)
