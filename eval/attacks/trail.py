"""The worst points that an attack has met, image by image, and the verdict they make.

An attacker keeps the best point of all that were tried: an image counts as robust only if it is
right at every one of them, not only at the last. An image that was wrong once needs no more work
and leaves the batch; that changes no verdict.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from curate.errors import CurateError
from eval.attacks.guard import finite_rows, frozen, require_finite
from eval.attacks.losses import margins
from eval.attacks.threat import l2_norms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eval.attacks.threat import Norm

_ROUNDING = 1e-6
_FURTHER = 1e-4
"""What rounding may add to a distance, in 255ths."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """How a classifier fared on n images under attack.

    The worst point of an image is the first one at which it is wrong, or else the one with the
    least margin. Attacks that look for the least perturbation differ in one thing: `images`, `linf`
    and `l2` are of the nearest wrong point found, be it inside of eps or not (infinite distances
    where none was found); `robust`, `pred` and `margin` speak of eps.

    Attributes:
        clean: (n,) bool, right on the image itself.
        robust: (n,) bool, right on the image and at every point met.
        clean_pred: (n,) int64, class of the image itself.
        pred: (n,) int64, class at the worst point.
        margin: (n,) fp32, logit of the label minus the best other one, at the worst point.
        linf: (n,) fp32, distance of the worst point, in 255ths.
        l2: (n,) fp32, likewise, in units of the pixel range.
        zero_gradient: (n,) bool, a gradient was exactly zero while the image was still right.
        queries: (n,) int64, forward passes spent on the image, a surrogate's included.
        images: (n, 3, H, W) fp32, the worst points.
    """

    clean: Tensor
    robust: Tensor
    clean_pred: Tensor
    pred: Tensor
    margin: Tensor
    linf: Tensor
    l2: Tensor
    zero_gradient: Tensor
    queries: Tensor
    images: Tensor


class Attack(Protocol):
    """What every attack offers."""

    @property
    def name(self) -> str:
        """As it is called in a setting."""

    def facts(self) -> dict[str, Any]:
        """All that its results depend on, JSON-able."""

    def run(  # noqa: PLR0917 - a batch and what is drawn for it
        self,
        classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        keys: Sequence[str],
        seed: int,
        surrogate: nn.Module | None = None,
    ) -> Verdict:
        """Attack a batch.

        Args:
            classifier: (n, 3, H, W) in [0, 1] -> (n, C) logits; in evaluation mode.
            images: (n, 3, H, W) fp32 in [0, 1].
            labels: (n,) int64.
            keys: the images' ids; random numbers come from them and the seed.
            seed: of all draws.
            surrogate: the model that a transfer attack takes its gradients from.

        Raises:
            NotFiniteError: logits or a gradient are NaN or infinite.
            CurateError: see `Trail`; the classifier is in training mode; no surrogate given.
        """


class Trail:
    """What is known of each image while an attack goes on.

    Attributes:
        classifier: under attack, frozen.
        images: (n, 3, H, W) fp32, the originals.
        labels: (n,) int64.
        classes: how many logits there are.
        clean_logits: (n, C) fp32.
        robust: (n,) bool, still right at all points met.
        zero_gradient: (n,) bool.
        queries: (n,) int64.
    """

    def __init__(self, classifier: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Classify the originals.

        Raises:
            NotFiniteError: logits are NaN or infinite.
            CurateError: pixels outside of [0, 1] or not fp32, a label that is no class, or fewer
                than two classes.
        """
        _require_pixels(images)
        self.classifier = classifier
        self.images = images.detach()
        self.labels = labels
        with torch.no_grad():
            logits = classifier(self.images).float()
        require_finite(finite_rows(logits))
        self.clean_logits = logits
        self.classes = logits.shape[1]
        _require_labels(labels, len(images), self.classes)
        self._clean = logits.argmax(dim=1) == labels
        self._margin = margins(logits, labels)
        self._pred = logits.argmax(dim=1)
        self._worst = self.images.clone()
        self.robust = self._clean.clone()
        self.zero_gradient = torch.zeros_like(self._clean)
        self.queries = torch.ones_like(labels)

    def alive(self) -> Tensor:
        """(m,) int64, the images that are still right at all points met."""
        rows: Tensor = self.robust.nonzero()[:, 0]
        return rows

    def look(self, rows: Tensor, points: Tensor) -> None:
        """Classify (m, 3, H, W) points of some images, and `see` them."""
        if len(rows):
            with torch.no_grad():
                logits = self.classifier(points)
            self.queries[rows] += 1
            self.see(rows, points, logits)

    def see(self, rows: Tensor, points: Tensor, logits: Tensor) -> None:
        """Keep those (m, 3, H, W) points, with (m, C) logits, that are the worst so far.

        Args:
            rows: (m,) int64, of images that are still right.
            points: one for each row.
            logits: at the points; counted as queries by the caller.

        Raises:
            NotFiniteError: logits are NaN or infinite.
        """
        logits = logits.detach().float()
        require_finite(finite_rows(logits), rows)
        pred, margin = logits.argmax(dim=1), margins(logits, self.labels[rows])
        is_wrong = pred != self.labels[rows]
        is_worse = is_wrong | (margin < self._margin[rows])
        worse = rows[is_worse]
        self._pred[worse] = pred[is_worse]
        self._margin[worse] = margin[is_worse]
        self._worst[worse] = points.detach()[is_worse]
        self.robust[rows] &= ~is_wrong

    def feel(self, rows: Tensor, gradient: Tensor) -> None:
        """Note which of some images, if still right, have a (m, 3, H, W) gradient of zero.

        Raises:
            NotFiniteError: the gradient is NaN or infinite.
        """
        require_finite(finite_rows(gradient), rows)
        self.zero_gradient[rows] |= is_zero(gradient) & self.robust[rows]

    def verdict(self) -> Verdict:
        """The state as it is."""
        linf, l2 = distances(self._worst, self.images)
        return Verdict(
            clean=self._clean,
            robust=self.robust,
            clean_pred=self.clean_logits.argmax(dim=1),
            pred=self._pred,
            margin=self._margin,
            linf=linf,
            l2=l2,
            zero_gradient=self.zero_gradient,
            queries=self.queries,
            images=self._worst,
        )


class TrailAttack(ABC):
    """An attack whose points all go through a trail, so that several can share one."""

    name: str

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """See `Attack.facts`."""

    @abstractmethod
    def pursue(
        self, trail: Trail, keys: Sequence[str], seed: int, surrogate: nn.Module | None
    ) -> None:
        """Attack the images that are still right; the classifier is frozen."""

    def run(  # noqa: PLR0917 - a batch and what is drawn for it
        self,
        classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        keys: Sequence[str],
        seed: int,
        surrogate: nn.Module | None = None,
    ) -> Verdict:
        """See `Attack.run`."""
        if len(keys) != len(images):
            raise ValueError(f"{len(keys)} keys for {len(images)} images")
        with frozen(classifier):
            trail = Trail(classifier, images, labels)
            self.pursue(trail, keys, seed, surrogate)
        return trail.verdict()


def is_zero(gradient: Tensor) -> Tensor:
    """(n, ...) -> (n,) bool, a gradient that leads nowhere."""
    return (gradient == 0).flatten(1).all(dim=1)


def distances(points: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """L-inf in 255ths and L2 in units of the pixel range, (n,) fp32 each."""
    change = points - images
    return change.abs().flatten(1).amax(dim=1) * 255, l2_norms(change).flatten()


def is_within(points: Tensor, images: Tensor, eps: float, norm: Norm) -> Tensor:
    """(n,) bool, no further from the images than eps 255ths, but for rounding."""
    linf, l2 = distances(points, images)
    return (linf if norm == "linf" else l2 * 255) <= eps + _FURTHER


@contextlib.contextmanager
def counted(trail: Trail, rows: Tensor) -> Iterator[None]:
    """Each call of the classifier inside is one more query for all of these images."""
    calls: list[None] = []
    handle = trail.classifier.register_forward_hook(lambda *_: calls.append(None))
    try:
        yield
    finally:
        handle.remove()
        trail.queries[rows] += len(calls)


def _require_pixels(images: Tensor) -> None:
    if images.dtype != torch.float32:
        raise CurateError(f"attack: images are {images.dtype}; give fp32 pixels in [0, 1]")
    if len(images) and not (images.min() >= -_ROUNDING and images.max() <= 1 + _ROUNDING):
        raise CurateError(
            f"attack: pixels from {float(images.min()):.3g} to {float(images.max()):.3g}; give "
            "them in [0, 1], the classifier normalises them itself"
        )


def _require_labels(labels: Tensor, count: int, classes: int) -> None:
    if classes < 2:  # noqa: PLR2004 - nothing to confuse a class with
        raise CurateError(f"attack: the classifier has {classes} class; it needs two")
    if labels.shape != (count,):
        raise ValueError(f"labels of shape {tuple(labels.shape)} for {count} images")
    if count and not (labels.min() >= 0 and labels.max() < classes):
        raise CurateError(
            f"attack: labels from {int(labels.min())} to {int(labels.max())}, but the classifier "
            f"has classes 0 to {classes - 1}"
        )
