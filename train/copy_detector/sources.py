"""The pictures that the copy detector learns from, as arrays of one size per kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from curate.demo.pictures import SCENES, paint
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
TAKES = 3
"""Pictures of one plan, in a series of drawings."""
_DEMO_SEED = 1_000_000
"""Added to the seed of the demonstration's drawings: those that people see are others."""


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


def takes(count: int, seed: int) -> NDArray[np.uint8]:
    """(count, SIDE, SIDE, 3) uint8: the demonstration's drawings, TAKES of each plan.

    Pictures of one plan look alike and are no copies of each other.
    """
    out = []
    for index in range(count):
        number, scene = divmod(index, len(SCENES))
        picture = paint(_DEMO_SEED + seed, scene, *divmod(number, TAKES)).image
        out.append(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
    return np.stack(out)


def blobs(count: int, seed: int) -> NDArray[np.uint8]:
    """(count, SIDE, SIDE, 3) uint8: smooth blobs before a gradient, TAKES of each plan."""
    return np.stack([_blobs(seed, *divmod(index, TAKES)) for index in range(count)])


def _blobs(seed: int, series: int, take: int) -> NDArray[np.uint8]:
    """The plan has colours, places and sizes; a take moves, stretches and tints every blob."""
    plan = np.random.default_rng([seed, series])
    detail = np.random.default_rng([seed, series, take + 1])
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    angle, (first, last) = plan.uniform(0, 2 * np.pi), plan.uniform(0, 1, (2, 3))
    along = np.clip(x * np.cos(angle) + y * np.sin(angle) + 0.5, 0, 1)
    picture = first + (last - first) * along[..., None]
    count, edge, reach = (
        int(plan.integers(2, 9)),
        plan.uniform(0.005, 0.25),
        plan.uniform(0.05, 0.3),
    )
    places = plan.uniform(-0.45, 0.45, (count, 2)) + detail.normal(0, reach, (count, 2))
    sizes = plan.uniform(0.05, 0.35, (count, 1)) * np.exp(detail.normal(0, 0.3, (count, 2)))
    colours = np.clip(plan.uniform(0, 1, (count, 3)) + detail.normal(0, 0.1, (count, 3)), 0, 1)
    for (at_x, at_y), (wide, tall), colour in zip(places, sizes, colours, strict=True):
        distance = np.hypot((x - at_x) / wide, (y - at_y) / tall)
        inside = 1 / (1 + np.exp(np.clip((distance - 1) / edge, -50, 50)))
        picture += (colour - picture) * inside[..., None]
    pixels: NDArray[np.uint8] = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    return pixels
