"""The images of a test set as a model takes them, decoded once and kept as uint8.

Sets are taken in pieces of `PIECE` images. A piece is a `.npy` file in a cache folder whose name
digests all that its pixels hang on; whoever needs it first writes it, under a temporary name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from curate.errors import CurateError
from curate.files import atomic_write
from eval.geometry import Pixels, as_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from eval.datasets.evalset import EvalSet
    from eval.geometry import Geometry

PIECE = 500


@dataclass(frozen=True, eq=False)
class Items:
    """Some items of a test set, and what is right for each.

    Attributes:
        ids: item ids.
        labels: (n,) int64 places in the labels of the set.
        also: for each, further right labels.
        groups: for each, its cluster or None.
        words: for each, the label that is written on it or None.
    """

    ids: tuple[str, ...]
    labels: Tensor
    also: tuple[tuple[int, ...], ...]
    groups: tuple[str | None, ...]
    words: tuple[int | None, ...]

    def __len__(self) -> int:
        """How many."""
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Pictures(Items):
    """Items with their images.

    Attributes:
        images: (n, 3, H, W) uint8.
    """

    images: Tensor


def read_items(subject: EvalSet, rows: Sequence[int]) -> Items:
    """Some items of a set."""
    items = subject.items[list(rows)]
    return Items(
        tuple(items["id"]),
        torch.from_numpy(items["label"].to_numpy().astype(np.int64)),
        tuple(tuple(more or ()) for more in items["also"].to_list()),
        tuple(items["group"]),
        tuple(items["word"]),
    )


def read_pictures(
    subject: EvalSet, rows: Sequence[int], shape: Geometry | None, cache: Path | None = None
) -> Pictures:
    """Decode some images of a set, or read them from the cache.

    Args:
        subject: the set.
        rows: which items.
        shape: to the model's input; None: as they are stored, which must be squares of one size.
        cache: a `.npy` for these very rows.

    Raises:
        CurateError: an image cannot be decoded, they have different sizes, or the cache cannot be
            written.
    """
    items = read_items(subject, rows)
    images = None if cache is None else _cached(cache, len(items))
    if images is None:
        images = _decoded(subject, items.ids, shape)
        if cache is not None:
            with atomic_write(cache) as stream:
                np.save(stream, images)
    return Pictures(**vars(items), images=torch.from_numpy(images))


def _decoded(subject: EvalSet, ids: Sequence[str], shape: Geometry | None) -> Pixels:
    """(n, 3, H, W) of some items."""
    pixels: list[Pixels] = []
    for id_ in ids:
        image = subject.image(id_)
        pixels.append(as_pixels(image if shape is None else shape(image)))
        _, height, width = pixels[-1].shape
        if height != width or pixels[-1].shape != pixels[0].shape:
            raise CurateError(
                f"{subject.name}: {id_} has {width} x {height} pixels, and an attack on images as "
                f"they are stored needs squares of one size ({ids[0]} has {pixels[0].shape[2]}); "
                "attack them as the model takes them: @ATTACK.epsRADIUS.input"
            )
    return np.stack(pixels)


def _cached(path: Path, count: int) -> Pixels | None:
    """What the cache holds; None where nothing, or what no whole piece would be."""
    try:
        images: Pixels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = images.dtype == np.uint8 and images.ndim == 4 and len(images) == count  # noqa: PLR2004
    return images if fits else None
