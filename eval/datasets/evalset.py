"""A test set as it is evaluated: which images, what is right for each, and what texts are made of.

An item is one test image. Its id is the item id that `curate dedup` gives the same image when it is
handed the same folder or shards, so that decisions join by id.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, ImageOps

from curate.errors import CurateError
from curate.files import digest
from curate.images import ImageError, decode
from curate.lookup import Samples
from curate.samples import Failure, image_member
from curate.shards import Dataset

ITEMS = pl.Schema(
    {
        "id": pl.String(),
        "label": pl.Int32(),
        "also": pl.List(pl.Int32()),
        "group": pl.String(),
        "word": pl.Int32(),
    }
)
"""One row for each test image.

`label` is a place in the labels of the set; `also` lists further labels that are right (a frame of
a video shows several animals), null where there are none. `group` is a video or another cluster
whose images are not independent. `word` is the label whose name is written on the image.
"""

Classes = tuple[str, ...]


class Source(Protocol):
    """Where the images of a set are; survives pickling, so that processes can share it."""

    def read(self, id_: str) -> bytes:
        """The stored image of an item id.

        Raises:
            CurateError: there is none, or it cannot be read.
        """
        ...


@dataclass(frozen=True)
class FromDataset:
    """Images in any layout that curate reads."""

    dataset: Dataset

    @cached_property
    def _samples(self) -> Samples:
        return Samples(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": self.dataset}  # open shards stay in their process

    def read(self, id_: str) -> bytes:
        """The stored image of an item id."""
        sample = self._samples.read(id_)
        if sample is None:
            raise CurateError(
                f"{self.dataset.root}: {id_} is not there any more; open the data set again."
            )
        member = image_member(sample)
        if isinstance(member, Failure):
            raise CurateError(f"{self.dataset.root}: {id_}: {member.error}.")
        assert member.data is not None
        return member.data


@dataclass(frozen=True)
class FromFiles:
    """Files of any kind below a folder, by path; for what curate does not list, such as videos."""

    root: str
    paths: Mapping[str, str] = field(repr=False)

    def read(self, id_: str) -> bytes:
        """The bytes of an item's file."""
        path = Path(self.root, self.paths[id_])
        try:
            return path.read_bytes()
        except OSError as error:
            raise CurateError(f"{path}: cannot be read ({error.strerror}).") from error


@dataclass(frozen=True, eq=False)
class FromArrays:
    """Decoded pictures, (n, height, width, 3) uint8; they are handed out as PNG."""

    pixels: NDArray[np.uint8]
    places: Mapping[str, int] = field(repr=False)

    def read(self, id_: str) -> bytes:
        """An item's picture as a PNG."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels[self.places[id_]]).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class EvalSet:
    """A test set.

    Attributes:
        name: as it was asked for, with its variant (`imagenet-c.fog.3`).
        classes: what texts are made of, in the order of the logits.
        templates: texts with `{}` for the class.
        items: `ITEMS`.
        labels: the names of what is right; `items.label` is a place in it.
        groups: for each label the classes that stand for it; the prediction is the label whose
            best class has the highest logit. None: classes and labels are the same.
        digest: sha256 (hex) of all of the above and of `images_digest`.
        images_digest: sha256 (hex) of items and images (see `Found.content`), whatever the texts.
        source: where images are.
        border: pixels to be removed at every side of an image.
        cropped: images are the crop that a model sees; they may be resized, but never cut again.
        imagenet: for each class its number among ImageNet's 1,000, if they are of these.
    """

    name: str
    classes: Classes
    templates: tuple[str, ...]
    items: pl.DataFrame
    labels: Classes
    groups: tuple[tuple[int, ...], ...] | None
    digest: str
    images_digest: str
    source: Source
    border: int = 0
    cropped: bool = False
    imagenet: tuple[int, ...] | None = None

    def read(self, id_: str) -> bytes:
        """The stored image of an item.

        Raises:
            CurateError: it cannot be read.
        """
        return self.source.read(id_)

    def image(self, id_: str) -> Image.Image:
        """The image of an item as it is evaluated: RGB, upright, without its border.

        Raises:
            CurateError: it cannot be read or decoded; names the item.
        """
        try:
            image = decode(self.read(id_))
        except ImageError as error:
            raise CurateError(f"{self.name}: {id_} is no image that can be used ({error}).") from (
                error
            )
        if self.border and min(image.size) <= 2 * self.border:
            raise CurateError(
                f"{self.name}: {id_} is {image.width} x {image.height}, no more than its border."
            )
        return ImageOps.crop(image, border=self.border) if self.border else image


@dataclass(frozen=True)
class Found:
    """What a layout found in a folder.

    Attributes:
        ids: item ids.
        labels: for each, its place in `names`.
        names: of labels.
        source: where the images are.
        content: what the digest says of the images: digests of shards, or sizes of files.
        also: for each, further right labels; empty: there are none.
        clusters: for each, its cluster; empty: there are none.
        words: for each, the label that is written on it; empty: nothing is written.
        classes: what texts are made of, where that is not `names`.
        groups: of labels, as in `EvalSet`.
        templates: from a file beside the images; empty: there is none.
        border: as in `EvalSet`.
        cropped: likewise.
        imagenet: likewise.
    """

    ids: Sequence[str]
    labels: Sequence[int]
    names: Classes
    source: Source
    content: Any
    also: Sequence[Sequence[int]] = ()
    clusters: Sequence[str] = ()
    words: Sequence[int | None] = ()
    classes: Classes | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    templates: tuple[str, ...] = ()
    border: int = 0
    cropped: bool = False
    imagenet: tuple[int, ...] | None = None


def assembled(name: str, place: str, found: Found, templates: Sequence[str]) -> EvalSet:
    """Check what was found and make an `EvalSet` of it.

    Args:
        name: of the set.
        place: where it was found, for errors.
        found: the items.
        templates: texts with `{}`.

    Raises:
        CurateError: nothing is in it, an id occurs twice, a label is out of range.
    """
    if not found.ids:
        raise CurateError(f"{place}: no images are in it, so there is nothing to evaluate.")
    rows = len(found.ids)
    items = pl.DataFrame(
        {
            "id": list(found.ids),
            "label": list(found.labels),
            "also": [list(more) or None for more in found.also] or [None] * rows,
            "group": list(found.clusters) or [None] * rows,
            "word": list(found.words) or [None] * rows,
        },
        ITEMS,
    )
    twice = items.filter(pl.col("id").is_duplicated())
    if twice.height:
        raise CurateError(f"{place}: the id {twice['id'][0]!r} occurs twice.")
    _check_labels(place, items, len(found.names))
    classes = found.names if found.classes is None else found.classes
    images = digest(
        {"content": found.content, "items": items.rows(), "border": found.border,
         "cropped": found.cropped}
    )  # fmt: skip
    texts = {"classes": classes, "templates": list(templates), "labels": found.names}
    return EvalSet(
        name, classes, tuple(templates), items, found.names, found.groups,
        digest({"images": images, "groups": found.groups, **texts}), images,
        found.source, found.border, found.cropped, found.imagenet,
    )  # fmt: skip


def _check_labels(place: str, items: pl.DataFrame, count: int) -> None:
    wrong = items.filter((pl.col("label") < 0) | (pl.col("label") >= count))
    if wrong.height:
        id_, label = wrong.row(0)[:2]
        raise CurateError(
            f"{place}: {id_} has label {label}, but there are {count} classes (0 to {count - 1}). "
            "Class names and images do not belong together."
        )
