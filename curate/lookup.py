"""Samples of a data set by item id, without reading whole shards where they can be entered.

The first sample that is asked of a shard costs a look over its headers; where each sample is, is
kept for the shards that were asked last. A compressed or remote tar cannot be entered: it is
unpacked into an unnamed file, which is gone when the process is, however it ends.
"""

import gzip
import io
import shutil
import tempfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final, Protocol

import numpy as np

from curate.errors import CurateError
from curate.formats import folder, parquet, tar
from curate.samples import Failure, Limits, Sample, class_name, printable
from curate.shards import TAR_LAYOUTS, Dataset, Shard, is_remote, open_url

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BUFFER: Final = 1 << 16
_PIECE: Final = 1 << 20
_KEYS: Final = 4_000_000
"""Places that are kept in memory; one takes 24 bytes."""
_SPOOLED: Final = 8 << 30
"""Bytes of unpacked shards that are kept on disk."""
_END: Final = bytes(1024)


class Opened(Protocol):
    """A shard that can be asked for samples.

    Attributes:
        keys: how many places it keeps in memory.
        spooled: how many bytes it keeps on disk.
    """

    keys: int
    spooled: int

    def read(self, key: str) -> Sample | None:
        """The sample of a key; None if there is none."""
        ...


class Samples:
    """The samples of a data set by item id; may be used by several threads."""

    def __init__(self, dataset: Dataset, limits: Limits | None = None) -> None:
        self._dataset = dataset
        self._shards = {shard.name: shard for shard in dataset.shards}
        self._limits = limits or Limits()
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}

    def read(self, id_: str) -> Sample | None:
        """The sample of an item id; None if there is none.

        Raises:
            CurateError: its shard cannot be read.
        """
        name, _, key = id_.partition(":")  # no shard's name has a colon
        shard = self._shards.get(name)
        if shard is None:
            return None
        try:
            sample = self._open(shard).read(key)
        except OSError as error:
            raise CurateError(f"{shard.url}: cannot be read ({error.strerror}).") from error
        if sample is None:
            return None
        label = class_name(sample.label, self._dataset.class_names)
        return Sample(key, sample.members, sample.failure, label, sample.caption, sample.image)

    def _open(self, shard: Shard) -> Opened:
        with self._lock:
            opening = self._opening.setdefault(shard.name, threading.Lock())
        with opening:  # nobody looks over the same shard at the same time
            with self._lock:
                if shard.name in self._opened:
                    self._opened.move_to_end(shard.name)
                    return self._opened[shard.name]
            opened = _open(self._dataset, shard, self._limits)
            with self._lock:
                self._opened[shard.name] = opened
                self._forget()
            return opened

    def _forget(self) -> None:
        """Let go of the shards that were not asked for longest, but for the last one."""
        while len(self._opened) > 1 and (
            sum(shard.keys for shard in self._opened.values()) > _KEYS
            or sum(shard.spooled for shard in self._opened.values()) > _SPOOLED
        ):
            self._opened.popitem(last=False)


def _open(dataset: Dataset, shard: Shard, limits: Limits) -> Opened:
    if dataset.layout == "folder":
        root = Path(dataset.root)
        places = dict(folder.index(root, shard.path))

        def read_files(key: str) -> Sample | None:
            paths = places.get(key)
            return folder.read_sample(root, shard.path, paths, limits) if paths else None

        return _Few(read_files, len(places) * 16)
    if dataset.layout == "parquet":
        path = Path(shard.url)
        numbers = dict(parquet.index(path))

        def read_row(key: str) -> Sample | None:
            number = numbers.get(key)
            return None if number is None else parquet.read_row(path, number, limits)

        return _Few(read_row, len(numbers) * 8)
    assert dataset.layout in TAR_LAYOUTS
    return _open_tar(shard.url, limits)


@dataclass
class _Few:
    """A shard whose places are in a dictionary, which takes as much as `keys` places of a tar."""

    read: Callable[[str], Sample | None]
    keys: int
    spooled: int = 0


class _Places:
    """Where samples are, by key, in 24 bytes each: keys by their hashes, which are checked later.

    Strings have 64-bit hashes with a key that is drawn for every process.
    """

    def __init__(self, found: Iterable[tuple[str, int, int]]) -> None:
        kinds = np.dtype([("hash", "<i8"), ("start", "<i8"), ("end", "<i8")])
        table = np.fromiter(((hash(key), start, end) for key, start, end in found), kinds)
        self._table = table[np.argsort(table["hash"], kind="stable")]

    def __len__(self) -> int:
        return len(self._table)

    def of(self, key: str) -> list[tuple[int, int]]:
        """The places whose key has the hash of this one: nearly always none or one."""
        wanted = hash(key)
        first = np.searchsorted(self._table["hash"], wanted)
        found = []
        for row in self._table[first:]:
            if row["hash"] != wanted:
                break
            found.append((int(row["start"]), int(row["end"])))
        return found


class _Tar:
    """A tar without compression, which is opened for each sample unless it has no name."""

    def __init__(self, stream: IO[bytes], path: Path | None, limits: Limits) -> None:
        self._stream = None if path else stream
        self._path = path
        self._limits = limits
        self._lock = threading.Lock()
        self._places = _Places(tar.index(stream, limits))
        self.keys = len(self._places)
        self.spooled = 0 if path else stream.seek(0, io.SEEK_END)

    def read(self, key: str) -> Sample | None:
        for start, end in self._places.of(key):
            if end - start > self._limits.max_sample_bytes:
                return Sample(key, (), Failure("too_large", "the sample is over the byte limit"))
            sample = self._sample(start, end)
            if sample and key.partition("#")[0] == printable(sample.key).partition("#")[0]:
                return sample
        return None

    def _sample(self, start: int, end: int) -> Sample | None:
        stored = self._bytes(start, end - start)
        whole = stored + _END if len(stored) == end - start else stored
        try:
            read = tar.read(io.BytesIO(whole), self._limits)
            return next((sample for sample in read if not sample.is_loose), None)
        except tar.DamagedShardError:
            return None

    def _bytes(self, start: int, size: int) -> bytes:
        if self._path:
            with self._path.open("rb") as stream:
                stream.seek(start)
                return stream.read(size)
        assert self._stream is not None
        with self._lock:
            self._stream.seek(start)
            return self._stream.read(size)


def _open_tar(url: str, limits: Limits) -> Opened:
    if not is_remote(url):
        with Path(url).open("rb", buffering=_BUFFER) as stream:
            is_plain = stream.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC
            stream.seek(0)
            if is_plain:
                return _Tar(stream, Path(url), limits)
            return _Tar(_unpacked(url, stream), None, limits)
    source = open_url(url)
    try:
        raw = _spooled(url, iter(partial(source.read, _PIECE), b""))
    finally:
        source.close()
    is_plain = raw.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC
    raw.seek(0)
    return _Tar(raw if is_plain else _unpacked(url, raw), None, limits)


def _unpacked(url: str, stream: IO[bytes]) -> IO[bytes]:
    plain = gzip.GzipFile(fileobj=stream, mode="rb")
    return _spooled(url, _whole_pieces(url, plain))


def _whole_pieces(url: str, plain: gzip.GzipFile) -> Iterator[bytes]:
    """The content of a compressed file; of a damaged one, what comes before the damage."""
    is_begun = False
    try:
        while piece := plain.read1(_PIECE):
            is_begun = True
            yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        if not is_begun:
            raise CurateError(f"{url}: cannot be unpacked ({error}).") from error


def _spooled(url: str, pieces: Iterable[bytes]) -> IO[bytes]:
    """Write a stream into an unnamed file."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as its shard is kept
    room = min(_SPOOLED, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    for piece in pieces:
        spool.write(piece)
        if spool.tell() > room:
            raise CurateError(f"{url}: unpacked, it is over the limit of {room} bytes.")
    spool.seek(0)
    return spool
