"""Shards and the samples in them: one way to read every layout, one way to write the same again."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Literal

from curate.errors import CurateError
from curate.files import HashingReader, digest, write_bytes
from curate.formats import folder, img2dataset, parquet, tar
from curate.samples import (
    Failure,
    Limits,
    Sample,
    class_name,
    image_member,
    printable,
    unique_keys,
)

Layout = Literal["webdataset", "img2dataset", "clip_benchmark", "folder", "parquet"]
TAR_LAYOUTS = ("webdataset", "img2dataset", "clip_benchmark")


@dataclass(frozen=True)
class Shard:
    """One unit of reading: a tar, a Parquet file, or one directory of an image folder.

    Attributes:
        name: unique in its data set; the part of an item id before the colon.
        url: where it is: a local path, or a URL for fsspec.
        path: its place below the root of the data set, which a clean split repeats.
    """

    name: str
    url: str
    path: str


@dataclass(frozen=True)
class Dataset:
    """A named, ordered list of shards of one layout.

    Attributes:
        specs: what `open_dataset` was given, so that it can be opened again.
        side_files: files that belong to the set as a whole, as (path below the root, local path).
        class_names: names for numeric labels, where the layout gives them.
    """

    name: str
    layout: Layout
    root: str
    shards: tuple[Shard, ...]
    specs: tuple[str, ...] = ()
    side_files: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] = field(default=(), repr=False)


def check_name(name: str) -> str:
    """The name of a data set, which becomes the name of a folder.

    Raises:
        CurateError: it is empty or would lead out of its folder.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise CurateError(f"{name!r} names no data set; give a name without slashes.")
    return name


def is_remote(url: str) -> bool:
    """True for a URL, which fsspec opens, and not the file system."""
    return "://" in url


class ShardReader:
    """Iterates over the samples of one shard, once; afterwards tells what was read.

    Attributes:
        sha256: digest of the bytes the shard consists of (set when exhausted).
        size: how many bytes those are.
        error: why the shard could not be read to its end, or None.
    """

    def __init__(self, dataset: Dataset, shard: Shard, limits: Limits | None = None) -> None:
        self.sha256 = ""
        self.size = 0
        self.error: str | None = None
        self._dataset = dataset
        self._shard = shard
        self._limits = limits or Limits()

    def __iter__(self) -> Iterator[Sample]:
        """Yield samples with printable, unique keys, and loose files, in the shard's order."""
        read = self._read_tar if self._dataset.layout in TAR_LAYOUTS else self._read_files
        for sample in unique_keys(read()):
            yield self._with_class_name(sample)

    def _read_tar(self) -> Iterator[Sample]:
        keys = set()
        with closing(open_url(self._shard.url)) as stream:
            hashing = HashingReader(stream)
            try:
                for sample in tar.read(hashing, self._limits):
                    keys.add(sample.key)
                    yield sample
            except tar.DamagedShardError as error:
                self.error = str(error)
            self.sha256, self.size = hashing.finish(), hashing.size
        if self._dataset.layout == "img2dataset":
            yield from img2dataset.lost_samples(self._shard.url, keys)

    def _read_files(self) -> Iterator[Sample]:
        content = hashlib.sha256()
        if self._dataset.layout == "folder":
            samples = folder.read(Path(self._dataset.root), self._shard.path, self._limits)
        else:
            samples = parquet.read(Path(self._shard.url), self._limits)
        for sample in samples:
            for member in sample.members:
                for piece in (member.name.encode("utf-8", "surrogateescape"), member.data or b""):
                    content.update(len(piece).to_bytes(8, "little") + piece)
                self.size += len(member.data or b"")
            yield sample
        self.sha256 = content.hexdigest()

    def _with_class_name(self, sample: Sample) -> Sample:
        label = class_name(sample.label, self._dataset.class_names)
        return sample if label == sample.label else replace(sample, label=label)


class Source:
    """The stored bytes of a shard.

    What hinders the reading is an error and no damage of the shard: it may be gone when the same
    command runs again, where damage would stay on record.
    """

    def __init__(self, url: str, stream: IO[bytes]) -> None:
        self._url = url
        self._stream = stream
        self._left: int | None = getattr(stream, "size", None)

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes.

        Raises:
            CurateError: the disk or the network fails, or a server sends less than it announced.
        """
        try:
            data = self._stream.read(size)
        except Exception as error:  # fsspec's file systems share no base class
            raise CurateError(
                f"{self._url}: reading broke off ({error}). Run the same command again."
            ) from error
        if self._left is not None:
            self._left -= len(data)
            if self._left > 0 and size and not data:
                raise CurateError(
                    f"{self._url}: {self._left} bytes are missing at its end, says the server. "
                    "Run the same command again."
                )
        return data

    def close(self) -> None:
        """Close the file or connection."""
        self._stream.close()


def open_url(url: str) -> Source:
    """Open a local path or a URL for reading as a stream.

    Raises:
        CurateError: it cannot be opened.
    """
    try:
        if not is_remote(url):
            return Source(url, Path(url).open("rb"))
        import fsspec

        return Source(url, fsspec.open(url, "rb").open())
    except Exception as error:  # fsspec's file systems share no base class
        raise CurateError(f"{url}: cannot be opened ({error}).") from error


def signature(dataset: Dataset, shard: Shard) -> str:
    """A cheap statement of a shard's state (sizes and times), to see that nothing changed."""
    if is_remote(shard.url):
        return _remote_signature(shard.url)
    if dataset.layout == "folder":
        paths = folder.entries(Path(dataset.root, shard.path))
    elif dataset.layout == "parquet":
        paths = [Path(shard.url), *parquet.referenced_files(Path(shard.url))]
    else:
        paths = [Path(shard.url)]
        if dataset.layout == "img2dataset" and (table := img2dataset.status_table(shard.url)):
            paths.append(table)
    return digest([(printable(path.name), *_size_and_time(path)) for path in paths])


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat(follow_symlinks=path.exists())
    except OSError as error:
        raise CurateError(f"{path}: cannot be read ({error.strerror}).") from error
    return stat.st_size, stat.st_mtime_ns


def _remote_signature(url: str) -> str:
    """Digest of what the server says of a file: size, times, tags.

    `ukey` would be what fsspec has for this, but over HTTP it never changes. Addresses are left
    out: a redirect to a signed one differs every time.
    """
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()
        info = filesystem.info(path)
    except Exception as error:  # fsspec's file systems share no base class
        raise CurateError(f"{url}: cannot be reached ({error}).") from error
    return digest({key: str(value) for key, value in info.items() if "://" not in str(value)})


def shard_bytes(dataset: Dataset, shard: Shard) -> int:
    """How large a shard is on disk, for progress and plans; 0 when only reading would tell."""
    if is_remote(shard.url):
        return 0
    if dataset.layout == "folder":
        return sum(
            _size_and_time(path)[0] for path in folder.entries(Path(dataset.root, shard.path))
        )
    return _size_and_time(Path(shard.url))[0]


def write_split(
    dataset: Dataset, shard: Shard, out: Path, keep: Callable[[str], bool]
) -> ShardReader:
    """Write the kept samples of one shard in the layout they came in, members byte for byte.

    Args:
        dataset: the set that `shard` belongs to.
        shard: what is read.
        out: the folder that takes the place of the set's root.
        keep: tells by key whether a sample stays; loose files always stay.

    Returns:
        The exhausted reader, so that the caller can compare its digest with an earlier reading.

    Raises:
        CurateError: the shard cannot be read, the copy not be written, or a kept sample not be
            copied whole.
    """
    reader = ShardReader(dataset, shard)
    kept = (sample for sample in reader if sample.is_loose or _keeps(shard, sample, keep))
    target = out / shard.path
    if dataset.layout == "folder":
        folder.write(out, kept)
    elif dataset.layout == "parquet":
        parquet.write(target, Path(shard.url), reader, partial(_keeps, shard, keep=keep))
    else:
        tar.write(target, kept)
    if dataset.layout == "img2dataset":
        img2dataset.write_status_table(shard.url, target.with_suffix(".parquet"), keep)
    return reader


def _keeps(shard: Shard, sample: Sample, keep: Callable[[str], bool]) -> bool:
    if not keep(sample.key):
        return False
    failed = sample.failure or next((m.failure for m in sample.members if m.failure), None)
    if failed:
        raise CurateError(
            f"{shard.url}: sample {sample.key} cannot be copied whole ({failed.error}); "
            "leave it out of the split."
        )
    return True


def write_side_files(dataset: Dataset, out: Path) -> None:
    """Copy the files that belong to the set as a whole (class names, templates, shard count)."""
    for path, source in dataset.side_files:
        write_bytes(out / path, Path(source).read_bytes())


def read_images(dataset: Dataset, ids: set[str]) -> dict[str, bytes]:
    """The stored image bytes of some item ids; shards that hold none of them are not read."""
    wanted: dict[str, set[str]] = {}
    for id_ in ids:
        name, _, key = id_.partition(":")  # no shard's name has a colon
        wanted.setdefault(name, set()).add(key)
    found = {}
    for shard in dataset.shards:
        keys = wanted.get(shard.name, set())
        for sample in ShardReader(dataset, shard) if keys else ():
            if sample.key not in keys:
                continue
            keys.discard(sample.key)
            member = image_member(sample)
            if not isinstance(member, Failure) and member.data is not None:
                found[f"{shard.name}:{sample.key}"] = member.data
            if not keys:
                break
    return found
