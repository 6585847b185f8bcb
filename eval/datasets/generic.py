"""Layouts that say themselves what is in them: shards, image folders, CLIP_benchmark's, splits.

CLIP_benchmark's layout is `{root}/{split}/{i}.tar` with `nshards.txt`, and beside the splits
`classnames.txt` and `zeroshot_classification_templates.txt`; a sample is an image and a `.cls` with
the number of its class (LAION-AI/CLIP_benchmark).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from curate import artifacts
from curate.discover import open_dataset
from curate.encoders.base import nearest
from curate.errors import CurateError
from curate.formats import folder
from curate.samples import printable
from curate.shards import Dataset, Shard, ShardReader
from curate.splits import SPLIT_FILE, read_decisions
from eval.datasets.evalset import Classes, Found, FromDataset
from eval.datasets.lists import read_lines

CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
PLACEHOLDER = "{c}"
_SHARDS = (".tar", ".tar.gz", ".tgz", ".parquet")


def open_stored(root: Path, known: Classes, split: str = "test") -> Found | None:
    """Read a folder of shards, in CLIP_benchmark's layout or any other; None when it holds none.

    Args:
        root: the folder.
        known: classes in the order of their numbers, where they are known; a list beside the
            shards comes first.
        split: which of CLIP_benchmark's splits.

    Raises:
        CurateError: a shard is damaged, a label fits no class.
    """
    if (root / split / "nshards.txt").is_file():
        return _clip_benchmark(root, split, known)
    if (root / "nshards.txt").is_file():
        return _clip_benchmark(root.parent, root.name, known)
    if root.is_file() or any(path.name.endswith(_SHARDS) for path in root.glob("*")):
        return _shards(open_dataset(str(root)), known)
    return None


def image_folders(root: Path, names: Classes) -> Found | None:
    """Read folders of images that are named by class; None when there are none.

    Args:
        root: the folder that holds them.
        names: classes in the order of their numbers; none: the names of the folders, sorted.

    Raises:
        CurateError: a folder is of no class.
    """
    if not any(folder.is_image(path) for path in root.glob("*/*")):
        return None
    dataset = open_dataset(str(root))
    found = sorted({Path(shard.path).name for shard in dataset.shards if shard.path != "."})
    numbers = {name: number for number, name in enumerate(names or found)}
    numbers |= {one: numbers[tidy(one)] for one in found if tidy(one) in numbers}
    return from_folders(dataset, numbers, names or tuple(found))


def tidy(name: str) -> str:
    """The name of a folder as words."""
    return " ".join(name.replace("_", " ").replace("/", " ").split())


def clean_part(root: Path) -> Path:
    """The clean images of a split folder; any other folder itself.

    Raises:
        CurateError: the split was written without them, or is not whole.
    """
    if not (root / SPLIT_FILE).is_file():
        return root
    missing = artifacts.missing_outputs(root, artifacts.read_manifest(root))
    if missing:
        raise CurateError(
            f"{root / missing[0]}: missing, or not as it was written; `curate split` writes it "
            "again."
        )
    if not (root / "clean").is_dir():
        raise CurateError(
            f"{root}: the split was written without its clean images; `curate split --write clean` "
            "adds them."
        )
    return root / "clean"


def labels_before(root: Path) -> Classes:
    """All labels of a set that was split, sorted: a class may have lost its last image."""
    return tuple(sorted(set(read_decisions(root)["label"].drop_nulls())))


def _clip_benchmark(root: Path, split: str, known: Classes) -> Found:
    names = _lines(root / CLASS_NAMES)
    # numbers are read as such: two classes may have one name, which then says nothing
    dataset = replace(open_dataset(str(root / split)), class_names=())
    found = _shards(dataset, names or known, by_number=True)
    texts = tuple(line.replace(PLACEHOLDER, "{}") for line in _lines(root / TEMPLATES))
    return replace(found, templates=texts)


def _lines(path: Path) -> Classes:
    return tuple(read_lines(path)) if path.is_file() else ()


def _shards(dataset: Dataset, known: Classes, *, by_number: bool = False) -> Found:
    ids, labels, content = [], [], {}
    for shard in dataset.shards:
        found, texts, content[shard.name] = _read(dataset, shard)
        ids += found
        labels += texts
    names = known or _names_of(dataset.root, labels)
    numbers = label_numbers(dataset.root, ids, labels, names, by_number=by_number)
    return Found(ids, numbers, names, FromDataset(dataset), content)


def _read(dataset: Dataset, shard: Shard) -> tuple[list[str], list[str | None], str]:
    """Ids and labels of a shard, and the digest of its bytes."""
    reader = ShardReader(dataset, shard)
    samples = [(sample.key, sample.label) for sample in reader if not sample.is_loose]
    if reader.error:
        raise CurateError(f"{shard.url}: {reader.error}. Fetch it again.")
    ids = [f"{shard.name}:{key}" for key, _ in samples]
    return ids, [label for _, label in samples], reader.sha256


def _names_of(root: str, labels: Sequence[str | None]) -> Classes:
    given = sorted({label for label in labels if label is not None})
    if given and all(label.isdecimal() for label in given):
        raise CurateError(
            f"{root}: labels are numbers and no class names are with them. Put them into "
            f"{CLASS_NAMES} beside the shards, one a line, or give the set by a known name."
        )
    return tuple(given)


def label_numbers(
    place: str,
    ids: Sequence[str],
    labels: Sequence[str | None],
    names: Classes,
    *,
    by_number: bool = False,
) -> list[int]:
    """Labels as places in `names`; they are numbers, or names that stand for one class only.

    Args:
        place: where they are from, for errors.
        ids: of the items.
        labels: of the items.
        names: of classes.
        by_number: a number is a place even where it is also the name of a class.

    Raises:
        CurateError: a label is missing, no class, or the name of two.
    """
    count = Counter(names)
    numbers = {name: number for number, name in enumerate(names)}
    found = []
    for id_, label in zip(ids, labels, strict=True):
        if label is None:
            raise CurateError(f"{place}: {id_} has no label (.cls, or a label in its .json).")
        is_place = label.isdecimal() and len(label) < 10 and int(label) < len(names)  # noqa: PLR2004
        if is_place and (by_number or label not in numbers):
            found.append(int(label))
        elif count[label] > 1:
            raise CurateError(f"{place}: {id_}: {label!r} names two classes; give numbers.")
        elif label in numbers:
            found.append(numbers[label])
        elif tidy(label) in numbers:
            found.append(numbers[tidy(label)])
        else:
            raise CurateError(
                f"{place}: {id_} is of class {label!r}, which is none of the {len(names)} of this "
                f"set{nearest(label, names)}"
            )
    return found


def from_folders(
    dataset: Dataset, numbers: dict[str, int], names: Classes, *, strict: bool = True
) -> Found:
    """Images in folders of which each is of one class; none of them is read.

    Args:
        dataset: of layout `folder`.
        numbers: labels by the name of the folder.
        names: of labels.
        strict: a folder that is none of `numbers` is an error; else it is passed over.

    Raises:
        CurateError: a folder of images is of no class.
    """
    root = Path(dataset.root)
    ids, labels, sizes = [], [], []
    for shard in dataset.shards:
        images = list(folder.index(root, shard.path))
        word = Path(shard.path).name
        if not images or (word not in numbers and not strict):
            continue
        if word not in numbers:
            raise CurateError(
                f"{root / shard.path}: {word!r} is none of the {len(numbers)} classes of this "
                f"set{nearest(word, numbers)}"
            )
        for key, paths in images:
            ids.append(f"{shard.name}:{key}")
            labels.append(numbers[word])
            sizes.append(size_of(paths[0]))
    return Found(ids, labels, names, FromDataset(dataset), {"sizes": sizes})


def size_of(path: Path) -> int:
    """Bytes of a file; 0 for a link that leads nowhere, which reading will tell."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def folder_dataset(name: str, root: Path, directories: Sequence[str] | None = None) -> Dataset:
    """The images below a folder as a data set with the item ids that `curate dedup` gives them.

    Args:
        name: of the set.
        root: the folder.
        directories: below it, the only ones to take; None: all.
    """
    dataset = open_dataset(str(root), name)
    if directories is None:
        return dataset
    wanted = {printable(one) for one in directories}
    kept = tuple(shard for shard in dataset.shards if shard.path in wanted)
    return replace(dataset, shards=kept)
