"""Data sets as torchvision keeps them below its root, and three that it does not know.

Nothing is downloaded. Images that are files are read as they are stored, under the ids that
`curate dedup` gives them when it is handed the folder of images; pictures that torchvision holds as
arrays (CIFAR, STL10, PCAM) have no files, and are handed out as PNG with ids `test:00000000`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import CurateError
from curate.samples import printable
from eval.datasets.evalset import Classes, Found, FromArrays, FromDataset
from eval.datasets.generic import folder_dataset, size_of
from eval.datasets.imagenet import NotThereError, Request
from eval.datasets.lists import entries, read_lines


@dataclass(frozen=True)
class Kept:
    """How a set is asked of torchvision.

    Attributes:
        kind: the class in `torchvision.datasets`.
        images: the folder of images below the root; None: they are arrays.
        options: the split, where there are several.
    """

    kind: str
    images: str | None
    options: Mapping[str, object] = field(default_factory=dict)

    def __call__(self, request: Request) -> Found:
        """Open the set below `request.root`.

        Raises:
            NotThereError: torchvision does not find it.
        """
        return open_torchvision(self, request)


TEST = {"split": "test"}
KEPT = {
    "cifar10": Kept("CIFAR10", None, {"train": False}),
    "cifar100": Kept("CIFAR100", None, {"train": False}),
    "stl10": Kept("STL10", None, TEST),
    "pcam": Kept("PCAM", None, TEST),
    "sun397": Kept("SUN397", "SUN397"),
    "cars": Kept("StanfordCars", "stanford_cars/cars_test", TEST),
    "food101": Kept("Food101", "food-101/images", TEST),
    "pets": Kept("OxfordIIITPet", "oxford-iiit-pet/images", TEST),
    "flowers": Kept("Flowers102", "flowers-102/jpg", TEST),
    "dtd": Kept("DTD", "dtd/dtd/images", TEST),
    "eurosat": Kept("EuroSAT", "eurosat/2750"),
    "fgvc_aircraft": Kept("FGVCAircraft", "fgvc-aircraft-2013b/data/images", TEST),
    "caltech101": Kept("Caltech101", "caltech101/101_ObjectCategories"),
    "caltech256": Kept("Caltech256", "caltech256/256_ObjectCategories"),
    "country211": Kept("Country211", "country211/test", TEST),
}
"""EuroSAT, SUN397, Caltech101 and Caltech256 are taken whole, the others by their test split."""


def open_torchvision(kept: Kept, request: Request) -> Found:
    """Open one set below a torchvision root."""
    from torchvision import datasets

    if not request.root.is_dir():  # torchvision would make folders below it
        raise NotThereError(f"no folder {request.root}")
    if kept.images is not None and not (request.root / kept.images).is_dir():
        raise NotThereError(f"no folder {request.root / kept.images}")
    try:
        opened = getattr(datasets, kept.kind)(str(request.root), download=False, **kept.options)
    except (RuntimeError, OSError) as error:
        raise NotThereError(f"torchvision says: {error}") from error
    if kept.images is None:
        return _from_arrays(opened)
    return _from_files(request, request.root / kept.images, opened)


def _from_arrays(opened: Any) -> Found:
    if hasattr(opened, "data"):
        pixels = np.asarray(opened.data, np.uint8)
        if type(opened).__name__ == "STL10":  # channels first
            pixels = pixels.transpose(0, 2, 3, 1)
        labels = [int(label) for label in getattr(opened, "targets", getattr(opened, "labels", ()))]
    else:
        pairs = [opened[number] for number in range(len(opened))]
        pixels = np.stack([np.asarray(image.convert("RGB"), np.uint8) for image, _ in pairs])
        labels = [int(label) for _, label in pairs]
    ids = [f"test:{number:08d}" for number in range(len(labels))]
    source = FromArrays(np.ascontiguousarray(pixels), {id_: n for n, id_ in enumerate(ids)})
    names = tuple(getattr(opened, "classes", ())) or ("0", "1")
    return Found(ids, labels, names, source, {"pixels": _digest(pixels)})


def _digest(pixels: np.ndarray[Any, Any]) -> str:
    from hashlib import sha256

    return sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _from_files(request: Request, base: Path, opened: Any) -> Found:
    pairs = sorted((Path(path), int(label)) for path, label in _pairs(opened, base))
    return from_paths(request, base, pairs, _classes(opened))


def _pairs(opened: Any, base: Path) -> Sequence[tuple[Any, int]]:
    for name in ("_samples", "samples"):
        if hasattr(opened, name):
            return list(getattr(opened, name))
    files = getattr(opened, "_image_files", None) or getattr(opened, "_images", None)
    if files is not None:
        return list(zip(files, opened._labels, strict=True))  # noqa: SLF001  # no other way in
    # the Caltech sets number their files within a category
    pattern = _CALTECH[type(opened).__name__]
    return [
        (base / opened.categories[label] / pattern(label, number), label)
        for label, number in zip(opened.y, opened.index, strict=True)
    ]


_CALTECH: dict[str, Callable[[int, int], str]] = {
    "Caltech101": lambda _label, number: f"image_{number:04d}.jpg",
    "Caltech256": lambda label, number: f"{label + 1:03d}_{number:04d}.jpg",
}
_NUMBERED = re.compile(r"^\d{3}\.")


def _classes(opened: Any) -> Classes:
    if hasattr(opened, "classes"):
        return tuple(str(name) for name in opened.classes)
    if hasattr(opened, "categories"):
        return tuple(
            _NUMBERED.sub("", name).replace("-101", "").replace("-", " ")
            for name in opened.categories
        )
    return tuple(str(number) for number in range(max(opened._labels) + 1))  # noqa: SLF001  # likewise


def from_paths(
    request: Request,
    base: Path,
    pairs: Sequence[tuple[Path, int]],
    names: Classes,
    clusters: Sequence[str] = (),
) -> Found:
    """Chosen files below a folder, with the ids that they have when all of it is read."""
    places = [path.relative_to(base) for path, _ in pairs]
    missing = [path for path, _ in pairs if not path.is_file()]
    if missing:
        raise CurateError(
            f"{missing[0]}: missing, as are {len(missing)} of the {len(pairs)} images of "
            f"{request.name}; fetch the set again."
        )
    dataset = folder_dataset(request.name, base, sorted({p.parent.as_posix() for p in places}))
    names_of = {shard.path: shard.name for shard in dataset.shards}
    return Found(
        [f"{names_of[place.parent.as_posix()]}:{printable(place.name)}" for place in places],
        [label for _, label in pairs],
        names,
        FromDataset(dataset),
        {"sizes": [size_of(path) for path, _ in pairs]},
        clusters=clusters,
    )


# --- sets that torchvision does not know ----------------------------------------------------------


def hateful_memes(request: Request) -> Found:
    """Hateful Memes (Kiela et al. 2020): `img/*.png`, `test_seen.jsonl` and `test_unseen.jsonl`."""
    lists = [request.root / f"test_{part}.jsonl" for part in ("seen", "unseen")]
    present = [path for path in lists if path.is_file()]
    if not present or not (request.root / "img").is_dir():
        raise NotThereError(f"no test_seen.jsonl with img/ is in {request.root}")
    form = "a file below img/ and a label (the first phase has no labels; take the second's lists)"
    rows = [row for path in present for row in entries(path, read_lines(path), _meme, form)]
    base = request.root / "img"
    pairs = sorted((base / place, label) for place, label in rows)
    # some memes are in both lists
    return from_paths(request, base, list(dict.fromkeys(pairs)), ("meme", "hate"))


def _meme(line: str) -> tuple[Path, int]:
    row = json.loads(line)
    place = Path(row["img"]).relative_to("img")
    if ".." in place.parts:
        raise ValueError(f"{row['img']!r} leads out of img/")
    return place, int(row["label"])


_CLIP = re.compile(r"v_(?P<name>.+)_(?P<group>g\d+)_c\d+")
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def ucf101(request: Request) -> Found:
    """UCF101's middle frames (as CoOp took them), of the videos that `testlist01.txt` names.

    Videos of one group show the same people in the same place; the group is the cluster.
    """
    base = request.root / "UCF-101-midframes"
    names = next(iter(sorted(request.root.glob("**/testlist01.txt"))), None)
    if not base.is_dir() or names is None:
        what = "testlist01.txt" if base.is_dir() else base.name
        raise NotThereError(f"no {what} is in {request.root}")
    folders = {path.name.replace("_", ""): path.name for path in base.iterdir() if path.is_dir()}
    classes = tuple(sorted(folders))
    numbers = {name: number for number, name in enumerate(classes)}
    pairs, clusters = [], []
    for line in sorted(read_lines(names)):
        name, _, video = line.partition("/")
        parts = _CLIP.fullmatch(Path(video).stem)
        if name not in folders or parts is None:
            raise CurateError(f"{names}: {line!r} is no video of a class of {base}.")
        pairs.append((base / folders[name] / f"{Path(video).stem}.jpg", numbers[name]))
        clusters.append(f"{parts['name']}_{parts['group']}")
    words = tuple(_WORD.sub(" ", folders[name]).replace("_", " ") for name in classes)
    return from_paths(request, base, pairs, words, clusters)
