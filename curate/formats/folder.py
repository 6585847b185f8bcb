"""Image folders: one shard per directory, one sample per image file, side files by the same stem.

`class-name/photo.jpg` has the class name as its label. Files that are neither images nor side files
of one (`.txt`, `.json`, `.cls`) are loose: they belong to no sample and are copied as they are.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from curate.errors import CurateError
from curate.files import write_bytes
from curate.samples import (
    IMAGE_EXTENSIONS,
    Failure,
    Limits,
    Member,
    Sample,
    as_text,
    describe_from,
    unique_keys,
)

_SIDE_EXTENSIONS = ("txt", "json", "cls")


def directories(root: Path) -> list[str]:
    """The directories below `root` that hold files, as sorted relative paths ("." for the root)."""
    return sorted({path.parent.relative_to(root).as_posix() for path in files(root)})


def files(root: Path) -> list[Path]:
    """The files and links below `root`, in no order.

    Raises:
        CurateError: a folder cannot be listed.
    """
    found = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found += [Path(folder, name) for name in (*names, *links)]
    return found


def _raise(error: OSError) -> NoReturn:
    raise CurateError(
        f"{error.filename}: the folder cannot be listed ({error.strerror})."
    ) from error


def entries(directory: Path) -> list[Path]:
    """The files and links of one directory, sorted by name; directories are other shards.

    Raises:
        CurateError: it cannot be listed.
    """
    try:
        with os.scandir(directory) as found:
            names = [entry.name for entry in found if not entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        _raise(error)
    return [directory / name for name in sorted(names)]


def is_image(path: Path) -> bool:
    """True for a file that makes a sample; a link to a folder may stand for a whole class."""
    return _extension(path) in IMAGE_EXTENSIONS or (path.is_symlink() and path.is_dir())


def read(root: Path, directory: str, limits: Limits) -> Iterator[Sample]:
    """Yield the samples of one directory, sorted by file name; the key is the file's name.

    Loose files come first. A link is followed only to a file inside `root`.
    """
    images, loose = _sorted_out(entries(root / directory))
    for path in loose:
        yield Sample("", (_read_member(root, path, limits),))
    for paths in images:
        yield read_sample(root, directory, paths, limits)


def index(root: Path, directory: str) -> Iterator[tuple[str, list[Path]]]:
    """Yield each sample's key as in an item id, and its files, the image first; none is read."""
    images, _ = _sorted_out(entries(root / directory))
    samples = unique_keys(Sample(paths[0].name) for paths in images)
    for paths, sample in zip(images, samples, strict=True):
        yield sample.key, paths


def _sorted_out(paths: list[Path]) -> tuple[list[list[Path]], list[Path]]:
    """The files of each sample, and those that belong to none."""
    images = {path: None for path in paths if is_image(path)}
    stems = {path.stem for path in images}
    sides: dict[str, list[Path]] = {}
    loose = []
    for path in paths:
        if path in images:
            continue
        if path.stem in stems and _extension(path) in _SIDE_EXTENSIONS:
            sides.setdefault(path.stem, []).append(path)
        else:
            loose.append(path)
    return [[path, *sides.get(path.stem, ())] for path in images], loose


def read_sample(root: Path, directory: str, paths: list[Path], limits: Limits) -> Sample:
    """Read the files of one sample, as `index` gives them."""
    label = None if directory == "." else Path(directory).name
    members = tuple(_read_member(root, path, limits) for path in paths)
    texts = {_extension(path): member.data for path, member in zip(paths, members, strict=True)}
    sample = describe_from(texts, Sample(paths[0].name, members, image=members[0].name))
    return replace(sample, label=sample.label or as_text(label))


def _extension(path: Path) -> str:
    return path.suffix[1:].lower()


def _read_member(root: Path, path: Path, limits: Limits) -> Member:
    name = path.relative_to(root).as_posix()
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            return Member(name, None, Failure("link", f"the link leaves the folder {root.name}"))
        if not path.is_file():
            text = "a link to a folder or to nothing, or no regular file"
            return Member(name, None, Failure("link", text))
        size = path.stat().st_size
        if size > limits.max_member_bytes:
            text = f"{size} bytes are over the limit of {limits.max_member_bytes}"
            return Member(name, None, Failure("too_large", text))
        return Member(name, path.read_bytes())
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        reason = error.strerror if isinstance(error, OSError) else error
        return Member(name, None, Failure("failed_to_read", f"{reason}"))


def write(root: Path, samples: Iterable[Sample]) -> int:
    """Copy the files of samples below `root` under their own names; returns how many there were."""
    count = 0
    for sample in samples:
        count += not sample.is_loose
        for member in sample.members:
            if member.data is not None:
                write_bytes(root / member.name, member.data)
    return count
