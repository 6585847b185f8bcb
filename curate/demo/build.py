"""Write the demonstration: three sets as webdataset shards, planted copies, and the answer."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from curate.demo.drawings import drawn
from curate.demo.pictures import CLASS_NAMES, SCENES, Picture, paint
from curate.demo.planting import BROKEN, TRANSFORMATIONS, Stored, broken, copy_of, save_as_found
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import Generator

ANSWER_FILE = "answer.parquet"
COUNTS = {"train": 1500, "test": 400, "shift": 200}
"""Samples of each set."""
SAMPLES_PER_SHARD = 250
PLANTED_SHARE = 0.15  # of the test set: copies of train images
LOOKALIKE_SHARE = 0.10  # of the test set: other takes of a train series, which are no copies
TAKES_PER_SERIES = 3  # how many pictures of the train set share one plan
SMALLEST = 20
BROKEN_SHARE = 0.015  # of the test sets: files that are no pictures
_NEW_SERIES = 1_000_000  # series of the test set's own pictures start here
_BROKEN_SERIES = 3 * _NEW_SERIES
_DRAWN_SERIES = 4 * _NEW_SERIES
_NEW_TAKES = 1_000  # takes of look-alikes start here
_ORDER = 0xC0DE  # tells the stream of random orders from those of the pictures


@dataclass(frozen=True)
class DemoSet:
    """What `write_demo` wrote: where it lies and what is in it.

    `answer` has test_id, train_id, transformation, parameters; `lookalikes` has test_id, train_id
    of pictures that resemble each other and are no copies. `counts` are of samples, by set;
    `broken` of those that cannot be decoded.
    """

    folder: Path
    shards: dict[str, tuple[Path, ...]]
    answer: Path
    lookalikes: Path
    counts: dict[str, int]
    broken: dict[str, int]
    planted_count: int
    lookalike_count: int


@dataclass(frozen=True)
class _Item:
    """One sample before it has a key; `source` is the position of the train item it comes from."""

    label: int
    scene: int
    series: int
    caption: str
    stored: Stored
    source: int | None = None
    transformation: str | None = None


def item_id(position: int) -> str:
    """Item id of the sample at this position of its set: "shard:key"."""
    shard, index = divmod(position, SAMPLES_PER_SHARD)
    return f"{shard:05d}:{shard:05d}{index:04d}"


def _painted(seed: int, scene: int, series: int, take: int) -> _Item:
    picture = paint(seed, scene, series, take)
    stored = save_as_found(picture.image, _storing(seed, scene, series, take))
    return _item(picture, scene, series, stored)


def _storing(seed: int, scene: int, series: int, take: int) -> Generator:
    return np.random.default_rng([seed, scene, series, take, 1])


def _item(picture: Picture, scene: int, series: int, stored: Stored) -> _Item:
    return _Item(picture.label, scene, series, picture.caption, stored)


def _broken_items(seed: int, count: int, series: int) -> list[_Item]:
    items = []
    for index in range(max(len(BROKEN), round(count * BROKEN_SHARE))):
        scene = index % len(SCENES)
        picture = paint(seed, scene, series, index)
        stored = broken(BROKEN[index % len(BROKEN)], picture.image)
        items.append(_item(picture, scene, series, stored))
    return items


def _shuffled(items: list[_Item], rng: Generator) -> list[_Item]:
    return [items[at] for at in rng.permutation(len(items))]


def _train_items(seed: int, count: int, rng: Generator) -> list[_Item]:
    items = []
    for index in range(count):
        number, scene = divmod(index, len(SCENES))
        series, take = divmod(number, TAKES_PER_SERIES)
        items.append(_painted(seed, scene, series, take))
    return _shuffled(items, rng)


def _test_items(seed: int, count: int, train: Sequence[_Item], rng: Generator) -> list[_Item]:
    items = _broken_items(seed, count, _BROKEN_SERIES)
    planted, lookalikes = round(count * PLANTED_SHARE), round(count * LOOKALIKE_SHARE)
    chosen = rng.choice(len(train), planted + lookalikes, replace=False).tolist()
    for index, source in enumerate(chosen[:planted]):
        transformation = TRANSFORMATIONS[index % len(TRANSFORMATIONS)]
        origin = train[source]
        stored = copy_of(origin.stored, transformation, rng)
        items.append(replace(origin, stored=stored, source=source, transformation=transformation))
    for index, source in enumerate(chosen[planted:]):
        seen = _painted(seed, train[source].scene, train[source].series, _NEW_TAKES + index)
        items.append(replace(seen, source=source))
    for index in range(count - len(items)):
        number, scene = divmod(index, len(SCENES))
        series, take = divmod(number, 2)
        items.append(_painted(seed, scene, _NEW_SERIES + series, take))
    return _shuffled(items, rng)


def _shift_items(seed: int, count: int, rng: Generator) -> list[_Item]:
    """Drawings of scenes that are in no other set."""
    items = _broken_items(seed, count, _BROKEN_SERIES + 1)
    for index in range(count - len(items)):
        series, scene = divmod(index, len(SCENES))
        picture = paint(seed, scene, _DRAWN_SERIES + series, 0)
        storing = _storing(seed, scene, _DRAWN_SERIES + series, 0)
        stored = save_as_found(drawn(picture.image, storing), storing)
        items.append(_item(picture, scene, _DRAWN_SERIES + series, stored))
    return _shuffled(items, rng)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # mtime, uid and gid stay 0: the same bytes every time
    member.size = len(data)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(data))


def _write_shard(path: Path, keys: Sequence[str], items: Sequence[_Item]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, item in zip(keys, items, strict=True):
            facts = {"classname": CLASS_NAMES[item.label], "key": key}
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


def _check(folder: Path, seed: int, counts: Mapping[str, int]) -> None:
    if seed < 0:
        raise CurateError(f"demo: the seed is {seed}; give 0 or more")
    for name, count in counts.items():
        if count < SMALLEST:
            raise CurateError(f"demo: {count} {name} images; give {SMALLEST} or more")
    train, test = counts["train"], counts["test"]
    if train < test // 2:
        raise CurateError(
            f"demo: {train} train images are too few to plant copies of them in {test} test "
            f"images; give {test // 2} or more"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CurateError(f"{folder}: is there already; name a new folder or remove it first")


def _described(
    folder: Path, sets: Mapping[str, Sequence[_Item]], names: Mapping[str, tuple[str, ...]]
) -> DemoSet:
    return DemoSet(
        folder=folder,
        shards={name: tuple(folder / name / one for one in names[name]) for name in sets},
        answer=folder / ANSWER_FILE,
        lookalikes=folder / "lookalikes.parquet",
        counts={name: len(items) for name, items in sets.items()},
        broken={
            name: sum(item.stored.parameters in BROKEN for item in items)
            for name, items in sets.items()
        },
        planted_count=_pairs(sets["test"], planted=True).height,
        lookalike_count=_pairs(sets["test"], planted=False).height,
    )


def write_demo(
    folder: Path,
    *,
    seed: int = 0,
    train: int = COUNTS["train"],
    test: int = COUNTS["test"],
    shift: int = COUNTS["shift"],
) -> DemoSet:
    """Paint the demonstration sets into a new folder; the same arguments give the same bytes.

    `train/NNNNN.tar`, `test/NNNNN.tar` and `shift/NNNNN.tar` are webdataset shards (image, caption
    .txt, class number .cls, .json with the class name). 15 % of the test images are copies of
    train images and 10 % only look like one; the shift is ink drawings of scenes that are in
    neither. A few samples of test and shift cannot be decoded. `answer.parquet`,
    `lookalikes.parquet` and `classnames.txt` lie beside them. Raises CurateError for counts that
    are too small and for a folder that is in use. The folder appears when it is complete.
    """
    folder = Path(folder)
    _check(folder, seed, {"train": train, "test": test, "shift": shift})
    rng = np.random.default_rng([seed, _ORDER])
    train_items = _train_items(seed, train, rng)
    test_items = _test_items(seed, test, train_items, rng)
    sets = {
        "train": train_items,
        "test": test_items,
        "shift": _shift_items(seed, shift, rng),
    }
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    names = {name: _write_set(partial / name, items) for name, items in sets.items()}
    _pairs(test_items, planted=True).write_parquet(partial / ANSWER_FILE)
    _pairs(test_items, planted=False).write_parquet(partial / "lookalikes.parquet")
    (partial / "classnames.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES))
    partial.replace(folder)
    return _described(folder, sets, names)
