"""Write the demonstration set: webdataset shards with planted copies, and the answer."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from curate.demo.pictures import PICTURE_CLASSES, paint
from curate.demo.planting import BROKEN, TRANSFORMATIONS, Stored, broken, copy_of, save_as_found
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

ANSWER_FILE = "answer.parquet"
SAMPLES_PER_SHARD = 250
PLANTED_SHARE = 0.15  # of the test set: copies of train images
LOOKALIKE_SHARE = 0.10  # of the test set: other takes of a train series, which are no copies
TAKES_PER_SERIES = 3  # how many pictures of the train set share one plan
SMALLEST = 20
_NEW_SERIES = 1_000_000  # series of the test set's own pictures start here
_NEW_TAKES = 1_000  # takes of look-alikes start here
_ORDER = 0xC0DE  # tells the stream of random orders from those of the pictures


@dataclass(frozen=True)
class DemoSet:
    """What `write_demo` wrote: where it lies and what is in it.

    `answer` has test_id, train_id, transformation, parameters; `lookalikes` has test_id, train_id
    of pictures that resemble each other and are no copies.
    """

    folder: Path
    train_shards: tuple[Path, ...]
    test_shards: tuple[Path, ...]
    answer: Path
    lookalikes: Path
    class_names: tuple[str, ...]
    train_count: int
    test_count: int
    planted_count: int
    lookalike_count: int
    broken_train_count: int
    broken_test_count: int


@dataclass(frozen=True)
class _Item:
    """One sample before it has a key; `source` is the position of the train item it comes from."""

    label: int
    series: int
    caption: str
    stored: Stored
    source: int | None = None
    transformation: str | None = None


def item_id(position: int) -> str:
    """Item id of the sample at this position of its set: "shard:key"."""
    shard, index = divmod(position, SAMPLES_PER_SHARD)
    return f"{shard:05d}:{shard:05d}{index:04d}"


def _painted(seed: int, label: int, series: int, take: int) -> _Item:
    image, caption = paint(seed, label, series, take)
    return _Item(label, series, caption, save_as_found(image, _storing(seed, label, series, take)))


def _storing(seed: int, label: int, series: int, take: int) -> Generator:
    return np.random.default_rng([seed, label, series, take, 1])


def _broken_items(seed: int, count: int, first_series: int) -> list[_Item]:
    items = []
    for index in range(count):
        label = index % len(PICTURE_CLASSES)
        image, caption = paint(seed, label, first_series, index)
        stored = broken(BROKEN[index % len(BROKEN)], image)
        items.append(_Item(label, first_series, caption, stored))
    return items


def _shuffled(items: list[_Item], rng: Generator) -> list[_Item]:
    return [items[at] for at in rng.permutation(len(items))]


def _train_items(seed: int, count: int, rng: Generator) -> list[_Item]:
    items = _broken_items(seed, max(len(BROKEN), count // 500), 2 * _NEW_SERIES)
    for index in range(count - len(items)):
        number, label = divmod(index, len(PICTURE_CLASSES))
        series, take = divmod(number, TAKES_PER_SERIES)
        items.append(_painted(seed, label, series, take))
    return _shuffled(items, rng)


def _test_items(seed: int, count: int, train: Sequence[_Item], rng: Generator) -> list[_Item]:
    items = _broken_items(seed, max(len(BROKEN), round(count * 0.015)), 3 * _NEW_SERIES)
    planted, lookalikes = round(count * PLANTED_SHARE), round(count * LOOKALIKE_SHARE)
    whole = [at for at, item in enumerate(train) if not item.stored.parameters]
    chosen = rng.choice(whole, planted + lookalikes, replace=False).tolist()
    for index, source in enumerate(chosen[:planted]):
        transformation = TRANSFORMATIONS[index % len(TRANSFORMATIONS)]
        origin = train[source]
        stored = copy_of(origin.stored, transformation, rng)
        copy = _Item(origin.label, origin.series, origin.caption, stored, source, transformation)
        items.append(copy)
    for index, source in enumerate(chosen[planted:]):
        label, series = train[source].label, train[source].series
        seen = _painted(seed, label, series, _NEW_TAKES + index)
        items.append(_Item(label, series, seen.caption, seen.stored, source))
    for index in range(count - len(items)):
        number, label = divmod(index, len(PICTURE_CLASSES))
        series, take = divmod(number, 2)
        items.append(_painted(seed, label, _NEW_SERIES + series, take))
    return _shuffled(items, rng)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # mtime, uid and gid stay 0: the same bytes every time
    member.size = len(data)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(data))


def _write_shard(path: Path, keys: Sequence[str], items: Sequence[_Item]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, item in zip(keys, items, strict=True):
            facts = {"classname": PICTURE_CLASSES[item.label].name, "key": key}
            _add(tar, f"{key}.{item.stored.extension}", item.stored.data)
            _add(tar, f"{key}.txt", item.caption.encode())
            _add(tar, f"{key}.cls", str(item.label).encode())
            _add(tar, f"{key}.json", json.dumps(facts, sort_keys=True).encode())


def _write_set(folder: Path, items: Sequence[_Item]) -> tuple[str, ...]:
    """Write the shards of one set; returns their names."""
    folder.mkdir()
    names = []
    for start in range(0, len(items), SAMPLES_PER_SHARD):
        part = items[start : start + SAMPLES_PER_SHARD]
        keys = [item_id(start + at).split(":")[1] for at in range(len(part))]
        names.append(f"{start // SAMPLES_PER_SHARD:05d}.tar")
        _write_shard(folder / names[-1], keys, part)
    return tuple(names)


def _pairs(test: Sequence[_Item], *, planted: bool) -> pl.DataFrame:
    """Planted pairs, or the pairs that only look alike, in the order of the test set."""
    columns = {"test_id": pl.String, "train_id": pl.String}
    more = {"transformation": pl.String, "parameters": pl.String}
    rows = [
        (item_id(at), item_id(item.source), item.transformation, item.stored.parameters)
        for at, item in enumerate(test)
        if item.source is not None and (item.transformation is not None) == planted
    ]
    table = pl.DataFrame(rows, schema=columns | more, orient="row")
    return table if planted else table.select(list(columns))


def _check(folder: Path, seed: int, train: int, test: int) -> None:
    if seed < 0:
        raise CurateError(f"demo: the seed is {seed}; give 0 or more")
    if min(train, test) < SMALLEST:
        raise CurateError(f"demo: {train} train and {test} test images; give {SMALLEST} or more")
    if train < test // 2:
        raise CurateError(
            f"demo: {train} train images are too few to plant copies of them in {test} test "
            f"images; give {test // 2} or more"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CurateError(f"{folder}: is there already; name a new folder or remove it first")


def _described(
    folder: Path,
    train: Sequence[_Item],
    test: Sequence[_Item],
    names: dict[str, tuple[str, ...]],
) -> DemoSet:
    return DemoSet(
        folder=folder,
        train_shards=tuple(folder / "train" / name for name in names["train"]),
        test_shards=tuple(folder / "test" / name for name in names["test"]),
        answer=folder / ANSWER_FILE,
        lookalikes=folder / "lookalikes.parquet",
        class_names=tuple(kind.name for kind in PICTURE_CLASSES),
        train_count=len(train),
        test_count=len(test),
        planted_count=_pairs(test, planted=True).height,
        lookalike_count=_pairs(test, planted=False).height,
        broken_train_count=sum(item.stored.parameters in BROKEN for item in train),
        broken_test_count=sum(item.stored.parameters in BROKEN for item in test),
    )


def write_demo(folder: Path, *, seed: int = 0, train: int = 1500, test: int = 400) -> DemoSet:
    """Paint the demonstration set into a new folder; the same arguments give the same bytes.

    `train/NNNNN.tar` and `test/NNNNN.tar` are webdataset shards (image, caption .txt, class number
    .cls, .json with the class name); 15 % of the test images are copies of train images, 10 %
    only look like one, and a few samples of each set cannot be decoded. `answer.parquet`,
    `lookalikes.parquet` and `classnames.txt` lie beside them. Raises CurateError for counts that
    are too small and for a folder that is in use. The folder appears when it is complete.
    """
    folder = Path(folder)
    _check(folder, seed, train, test)
    rng = np.random.default_rng([seed, _ORDER])
    train_items = _train_items(seed, train, rng)
    test_items = _test_items(seed, test, train_items, rng)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shards = {"train": train_items, "test": test_items}
    names = {name: _write_set(partial / name, items) for name, items in shards.items()}
    _pairs(test_items, planted=True).write_parquet(partial / ANSWER_FILE)
    _pairs(test_items, planted=False).write_parquet(partial / "lookalikes.parquet")
    lines = [f"{kind.name}\n" for kind in PICTURE_CLASSES]
    (partial / "classnames.txt").write_text("".join(lines))
    partial.replace(folder)
    return _described(folder, train_items, test_items, names)
