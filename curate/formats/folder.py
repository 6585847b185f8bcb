"""Image folders: one shard per directory, one sample per image file, side files by the same stem.

`class-name/photo.jpg` has the class name as its label. Files that are neither images nor side files
of one (`.txt`, `.json`, `.cls`) are loose: they belong to no sample and are copied as they are.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from curate.errors import CurateError
from curate.files import write_bytes
from curate.samples import IMAGE_EXTENSIONS, Failure, Limits, Member, Sample, describe

_SIDE_EXTENSIONS = ("txt", "json", "cls")


def directories(root: Path) -> list[str]:
    """The directories below `root` that hold files, as sorted relative paths ("." for the root)."""
    found = []
    for folder, _, files in os.walk(root, onerror=_raise):
        if files or any(Path(folder, name).is_symlink() for name in os.listdir(folder)):
            found.append(Path(folder).relative_to(root).as_posix())
    return sorted(found)


def _raise(error: OSError) -> None:
    raise CurateError(
        f"{error.filename}: the folder cannot be listed ({error.strerror})."
    ) from error


def entries(directory: Path) -> list[Path]:
    """The files and links of one directory, sorted by name; directories are other shards."""
    return sorted(path for path in directory.iterdir() if path.is_symlink() or not path.is_dir())


def read(root: Path, directory: str, limits: Limits) -> Iterator[Sample]:
    """Yield the samples of one directory, sorted by file name; the key is the file's name.

    A link is followed only to a file inside `root`.
    """
    paths = entries(root / directory)
    images = [
        path for path in paths if _extension(path) in IMAGE_EXTENSIONS or _is_folder_link(path)
    ]
    stems = {path.stem for path in images}
    sides: dict[str, list[Path]] = {}
    for path in paths:
        if path in images:
            continue
        if path.stem in stems and _extension(path) in _SIDE_EXTENSIONS:
            sides.setdefault(path.stem, []).append(path)
        else:
            yield Sample("", (_read_member(root, path, limits),))
    label = None if directory == "." else Path(directory).name
    for path in images:
        members = [_read_member(root, side, limits) for side in (path, *sides.get(path.stem, ()))]
        sample = describe(Sample(path.name, tuple(members)))
        yield replace(sample, label=sample.label or label)


def _extension(path: Path) -> str:
    return path.suffix[1:].lower()


def _is_folder_link(path: Path) -> bool:
    return path.is_symlink() and path.is_dir()


def _read_member(root: Path, path: Path, limits: Limits) -> Member:
    name = path.relative_to(root).as_posix()
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return Member(name, None, Failure("link", f"the link leaves the folder {root.name}"))
    if not path.is_file():
        return Member(name, None, Failure("link", "a link to a folder, or no regular file"))
    try:
        size = path.stat().st_size
        if size > limits.max_member_bytes:
            text = f"{size} bytes are over the limit of {limits.max_member_bytes}"
            return Member(name, None, Failure("too_large", text))
        return Member(name, path.read_bytes())
    except OSError as error:
        return Member(name, None, Failure("failed_to_read", f"{error.strerror}"))


def write(root: Path, samples: Iterable[Sample]) -> int:
    """Copy the files of samples below `root` under their own names; returns how many there were."""
    count = 0
    for sample in samples:
        count += not sample.is_loose
        for member in sample.members:
            if member.data is not None:
                write_bytes(root / member.name, member.data)
    return count
