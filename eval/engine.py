"""Rows of a setting from images and a classifier: as they are, under attack, as sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from curate.errors import CurateError
from eval.attacks.guard import finite_rows, require_finite
from eval.attacks.losses import margins
from eval.records import samples
from eval.shifts.sequences import VideoError, count_flips

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from torch import Tensor, nn

    from eval.attacks.trail import Attack, Verdict
    from eval.geometry import Pixels
    from eval.pictures import Items, Pictures

    Frames = Callable[[str], Pixels]

Result = TypeVar("Result")


def in_batches(count: int, batch: int, work: Callable[[slice], Result]) -> list[Result]:
    """Work through `count` images, `batch` at a time; half as many at a time as memory demands.

    Args:
        count: images.
        batch: at a time.
        work: what to do with some of them.

    Raises:
        torch.OutOfMemoryError: one image is too many.
    """
    done: list[Result] = []
    start = 0
    while start < count:
        try:
            done.append(work(slice(start, min(start + batch, count))))
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            torch.cuda.empty_cache()
            batch //= 2
        else:
            start += batch
    return done


def plain_rows(classifier: nn.Module, pictures: Pictures, batch: int) -> pl.DataFrame:
    """Rows of `eval.records.SAMPLES` of images as they are.

    Raises:
        NotFiniteError: logits are NaN or infinite.
    """

    def work(rows: slice) -> Tensor:
        return _logits(classifier, _pixels(classifier, pictures.images[rows]))

    logits = torch.cat(in_batches(len(pictures), batch, work))
    labels = _right_labels(logits, pictures)
    return samples(
        {
            "id": pictures.ids,
            "label": labels.tolist(),
            "group": pictures.groups,
            "word": pictures.words,
            **_predicted(logits, labels),
        }
    )


def attacked_rows(
    classifier: nn.Module,
    attack: Attack,
    pictures: Pictures,
    *,
    seed: int,
    batch: int,
    surrogate: nn.Module | None = None,
) -> tuple[pl.DataFrame, Tensor]:
    """Rows of `eval.records.SAMPLES` of images under attack, and the worst images themselves.

    Raises:
        NotFiniteError: logits or gradients are NaN or infinite.
        CurateError: the attack does not apply (see its `run`).
    """

    def work(rows: slice) -> Verdict:
        images = _pixels(classifier, pictures.images[rows])
        labels = pictures.labels[rows].to(images.device)
        return attack.run(classifier, images, labels, pictures.ids[rows], seed, surrogate)

    verdicts = in_batches(len(pictures), batch, work)

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(verdict, name).cpu() for verdict in verdicts])

    rows = samples(
        {
            "id": pictures.ids,
            "label": pictures.labels.tolist(),
            "group": pictures.groups,
            "word": pictures.words,
            "correct": joined("robust").tolist(),
            "seed": [seed] * len(pictures),
            **{
                name: joined(name).tolist()
                for name in ("pred", "margin", "clean_pred", "zero_gradient", "queries")
            },
            # a distance that no perturbation was found for
            **{
                name: [None if value == float("inf") else value for value in joined(name).tolist()]
                for name in ("linf", "l2")
            },
        }
    )
    return rows, joined("images")


def sequence_rows(
    classifier: nn.Module, kind: str, frames_of: Frames, items: Items
) -> pl.DataFrame:
    """Rows of perturbation sequences: how often a frame is predicted otherwise than before.

    `pred` and `margin` are of the first frame.

    Args:
        classifier: (n, 3, s, s) in [0, 1] -> (n, C) logits.
        kind: of perturbation.
        frames_of: item id -> (T, 3, s, s) uint8.
        items: which.

    Raises:
        NotFiniteError: logits are NaN or infinite.
        CurateError: a stored sequence cannot be read; names the item.
    """
    first, flips, comparisons = [], [], []
    for id_ in items.ids:
        try:
            frames = torch.from_numpy(frames_of(id_))
        except VideoError as error:
            raise CurateError(f"{id_} is no sequence that can be used ({error}).") from error
        logits = _logits(classifier, _pixels(classifier, frames))
        changes = count_flips(kind, logits.argmax(dim=1).tolist())
        first.append(logits[0])
        flips.append(changes[0])
        comparisons.append(changes[1])
    logits = torch.stack(first)
    labels = _right_labels(logits, items)
    return samples(
        {
            "id": items.ids,
            "label": labels.tolist(),
            "group": items.groups,
            "flips": flips,
            "comparisons": comparisons,
            **_predicted(logits, labels),
        }
    )


def _pixels(classifier: nn.Module, images: Tensor) -> Tensor:
    """Uint8 -> fp32 in [0, 1], where the classifier is."""
    device = next(iter([*classifier.parameters(), *classifier.buffers()])).device
    return images.to(device).float() / 255


@torch.no_grad()
def _logits(classifier: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = classifier(images).float()
    require_finite(finite_rows(logits))
    return logits.cpu()


def _right_labels(logits: Tensor, items: Items) -> Tensor:
    """Of several right labels the one that the classifier prefers."""
    labels = items.labels.clone()
    for row, more in enumerate(items.also):
        if more:
            right = torch.tensor([int(labels[row]), *more])
            labels[row] = right[logits[row, right].argmax()]
    return labels


def _predicted(logits: Tensor, labels: Tensor) -> dict[str, list[object]]:
    classes = logits.argmax(dim=1)
    return {
        "pred": classes.tolist(),
        "margin": margins(logits, labels).tolist(),
        "correct": (classes == labels).tolist(),
    }
