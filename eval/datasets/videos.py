"""Frames of videos: ImageNet-Vid-Robust and YTBB-Robust (Shankar et al. 2019).

An anchor frame comes with the frames within ten of it that people found alike. `pm0` is the anchors
alone; in `pm10` a set counts as right when every frame of it is, so its rows share a group, which
is the anchor's id. Predictions are over labels that stand for several ImageNet classes each.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import CurateError
from curate.files import read_json
from curate.formats import folder
from curate.samples import printable
from eval.datasets import texts
from eval.datasets.evalset import Classes, Found, FromDataset
from eval.datasets.generic import folder_dataset, size_of
from eval.datasets.imagenet import CLASSES, NotThereError, Request, with_groups
from eval.datasets.lists import entries, read_lines

VARIANTS = ("pm0", "pm10")
YTBB_FOLDER = "ytbb-robust_metadata"
_MAP = "rev_class_idx_map.json"
_FIRST = "ytbb_robustness_test_anchors_full.csv"
_REACH = 10
_ROW = 3  # anchor, frames, labels; a fourth entry has what differs


@dataclass(frozen=True)
class Anchor:
    """An anchor frame with its set, paths relative to the folder of videos.

    Attributes:
        path: of the anchor.
        labels: right for the anchor.
        others: paths of the other frames, and what is right for each.
    """

    path: str
    labels: Sequence[int]
    others: Mapping[str, Sequence[int]] = field(default_factory=dict)


def vid_robust(request: Request) -> Found:
    """ImageNet-Vid-Robust: `val/ILSVRC*/*.JPEG`; the sets of frames are in `data/`."""
    known = texts.data("vid_robust")
    places = [request.root / "imagenet-vid-robust" / "val", request.root / "val", request.root]
    root = next((place for place in places if any(place.glob("ILSVRC201?_val_*"))), None)
    if root is None:
        raise NotThereError(f"no folder of a video is below {request.root}")
    labels: dict[str, list[int]] = known["labels"]
    anchors = [_vid_anchor(name, row) for name, row in known["videos"].items()]
    return _found(request, root, anchors, tuple(labels), list(labels.values()))


def _vid_anchor(name: str, row: Sequence[Any]) -> Anchor:
    number, bits, labels = row[0], int(row[1], 16), row[2]
    odd: dict[str, list[int]] = row[_ROW] if len(row) > _ROW else {}
    offsets = [offset for offset in range(-_REACH, _REACH + 1) if bits >> (offset + _REACH) & 1]
    others = {
        f"ILSVRC{name}/{number + offset:06d}.JPEG": odd.get(str(offset), labels)
        for offset in offsets
    }
    return Anchor(f"ILSVRC{name}/{number:06d}.JPEG", labels, others)


def _found(
    request: Request, root: Path, anchors: Sequence[Anchor], names: Classes, numbers: Any
) -> Found:
    rows = list(_rows(anchors, request.variant or VARIANTS[0]))
    dataset = folder_dataset(
        request.name, root, sorted({Path(path).parent.name for path, *_ in rows})
    )
    sizes = _sizes(root, [shard.path for shard in dataset.shards])
    missing = [path for path, *_ in rows if path not in sizes]
    if missing:
        raise CurateError(
            f"{root / missing[0]}: missing, as are {len(missing)} of the {len(rows)} frames of "
            f"{request.name}; fetch the set again."
        )
    found = Found(
        [_id(path) for path, *_ in rows],
        [labels[0] for _, labels, _ in rows],
        names,
        FromDataset(dataset),
        {"sizes": [sizes[path] for path, *_ in rows]},
        also=[labels[1:] for _, labels, _ in rows],
        clusters=[_id(anchor) for *_, anchor in rows],
    )
    return with_groups(found, names, numbers)


def _rows(anchors: Sequence[Anchor], variant: str) -> Iterator[tuple[str, list[int], str]]:
    for anchor in anchors:
        yield anchor.path, list(anchor.labels), anchor.path
        if variant == "pm10":
            for path, labels in anchor.others.items():
                yield path, list(labels), anchor.path


def _id(path: str) -> str:
    video, _, frame = path.rpartition("/")
    return f"{printable(video)}:{frame}"


def _sizes(root: Path, directories: Sequence[str]) -> dict[str, int]:
    return {
        f"{directory}/{paths[0].name}": size_of(paths[0])
        for directory in directories
        for _, paths in folder.index(root, directory)
    }


# --- YTBB-Robust: its annotations are read as the testbed has them --------------------------------

_BAD_FRAME = frozenset((
    "dissimilar", "problematic", "incorrect", "dont know", "deformation", "background-change",
    "occlusion-increased", "blur-increase", "bad-anchor",
))  # fmt: skip
_FRAME = re.compile(r"(?P<video>.+)_(?P<time>\d+)/frame-(?P<number>\d+)\.jpg")
_SWAPPED = {22: 23, 23: 22}  # the list of anchors has these two the other way round


def ytbb_robust(request: Request) -> Found:
    """YTBB-Robust: `{video}_{time}/frame-*.jpg`, beside the testbed's folder of annotations."""
    places = [request.root / "ytbb-robust", request.root]
    root = next((place for place in places if any(place.glob("*/frame-*.jpg"))), None)
    notes = next((p / YTBB_FOLDER for p in places if (p / YTBB_FOLDER).is_dir()), None)
    if root is None or notes is None:
        what = "no frames are" if root is None else f"no {YTBB_FOLDER} is"
        raise NotThereError(f"{what} below {request.root}")
    index = _index(notes / "ytbb_class_index.json")
    numbers = _numbers(notes / _MAP)
    used = [number for number in sorted(index) if str(number) in numbers]
    anchors = _ytbb_anchors(notes, index, {number: label for label, number in enumerate(used)})
    names = tuple(index[number] for number in used)
    return _found(request, root, anchors, names, [numbers[str(number)] for number in used])


def _ytbb_anchors(notes: Path, index: Mapping[int, str], places: Mapping[int, int]) -> list[Anchor]:
    numbers = {name: number for number, name in index.items()}
    kept = {
        _short(key): words
        for key, words in _annotations(notes / "anchor_labels.json").items()
        if "good" in words and not words & {"bad", "unsure"}
    }
    pairs = _annotations(notes / "pmk_labels.json")
    bad = {_pair(key)[0] for key, words in pairs.items() if "bad-anchor" in words}
    alike: dict[str, list[str]] = {}
    for key, words in pairs.items():
        if "similar" in words and not words & _BAD_FRAME:
            anchor, frame = _pair(key)
            alike.setdefault(anchor, []).append(frame)
    first = _first_labels(notes / _FIRST)
    anchors = []
    for path, words in sorted(kept.items()):
        if path not in bad:
            video = path.partition("/")[0]
            if video not in first:
                raise CurateError(f"{notes / _FIRST}: says nothing of {video}; fetch it again.")
            labels = {numbers[word] for word in words if word in numbers} | first[video]
            strange = sorted(labels - places.keys())
            if strange:
                raise CurateError(
                    f"{notes / _MAP}: says nothing of class {strange[0]}, which {path} shows; "
                    "fetch it again."
                )
            right = sorted(places[number] for number in labels)
            near = sorted(frame for frame in alike.get(path, ()) if _is_near(path, frame))
            anchors.append(Anchor(path, right, dict.fromkeys(near, right)))
    return anchors


def _index(path: Path) -> dict[int, str]:
    """The names of classes by their numbers."""
    return dict(
        entries(path, _items(path), lambda pair: (int(pair[0]), pair[1]), "a numbered name")
    )


def _numbers(path: Path) -> dict[str, list[int]]:
    """Which of ImageNet's classes a class stands for, by its number as text."""

    def read(pair: tuple[str, Any]) -> tuple[str, list[int]]:
        return pair[0], [range(CLASSES).index(number) for number in pair[1]]

    return dict(entries(path, _items(path), read, "numbers of ImageNet's classes"))


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    yield from read_json(path).items()


def _annotations(path: Path) -> dict[str, set[str]]:
    """Words by key; where a key was annotated twice, the last one counts."""
    stored = read_json(path)

    def rows() -> Iterator[Any]:
        yield from stored["annotations"]

    def read(row: Any) -> tuple[str, set[str]]:
        return str(row["key"]), {stored["labels"][number] for number in row["labels"]}

    return dict(entries(path, rows(), read, "a key and numbers of labels"))


def _short(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def _pair(key: str) -> tuple[str, str]:
    anchor, _, frame = key.partition(",")
    return _short(anchor), _short(frame)


def _is_near(anchor: str, frame: str) -> bool:
    one, other = _FRAME.fullmatch(anchor), _FRAME.fullmatch(frame)
    if one is None or other is None:
        raise CurateError(f"{anchor}, {frame}: not frames of YTBB-Robust.")
    return 0 < abs(int(one["number"]) - int(other["number"])) <= _REACH


def _first_labels(path: Path) -> dict[str, set[int]]:
    def read(row: Mapping[str, str]) -> tuple[str, set[int]]:
        label = int(row["label"])
        return f"{row['ytid']}_{row['time_ms']}", {_SWAPPED.get(label, label)}

    rows = csv.DictReader(read_lines(path))
    return dict(entries(path, rows, read, "ytid, time_ms and the number of a label"))
