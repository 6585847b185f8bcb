"""The pictures that the copy detector learns from, as arrays of one size per kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from curate.discover import open_dataset
from curate.encoders.fit_layout import SOURCE, draw_crop, draw_field, draw_leaves, draw_scene
from curate.images import ImageError, decode
from curate.samples import Failure, image_member
from curate.shards import ShardReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SIDE = SOURCE
"""Side of photographs and drawings."""
CROPS = 24
"""Pictures made of each photograph: itself and crops at any scale."""


@dataclass(frozen=True)
class Source:
    """Pictures of one kind.

    Attributes:
        pictures: (groups, members, side, side, 3) uint8; members of a group may overlap, so a
            batch takes one of each.
        share: of a batch.
    """

    pictures: NDArray[np.uint8]
    share: float

    def draw(self, count: int, rng: np.random.Generator) -> torch.Tensor:
        """(count, 3, side, side) float32 in [0, 1], each of another group."""
        groups = rng.choice(len(self.pictures), count, replace=False)
        members = rng.integers(self.pictures.shape[1], size=count)
        chosen = torch.from_numpy(self.pictures[groups, members])
        return chosen.permute(0, 3, 1, 2).float() / 255


def read_images(specs: Sequence[str]) -> Iterator[Image.Image]:
    """Every image of a data set, in order; those that cannot be decoded are left out."""
    dataset = open_dataset(tuple(specs))
    for shard in dataset.shards:
        for sample in ShardReader(dataset, shard):
            member = image_member(sample)
            if isinstance(member, Failure):
                continue
            try:
                yield decode(member.data or b"")
            except ImageError:
                continue


def small(specs: Sequence[str], side: int) -> NDArray[np.uint8]:
    """(n, 1, side, side, 3) uint8, the images of a data set of pictures that small."""
    images = [np.asarray(image.resize((side, side))) for image in read_images(specs)]
    return np.stack(images)[:, None]


def photographs(specs: Sequence[str], rng: np.random.Generator) -> NDArray[np.uint8]:
    """(n, CROPS, SIDE, SIDE, 3) uint8: each photograph, and crops of it."""
    return np.stack([_crops(photo, rng) for photo in read_images(specs)])


def _crops(photo: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    whole = photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    crops = [draw_crop(rng, [photo]) for _ in range(CROPS - 1)]
    return np.stack([np.asarray(picture) for picture in (whole, *crops)])


def drawings(count: int, seed: int) -> NDArray[np.uint8]:
    """(3 count, 1, SIDE, SIDE, 3) uint8: `count` noise fields, dead leaves and drawn scenes."""
    out = []
    for kind, draw in enumerate((draw_field, draw_leaves, draw_scene)):
        rng = np.random.default_rng([seed, kind])
        for _ in range(count):
            picture = draw(rng).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            out.append(np.asarray(picture))
    return np.stack(out)[:, None]
