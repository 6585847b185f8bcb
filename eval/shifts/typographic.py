"""Words of wrong classes written on images, as ROZ builds ImageNet-T and CIFAR-10-T.

`imagenet-t`: the image as it is stored, a word in eight places, OpenCV's Hershey Duplex at scale
0.8, white, one pixel thick. `cifar-10-t`: an image of 32 pixels is first enlarged to 224 without
smoothing (on 32 pixels nothing could be read), a word in four places, DejaVu Sans, as large beside
the image as ROZ's figures have it. Places are drawn until none overlaps another; the word lies
inside the image as a whole. The wrong class is drawn uniformly from the single-word names that fit,
or comes from a label map; where nothing fits, the image is left out.

Both fonts are free: Hershey's comes with OpenCV (Apache-2.0), DejaVu with matplotlib (Bitstream
Vera licence). ROZ (Wang et al. 2024) used Times New Roman for CIFAR-10, kept no places and no seed,
and in drawing a label seems to keep those that do not fit; that is not repeated.
"""

import csv
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from curate import tables
from curate.errors import CurateError
from curate.files import digest
from eval.datasets import texts
from eval.geometry import Pixels
from eval.shifts import chance

Style = Literal["imagenet-t", "cifar-10-t"]
_PLACES: dict[Style, int] = {"imagenet-t": 8, "cifar-10-t": 4}
_SMALL = 32
_ENLARGED = 224
_POINTS = 17  # 20 points at 150 dots per inch, of an image that is 554 dots wide there
_SCALE = 0.8
_TRIES = 1000
_MOST = 64 << 20

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; the last two outside."""
Written = Mapping[str, tuple[int | None, int]]
"""By item id or key: the true label, where the map says it, and the label to be written."""


@dataclass(frozen=True)
class Typographic:
    """Words on the images of one set; what is drawn depends on (seed, id) only.

    Attributes:
        words: what is written for each label of the set.
        style: of what the words look like.
        seed: of labels and places.
        chosen: a label map; empty: labels are drawn.
    """

    words: tuple[str, ...]
    style: Style
    seed: int = 0
    chosen: Written = field(default_factory=dict, repr=False)

    word = "typographic"

    @property
    def cropped(self) -> bool:
        """Whether its images are the crop that a model sees."""
        return self.style == "cifar-10-t"

    def facts(self) -> dict[str, Any]:
        """All that its pixels depend on."""
        import cv2
        import PIL

        return {
            "typographic": self.style, "places": _PLACES[self.style], "seed": self.seed,
            "words": digest(list(self.words)),
            "chosen": digest(sorted(self.chosen.items())) if self.chosen else None,
            "versions": {"opencv": str(cv2.__version__), "pillow": PIL.__version__},
        }  # fmt: skip

    def made(self, image: Image.Image, id_: str, label: int) -> tuple[Pixels, int] | None:
        """The picture with words on it, and the label that they name; None where nothing fits.

        Raises:
            CurateError: the label map says nothing of the image, another true label, or a number
                that no label of the set has.
        """
        rng = chance.generator(self.seed, id_, self.word)
        if self.style == "cifar-10-t":
            image = image.resize((_ENLARGED, _ENLARGED), Image.Resampling.NEAREST)
        size = _SIZE[self.style]
        for written in self._candidates(rng, id_, label):
            boxes = _boxes(rng, size(self.words[written]), image.size, _PLACES[self.style])
            if boxes is not None:
                return _DRAW[self.style](image, self.words[written], boxes), written
        return None

    def _candidates(self, rng: Generator, id_: str, label: int) -> Sequence[int]:
        """Labels to be tried one after the other."""
        if self.chosen:
            return [_looked_up(self.chosen, id_, label, len(self.words))]
        usable = [
            number for number, word in enumerate(self.words) if is_single(word) and number != label
        ]
        return [usable[place] for place in rng.permutation(len(usable))]


def typographic_for(
    first: Image.Image, labels: Sequence[str], seed: int = 0, chosen: Written | None = None
) -> Typographic:
    """The shift that suits a set: its labels are the words, of ImageNet's classes WordNet's.

    Args:
        first: an image of the set.
        labels: its labels.
        seed: of labels and places.
        chosen: a label map, from `read_label_map`.

    Raises:
        CurateError: fewer than two labels are single words.
    """
    words = _words(labels)
    if sum(map(is_single, words)) < 2:  # noqa: PLR2004  # a wrong one is needed for each
        raise CurateError("typographic: fewer than two labels of the set are single words")
    style: Style = "cifar-10-t" if first.size == (_SMALL, _SMALL) else "imagenet-t"
    return Typographic(words, style, seed, chosen or {})


def _words(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels as ROZ writes them: of ImageNet's classes, all of WordNet's words."""
    names = texts.imagenet_names("openai")
    if tuple(labels) == names:
        return texts.wordnet()  # two names occur twice
    known = dict(zip(names, texts.wordnet(), strict=True))
    return tuple(known[name] for name in labels) if known.keys() >= set(labels) else tuple(labels)


def is_single(word: str) -> bool:
    """Whether a name is one word."""
    return bool(word) and " " not in word and "," not in word


# --- places ---------------------------------------------------------------------------------------


def _boxes(
    rng: Generator, size: tuple[int, int], image: tuple[int, int], count: int
) -> list[Box] | None:
    """Places inside an image that do not overlap; None where the words do not fit."""
    width, height = size
    across, down = image[0] - width, image[1] - height
    if across <= 0 or down <= 0:
        return None
    found: list[Box] = []
    for left, top in zip(
        rng.integers(across, size=_TRIES).tolist(),
        rng.integers(down, size=_TRIES).tolist(),
        strict=True,
    ):
        box = (left, top, left + width, top + height)
        if not any(map(_overlapping(box), found)):
            found.append(box)
            if len(found) == count:
                return found
    return None


def _overlapping(one: Box) -> Callable[[Box], bool]:
    def overlaps(other: Box) -> bool:
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        return not apart

    return overlaps


# --- the two ways of writing ----------------------------------------------------------------------


def _hershey_size(word: str) -> tuple[int, int]:
    import cv2

    (width, height), below = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, _SCALE, 2)
    return width, height + below


def _hershey(image: Image.Image, word: str, boxes: Sequence[Box]) -> Pixels:
    import cv2

    pixels = np.array(image, np.uint8)
    _, below = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, _SCALE, 2)
    for left, _, _, bottom in boxes:
        start = (left, bottom - below)
        cv2.putText(pixels, word, start, cv2.FONT_HERSHEY_DUPLEX, _SCALE, (255, 255, 255), 1)
    return pixels


@cache
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib as mpl

    path = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), _POINTS)


def _dejavu_size(word: str) -> tuple[int, int]:
    left, top, right, bottom = _font().getbbox(word)
    return int(right - left), int(bottom - top)


def _dejavu(image: Image.Image, word: str, boxes: Sequence[Box]) -> Pixels:
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    dx, dy, *_ = _font().getbbox(word)
    for left, top, *_ in boxes:
        draw.text((left - dx, top - dy), word, fill=(255, 255, 255), font=_font())
    return np.array(drawn, np.uint8)


_SIZE: dict[Style, Callable[[str], tuple[int, int]]] = {
    "imagenet-t": _hershey_size,
    "cifar-10-t": _dejavu_size,
}
_DRAW: dict[Style, Callable[[Image.Image, str, Sequence[Box]], Pixels]] = {
    "imagenet-t": _hershey,
    "cifar-10-t": _dejavu,
}


# --- label maps -----------------------------------------------------------------------------------


def read_label_map(path: Path) -> Written:
    """Which wrong label is written on which image.

    A `.csv` or `.parquet` table has columns `id` (item id, key or file name) and `word` (number of
    the label). ROZ's pickles hold plain numbers and texts and are read as such, without letting
    them name any code: a dictionary from file name to label, or a list of (true, written) labels in
    the order of the images.

    Raises:
        CurateError: it cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".parquet":
            return _from_table(path, pl.read_parquet(path).rows(named=True))
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as stream:
                return _from_table(path, list(csv.DictReader(stream)))
        return _from_pickle(path)
    except (
        OverflowError, TypeError, ValueError, csv.Error, pickle.UnpicklingError, *tables.DAMAGE,
    ) as error:  # fmt: skip
        raise CurateError(f"{path}: not readable as a label map ({error}).") from error


def _from_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Written:
    if not rows or not {"id", "word"} <= rows[0].keys():
        raise CurateError(f"{path}: columns id and word were expected.")
    short = next((n for n, row in enumerate(rows, 1) if None in (row["id"], row["word"])), None)
    if short is not None:
        raise CurateError(f"{path}: row {short} lacks its id or its word.")
    return {str(row["id"]): (None, int(row["word"])) for row in rows}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}; only plain data is read")


def _from_pickle(path: Path) -> Written:
    if path.stat().st_size > _MOST:
        raise CurateError(f"{path}: {path.stat().st_size} bytes are no label map.")
    try:
        stored = _Plain(io.BytesIO(path.read_bytes())).load()
    except (EOFError, LookupError, TypeError, AttributeError, MemoryError) as error:
        raise CurateError(f"{path}: not readable as a label map ({error}).") from error
    if isinstance(stored, dict) and all(isinstance(key, str) for key in stored):
        pairs = {key: (None, value) for key, value in stored.items()}
    elif isinstance(stored, list) and all(isinstance(pair, tuple) for pair in stored):
        pairs = {f"{place:08d}": pair for place, pair in enumerate(stored)}
    else:
        raise CurateError(f"{path}: a dictionary of file names or a list of pairs was expected.")
    if not all(len(pair) == 2 and isinstance(pair[1], int) for pair in pairs.values()):  # noqa: PLR2004
        raise CurateError(f"{path}: labels were expected as numbers.")
    return pairs


def _looked_up(chosen: Written, id_: str, label: int, count: int) -> int:
    """The label that the map says is written on an image, one of `count`."""
    key = id_.partition(":")[2]
    for name in (id_, key, Path(key).stem):
        if name in chosen:
            true, written = chosen[name]
            if true is not None and true != label:
                raise CurateError(
                    f"{id_}: its label is {label}, but {true} in the label map; the map is of "
                    "another set or order."
                )
            if not 0 <= written < count:
                raise CurateError(
                    f"{id_}: the label map has {written} for it, and labels are 0 to {count - 1}; "
                    "the map is of another set."
                )
            return written
    raise CurateError(f"{id_}: the label map says nothing of it.")
