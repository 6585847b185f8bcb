"""Where training sets come from: splits that curate wrote, and shards with or without a list.

Of the folder of a split the clean shards are read; the original shards with a list of ids are
filtered as they are read, and nothing is written; shards without a list are taken as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from curate import artifacts
from curate.discover import open_dataset
from curate.encoders.base import nearest
from curate.errors import CurateError
from curate.files import digest, file_digest
from curate.formats import folder, parquet
from curate.samples import Failure, image_member
from curate.shards import Dataset, Shard, ShardReader, is_remote
from curate.splits import SPLIT_FILE, in_kind, read_decisions
from curate.storage import local_artifact, local_path
from curate.units import RunUnits, run_in_process
from train.data import Source, TrainSet

CLEAN = "clean"


@dataclass(frozen=True)
class _Found:
    """Samples of one shard: ids, and names of classes."""

    shard: Shard
    ids: list[str]
    labels: list[str | None]
    sha256: str = ""
    lost: int = 0


def open_trainset(
    specs: str | Sequence[str],
    ids: Path | None = None,
    *,
    classes: Sequence[str] = (),
    name: str | None = None,
    run_units: RunUnits = run_in_process,
) -> TrainSet:
    """Open a split folder, or shards in any layout that curate reads, with or without a list.

    A split's tables say what is in it, so that its shards are not read now; so do they with the
    `clean_ids.txt` that stands in a split's folder. Of other sets every shard is read once.

    Args:
        specs: as for `curate.discover.open_dataset`; or the folder of a split.
        ids: a file with one item id per line; only these samples are kept.
        classes: the classes in the order of their numbers; none: all labels, sorted.
        name: of the data set, where it should not be named by its place.
        run_units: runs the units that read shards, one per shard.

    Raises:
        CurateError: nothing is left to train on, the split is not whole, listed samples are
            missing, a shard cannot be read, a sample has no image, or labels and `classes` do not
            agree.
    """
    split = _split_folder(specs)
    ids = None if ids is None else local_path(ids)
    if split and ids:
        raise CurateError(
            f"{ids}: a split has a list of its own. Give the split {split} alone, or the original "
            "shards with the list."
        )
    if split:
        dataset, source, found = _open_split(split, name)
    else:
        dataset = open_dataset(specs, name)
        source, found = _open_shards(dataset, ids, run_units)
    return _assembled(dataset, source, found, tuple(classes), str(ids or split or dataset.root))


# --- a split that curate wrote --------------------------------------------------------------------


def _split_folder(specs: str | Sequence[str]) -> Path | None:
    """The split's folder, given as such or as its clean shards; None for any other data set."""
    given = [specs] if isinstance(specs, str) else list(specs)
    place = local_artifact(given[0]) if len(given) == 1 else ""
    if not place or is_remote(place):
        return None
    path = Path(place).absolute()
    if path.name == CLEAN and (path.parent / SPLIT_FILE).is_file():
        return path.parent
    return path if (path / SPLIT_FILE).is_file() else None


def _open_split(split: Path, name: str | None) -> tuple[Dataset, Source, list[_Found]]:
    manifest = artifacts.read_manifest(split)
    missing = artifacts.missing_outputs(split, manifest)
    if missing:
        raise CurateError(
            f"{split / missing[0]}: missing, or not as it was written; `curate split` writes the "
            "split again."
        )
    decisions = read_decisions(split).filter(in_kind(CLEAN))
    if decisions.is_empty():
        raise CurateError(f"{split}: nothing in it is clean, so there is nothing to train on.")
    if not (split / CLEAN).is_dir():
        raise CurateError(
            f"{split}: it was written without its clean shards. Write them with `--write clean`, "
            f"or give the original shards with the list {split / 'clean_ids.txt'}."
        )
    dataset = open_dataset(str(split / CLEAN), name or split.name)
    source = Source("split", dataset.name, manifest.id, manifest.id)
    found = [
        replace(one, ids=_ids_in(dataset, one, split)) for one in _by_shard(dataset, decisions)
    ]
    return dataset, source, found


def _by_shard(dataset: Dataset, decisions: pl.DataFrame) -> list[_Found]:
    """The decided samples of each shard, in order.

    Raises:
        CurateError: the data set lacks a shard.
    """
    by_name = {
        str(name[0]): frame for name, frame in decisions.group_by("shard", maintain_order=True)
    }
    missing = by_name.keys() - {shard.name for shard in dataset.shards}
    if missing:
        raise CurateError(
            f"{dataset.name}: shard {min(missing)} of the split is not among the shards of "
            f"{dataset.root}; give all that the split was made from."
        )
    return [
        _Found(shard, by_name[shard.name]["id"].to_list(), by_name[shard.name]["label"].to_list())
        for shard in dataset.shards
        if shard.name in by_name
    ]


def _ids_in(dataset: Dataset, decided: _Found, split: Path) -> list[str]:
    """The ids of a shard's samples in the clean copy.

    They are those of the original, but where keys count: of a repeated key, and of rows without
    one. There the n-th clean sample is the n-th of the copy.
    """
    if dataset.layout not in ("folder", "parquet") and not any("#" in id_ for id_ in decided.ids):
        return decided.ids
    ids = [f"{decided.shard.name}:{key}" for key in _keys(dataset, decided.shard)]
    if len(ids) != len(decided.ids):
        raise CurateError(
            f"{decided.shard.url}: {len(ids)} samples, {len(decided.ids)} were written; `curate "
            f"split` writes {split} again."
        )
    return ids


def _keys(dataset: Dataset, shard: Shard) -> Iterator[str]:
    if dataset.layout == "folder":
        return (key for key, _ in folder.index(Path(dataset.root), shard.path))
    if dataset.layout == "parquet":
        return (key for key, _ in parquet.index(Path(shard.url)))
    return (sample.key for sample in ShardReader(dataset, shard) if not sample.is_loose)


# --- shards, with or without a list ---------------------------------------------------------------


def _open_shards(
    dataset: Dataset, ids: Path | None, run_units: RunUnits
) -> tuple[Source, list[_Found]]:
    if ids is None:
        found = _scanned(dataset, None, run_units)
        return Source("shards", dataset.name, digest({"shards": _digests(found)})), found
    wanted = _read_ids(ids)
    if (ids.parent / SPLIT_FILE).is_file():
        split = artifacts.read_manifest(ids.parent).id
        decisions = read_decisions(ids.parent)
        found = _by_shard(dataset, decisions.filter(pl.col("id").is_in(wanted)))
        chosen: dict[str, Any] = {"split": split}
    else:
        split = None
        found = _scanned(dataset, frozenset(wanted), run_units)
        chosen = {"shards": _digests(found)}
    _check_all_found(ids, wanted, found, dataset)
    source_digest = digest({"ids": file_digest(ids), **chosen})
    return Source("ids", dataset.name, source_digest, split), found


def _digests(found: Sequence[_Found]) -> dict[str, str]:
    return {one.shard.name: one.sha256 for one in found}


def _read_ids(path: Path) -> list[str]:
    """The ids of a list, in its order, each once.

    Raises:
        CurateError: the file is missing or no text, or has no ids.
    """
    try:
        lines = path.read_bytes().decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CurateError(f"{path}: not readable as a list of ids ({error}).") from error
    ids = list(dict.fromkeys(line.rstrip("\r") for line in lines if line.strip()))
    if not ids:
        raise CurateError(f"{path}: no ids are in it, so there is nothing to train on.")
    return ids


def _check_all_found(
    path: Path, wanted: Sequence[str], found: Sequence[_Found], dataset: Dataset
) -> None:
    present = {id_ for one in found for id_ in one.ids}
    missing = [id_ for id_ in wanted if id_ not in present]
    if missing:
        raise CurateError(
            f"{path}: {len(missing)} of its {len(wanted)} ids are not in {dataset.name} "
            f"({dataset.root}), the first is {missing[0]!r}; give the shards that the list was "
            "made from."
        )


@dataclass(frozen=True)
class _ScanUnit:
    """One shard to read; `keys` are those to keep, None keeps all."""

    dataset: Dataset
    shard: Shard
    keys: frozenset[str] | None = field(repr=False)


def _scanned(dataset: Dataset, wanted: frozenset[str] | None, run_units: RunUnits) -> list[_Found]:
    """What is wanted of every shard, by reading them; shards of which nothing is are not read."""
    keys: dict[str, set[str]] = {}
    for id_ in wanted or ():
        name, _, key = id_.partition(":")
        keys.setdefault(name, set()).add(key)
    bare = replace(dataset, shards=(), side_files=())
    units = [
        _ScanUnit(bare, shard, None if wanted is None else frozenset(keys[shard.name]))
        for shard in dataset.shards
        if wanted is None or shard.name in keys
    ]
    outcomes = list(run_units(_scan, units))
    errors = sorted(outcome.error for outcome in outcomes if outcome.error is not None)
    if errors:
        more = f"\n(and {len(errors) - 1} more shards with errors)" if len(errors) > 1 else ""
        raise CurateError(errors[0] + more)
    found: list[_Found] = [outcome.result for outcome in outcomes]
    places = {shard.name: place for place, shard in enumerate(dataset.shards)}
    return sorted(found, key=lambda one: places[one.shard.name])


def _scan(unit: _ScanUnit) -> _Found:
    """Read one shard for ids and labels.

    Raises:
        CurateError: a sample has no image that can be used, or the shard is damaged.
    """
    reader = ShardReader(unit.dataset, unit.shard)
    ids, labels, lost, failures = [], [], 0, []
    for sample in reader:
        if sample.is_loose or (unit.keys is not None and sample.key not in unit.keys):
            continue
        if unit.keys is None and not sample.members:
            lost += 1
            continue
        member = image_member(sample)
        if isinstance(member, Failure):
            failures.append(f"sample {sample.key} has no image that can be used ({member.error})")
        ids.append(f"{unit.shard.name}:{sample.key}")
        labels.append(sample.label)
    if reader.error and unit.keys is None:
        raise CurateError(
            f"{unit.shard.url}: {reader.error}. Fetch it again, or choose from what is readable "
            "with a list of ids."
        )
    if failures:
        raise CurateError(
            f"{unit.shard.url}: {failures[0]}. Clean the set with `curate dedup`, or leave this "
            "sample out with a list of ids."
        )
    return _Found(unit.shard, ids, labels, reader.sha256, lost)


# --- labels ---------------------------------------------------------------------------------------


def _assembled(
    dataset: Dataset, source: Source, found: list[_Found], classes: tuple[str, ...], place: str
) -> TrainSet:
    kept = [one for one in found if one.ids]
    if not kept:
        raise CurateError(f"{place}: there are no samples in it, so there is nothing to train on.")
    samples = pl.concat(
        pl.DataFrame({"id": one.ids, "label": one.labels}, {"id": pl.String, "label": pl.String})
        for one in kept
    )
    present = samples["label"].drop_nulls().unique().sort().to_list()
    if classes:
        _check_classes(samples, present, classes, place)
    names = classes or tuple(present)
    numbers = {name: number for number, name in enumerate(names)}
    label = pl.col("label").replace_strict(numbers, return_dtype=pl.Int32)
    return TrainSet(
        replace(dataset, shards=tuple(one.shard for one in kept)),
        samples.with_columns(label if names else pl.col("label").cast(pl.Int32)).rechunk(),
        tuple(len(one.ids) for one in kept),
        names,
        source,
        sum(one.lost for one in found),
    )


def _check_classes(
    samples: pl.DataFrame, present: list[str], classes: tuple[str, ...], place: str
) -> None:
    if len(set(classes)) < len(classes):
        twice = next(name for number, name in enumerate(classes) if name in classes[:number])
        raise CurateError(f"class {twice!r} is given twice.")
    unknown = [name for name in present if name not in set(classes)]
    if unknown:
        id_ = samples.filter(pl.col("label") == unknown[0])["id"][0]
        raise CurateError(
            f"{place}: sample {id_} is of class {unknown[0]!r}, which is not among the classes "
            "given. Add it, or leave its samples out with a list of ids"
            f"{nearest(unknown[0], classes)}"
        )
    empty = [name for name in classes if name not in set(present)]
    if empty:
        raise CurateError(
            f"{place}: class {empty[0]!r} has no image, as {len(empty)} of {len(classes)} classes "
            f"have not. Leave it out of the classes, or add images{nearest(empty[0], present)}"
        )
