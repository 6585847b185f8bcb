"""ImageNet and the sets made after it, as they are published: folders that say the class.

A class is known by its wnid or its number, never by the place of its folder among the others: a set
of 200 classes has labels among these 200, and texts are made for these only.
"""

import csv
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.errors import CurateError
from curate.formats import folder
from curate.shards import Dataset
from eval.datasets import texts
from eval.datasets.evalset import Classes, Found, FromDataset, FromFiles
from eval.datasets.generic import folder_dataset, from_folders, size_of
from eval.datasets.lists import entries, read_lines

CLASSES = 1000
V2_VARIANTS = ("matched-frequency", "threshold-07", "top-images")
_V2_FOLDERS = dict(
    zip(V2_VARIANTS, ("matched-frequency", "threshold-0.7", "top-images"), strict=True)
)
_GROUND_TRUTH = (
    "LOC_val_solution.csv",
    "imagenet_2012_validation_synset_labels.txt",
    "val.txt",
    "ILSVRC2012_validation_ground_truth.txt",
)


class NotThereError(CurateError):
    """The folder does not have the layout; the caller says what was expected."""


@dataclass(frozen=True)
class Request:
    """What is asked of a layout: a part of the set below `root`."""

    name: str
    root: Path
    variant: str | None = None
    severity: int | None = None


def _holder(candidates: Sequence[Path], names: Mapping[str, int]) -> Path:
    """The first folder in which a folder has one of the names.

    Raises:
        NotThereError: none has.
    """
    for place in candidates:
        if place.is_dir() and any(path.name in names for path in place.iterdir()):
            return place
    raise NotThereError(f"no folder of a class is below {candidates[0]}")


def by_wnid(request: Request, wnids: Classes, *places: str, strict: bool = True) -> Found:
    """Images in folders named by wnid, in the first of `places` or at the root itself."""
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    root = _holder([*(request.root / place for place in places), request.root], numbers)
    return from_folders(folder_dataset(request.name, root), numbers, wnids, strict=strict)


def validation(request: Request) -> Found:
    """ILSVRC 2012's validation images, in folders or flat; or those of a smaller set's classes.

    Variants `a-classes`, `r-classes`, `objectnet-classes` and `vid-classes` are what effective
    robustness on those sets is measured against; their texts are those of the smaller set.
    """
    try:
        found = by_wnid(request, texts.imagenet_wnids(), "val")
    except NotThereError:
        found = _flat(request)
    return found if request.variant is None else _restricted(found, request.variant)


def _restricted(found: Found, variant: str) -> Found:
    names, groups = _targets(variant)
    label_of = {number: label for label, group in enumerate(groups) for number in group}
    kept = [place for place, label in enumerate(found.labels) if label in label_of]
    grouped = any(len(group) > 1 for group in groups)
    part = replace(
        found,
        ids=[found.ids[place] for place in kept],
        labels=[label_of[found.labels[place]] for place in kept],
        content={"sizes": [found.content["sizes"][place] for place in kept]},
    )
    return with_groups(part, names, groups) if grouped else replace(part, names=names)


def _targets(variant: str) -> tuple[Classes, list[list[int]]]:
    if variant in {"a-classes", "r-classes"}:
        name = f"imagenet-{variant[0]}"
        numbers = texts.data("imagenet_subsets")["classes"][name]
        return texts.subset(name), [[number] for number in numbers]
    if variant == "objectnet-classes":
        return _objectnet()
    labels = texts.data("vid_robust")["labels"]
    return tuple(labels), list(labels.values())


def with_groups(found: Found, names: Classes, numbers: Sequence[Sequence[int]]) -> Found:
    """Labels that stand for several ImageNet classes; texts are made for these classes only."""
    wnids = texts.imagenet_wnids()
    rows = sorted({number for group in numbers for number in group})
    place = {number: row for row, number in enumerate(rows)}
    groups = tuple(tuple(place[number] for number in group) for group in numbers)
    classes = tuple(wnids[number] for number in rows)
    return replace(found, names=names, classes=classes, groups=groups)


# --- the flat form of the validation set ----------------------------------------------------------


def _flat(request: Request) -> Found:
    root = next(
        (
            place
            for place in (request.root / "val", request.root)
            if place.is_dir() and any(place.glob("ILSVRC2012_val_*.JPEG"))
        ),
        None,
    )
    if root is None:
        raise NotThereError(f"no folder of a class is below {request.root}")
    truth = _truth(request.root)
    dataset = folder_dataset(request.name, root, ["."])
    keys = list(folder.index(root, "."))
    missing = [key for key, _ in keys if Path(key).stem not in truth]
    if missing:
        raise CurateError(f"{root}: {missing[0]} is not in the ground truth.")
    return Found(
        [f"{dataset.shards[0].name}:{key}" for key, _ in keys],
        [truth[Path(key).stem] for key, _ in keys],
        texts.imagenet_wnids(),
        FromDataset(dataset),
        {"sizes": [size_of(paths[0]) for _, paths in keys]},
    )


def _truth(root: Path) -> dict[str, int]:
    """The number of each validation image's class, by its name without extension."""
    for name in _GROUND_TRUTH:
        for path in sorted({root / name, root / "val" / name, *root.glob(f"*/data/{name}")}):
            if path.is_file():
                return _read_truth(path)
    raise CurateError(
        f"{root}: images lie in one folder, and nothing says their classes. Put one of "
        f"{', '.join(_GROUND_TRUTH)} beside them (the last one in the devkit with its meta.mat), "
        "or sort the images into folders named by wnid."
    )


def _read_truth(path: Path) -> dict[str, int]:
    lines = read_lines(path)
    numbers = {wnid: number for number, wnid in enumerate(texts.imagenet_wnids())}
    if path.suffix == ".csv":

        def solution(row: Mapping[str, str]) -> tuple[str, int]:
            return row["ImageId"], numbers[row["PredictionString"].split()[0]]

        form = "an ImageId, and a PredictionString that begins with a wnid of ImageNet"
        return dict(entries(path, csv.DictReader(lines), solution, form))
    if path.name == "val.txt":
        return dict(entries(path, lines, _numbered, f"a file and a number from 0 to {CLASSES - 1}"))
    if path.name.startswith("ILSVRC"):
        # these numbers follow the devkit's own order of classes, which is not that of the wnids
        order = _devkit_order(path.with_name("meta.mat"))
        form = "the number of a class of meta.mat"
        labels = entries(path, lines, lambda line: numbers[order[int(line)]], form)
    else:
        labels = entries(path, lines, numbers.__getitem__, "a wnid of ImageNet")
    return {f"ILSVRC2012_val_{number:08d}": label for number, label in enumerate(labels, 1)}


def _numbered(line: str) -> tuple[str, int]:
    name, number = line.split()
    return Path(name).stem, range(CLASSES).index(int(number))


def _devkit_order(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise CurateError(f"{path}: missing; without it the numbers in the devkit say no class.")
    form = "a number and a wnid of the devkit's synsets"
    return dict(entries(path, _synsets(path), lambda row: (int(row[0]), str(row[1])), form))


def _synsets(path: Path) -> Iterator[Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        stored = loadmat(path, squeeze_me=True)
    except (MatReadError, NotImplementedError, OSError, zlib.error) as error:
        raise CurateError(f"{path}: not readable as MATLAB data ({error}).") from error
    yield from stored["synsets"]


# --- sets made after ImageNet ---------------------------------------------------------------------


def v2(request: Request) -> Found:
    """ImageNetV2 (Recht et al. 2019): folders `0` to `999`, by number and not as sorted text."""
    variant = _V2_FOLDERS[request.variant or V2_VARIANTS[0]]
    numbers = {str(number): number for number in range(CLASSES)}
    places = [
        request.root / f"imagenetv2-{variant}-format-val",
        request.root / f"imagenetv2-{variant}",
    ]
    if request.root.name.startswith(f"imagenetv2-{variant}"):
        places.append(request.root)
    root = _holder(places, numbers)
    return from_folders(folder_dataset(request.name, root), numbers, texts.imagenet_wnids())


def imagenet_a(request: Request) -> Found:
    """ImageNet-A (Hendrycks et al. 2021): 200 folders by wnid."""
    return by_wnid(request, texts.subset("imagenet-a"), "imagenet-a")


def imagenet_r(request: Request) -> Found:
    """ImageNet-R (Hendrycks et al. 2021): 200 folders by wnid."""
    return by_wnid(request, texts.subset("imagenet-r"), "imagenet-r")


def sketch(request: Request) -> Found:
    """ImageNet-Sketch (Wang et al. 2019): 1,000 folders by wnid."""
    return by_wnid(request, texts.imagenet_wnids(), "sketch")


def stylized(request: Request) -> Found:
    """Stylized ImageNet (Geirhos et al. 2019): `val` in folders by wnid."""
    return by_wnid(request, texts.imagenet_wnids(), "val")


def imagenet_c(request: Request) -> Found:
    """ImageNet-C (Hendrycks and Dietterich 2019): crops of 224 pixels that are not cut again."""
    if request.variant is None or request.severity is None:
        raise CurateError(
            f"{request.name}: say which part, such as imagenet-c.fog.3 (corruption and severity)."
        )
    part = f"{request.variant}/{request.severity}"
    inside = [path / part for path in sorted(request.root.glob("*")) if path.is_dir()]
    places = [request.root / part, *inside]
    numbers = {wnid: number for number, wnid in enumerate(texts.imagenet_wnids())}
    root = _holder(places, numbers)
    dataset = folder_dataset(request.name, root)
    return replace(from_folders(dataset, numbers, texts.imagenet_wnids()), cropped=True)


def imagenet_p(request: Request) -> Found:
    """ImageNet-P (Hendrycks and Dietterich 2019): a video for each image, below folders by wnid."""
    if request.variant is None:
        raise CurateError(f"{request.name}: say which part, such as imagenet-p.translate.")
    numbers = {wnid: number for number, wnid in enumerate(texts.imagenet_wnids())}
    inside = [path / request.variant for path in sorted(request.root.glob("*")) if path.is_dir()]
    root = _holder([request.root / request.variant, *inside], numbers)
    files = sorted(path for path in root.glob("*/*.mp4") if path.parent.name in numbers)
    ids = [f"{path.parent.name}:{path.name}" for path in files]
    places = {id_: str(path.relative_to(root)) for id_, path in zip(ids, files, strict=True)}
    return Found(
        ids,
        [numbers[path.parent.name] for path in files],
        texts.imagenet_wnids(),
        FromFiles(str(root), places),
        {"sizes": [size_of(path) for path in files]},
        cropped=True,
    )


def objectnet(request: Request) -> Found:
    """ObjectNet (Barbu et al. 2019): the 113 of its 313 folders that are classes of ImageNet.

    Every image has a red border of 2 pixels, which is not evaluated.
    """
    folders = texts.data("objectnet")["folders"]
    names, numbers = _objectnet()
    labels = {name: label for label, name in enumerate(folders)}
    places = [
        request.root / "images",
        request.root / "objectnet-1.0" / "images",
        request.root,
    ]
    root = _holder(places, labels)
    dataset = folder_dataset(request.name, root)
    found = from_folders(dataset, labels, names, strict=False)
    return replace(with_groups(found, names, numbers), border=2)


def _objectnet() -> tuple[Classes, list[list[int]]]:
    folders = texts.data("objectnet")["folders"].values()
    return tuple(one["name"] for one in folders), [one["imagenet"] for one in folders]


def tiny(request: Request) -> Found:
    """TinyImageNet's 200 classes: `val/images` with `val_annotations.txt`, or folders by wnid."""
    root = next(
        (
            place
            for place in (request.root / "tiny-imagenet-200", request.root)
            if (place / "wnids.txt").is_file()
        ),
        None,
    )
    if root is None:
        raise NotThereError(f"no wnids.txt is in {request.root}")
    wnids = tuple(sorted(read_lines(root / "wnids.txt")))
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    classes = _words_for(root / "words.txt", wnids)
    annotations = root / "val" / "val_annotations.txt"
    if annotations.is_file():
        dataset = folder_dataset(request.name, root / "val" / "images")
        found = _annotated(dataset, annotations, numbers, classes)
    else:
        dataset = folder_dataset(request.name, root / "val")
        found = from_folders(dataset, numbers, classes)
    return found


def _words_for(path: Path, wnids: Classes) -> Classes:
    """ImageNet's names; for what is no class of the 1,000, the first word of the set's own list."""
    known = dict(zip(texts.imagenet_wnids(), texts.imagenet_wnids(), strict=True))
    if all(wnid in known for wnid in wnids):
        return wnids
    if not path.is_file():
        raise CurateError(f"{path}: missing; it has the names of the classes.")
    pairs = (line.split("\t", 1) for line in read_lines(path) if "\t" in line)
    words = {wnid: names.split(",")[0].strip() for wnid, names in pairs}
    return tuple(known.get(wnid, words.get(wnid, wnid)) for wnid in wnids)


def _annotated(
    dataset: Dataset, annotations: Path, numbers: Mapping[str, int], names: Classes
) -> Found:
    form = "a file name, a tab and a wnid"
    truth = dict(entries(annotations, read_lines(annotations), _annotation, form))
    root = Path(dataset.root)
    files = dict(folder.index(root, "."))
    missing = sorted(files.keys() - truth.keys())
    if missing:
        raise CurateError(f"{annotations}: says nothing of {missing[0]}.")
    strange = sorted(key for key in files if truth[key] not in numbers)
    if strange:
        raise CurateError(
            f"{annotations}: {strange[0]} is of class {truth[strange[0]]!r}, which is none of "
            "wnids.txt; fetch the set again."
        )
    shard = dataset.shards[0].name
    return Found(
        [f"{shard}:{key}" for key in files],
        [numbers[truth[key]] for key in files],
        names,
        FromDataset(dataset),
        {"sizes": [size_of(paths[0]) for paths in files.values()]},
    )


def _annotation(line: str) -> tuple[str, str]:
    name, wnid, *_ = line.split("\t")
    return name, wnid
