"""Webdataset shards: tar files, plain or gzipped, read as a stream and written byte for byte.

Grouping follows webdataset: the key is the path up to the first dot of the file name, the members
of a sample stand next to each other, and files without a key are passed over. Unlike there, links
and special files are failure rows, a repeated member starts a new sample, and a damaged header or a
missing end mark is not taken for the end of the archive.
"""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from curate.errors import CurateError
from curate.files import Readable, atomic_write
from curate.formats.tar_headers import BLOCK, DamageError, Entry, TarStream, next_entry
from curate.samples import (
    Failure,
    Limits,
    Member,
    Sample,
    UniqueKeys,
    describe,
    is_unsafe,
    printable,
)

SUFFIXES = (".tar", ".tar.gz", ".tgz")

_DAMAGE = (DamageError, EOFError, gzip.BadGzipFile, zlib.error)
_META = re.compile(r"__[^/]*__(?:$|/)")
_MACOS = ("._", ".DS_Store")
_READ_AHEAD = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"


class DamagedShardError(CurateError):
    """The shard cannot be read to its end; the samples before the damage were yielded.

    Attributes:
        is_behind_end: the end mark was seen, so no member can be missing.
    """

    is_behind_end = False


def read(stream: Readable, limits: Limits) -> Iterator[Sample]:
    """Yield the samples of a tar stream in order, loose files among them.

    A loose file between two members of a sample comes after that sample.

    Args:
        stream: the raw bytes of a `.tar` or `.tar.gz`; the compression is read off its content.
        limits: what is read into memory at most.

    Raises:
        DamagedShardError: after the last readable sample, when the archive is cut or damaged.
    """
    return _group(_members(stream, limits), limits)


def index(stream: IO[bytes], limits: Limits) -> Iterator[tuple[str, int, int]]:
    """Yield where each sample of a tar is: its key as in an item id, first byte, byte after it.

    The bytes in between, with an end mark behind them, are a tar of their own whose one sample is
    this. A damaged archive has the samples before the damage; of the last one, bytes may be
    missing. Samples of too many members are left out.

    Args:
        stream: the bytes of a `.tar` without compression; it must seek, data are not read.
        limits: what is taken for damage.
    """
    unique = UniqueKeys()
    key, names, first, last = "", set[str](), 0, 0
    for name, start, end in _places(stream, limits):
        of_member = _key(name)
        if not of_member:
            continue
        if of_member != key or name in names:
            if key and (own := unique.of(key)) and len(names) <= limits.max_sample_members:
                yield own, first, last
            key, names, first = of_member, set(), start
        if len(names) <= limits.max_sample_members:
            names.add(name)
            last = end
    if key and len(names) <= limits.max_sample_members:
        yield unique.of(key), first, last


def _places(stream: IO[bytes], limits: Limits) -> Iterator[tuple[str, int, int]]:
    """The name of each member, where its headers start, and where its data end."""
    plain = TarStream(stream)
    length = stream.seek(0, io.SEEK_END)
    start = stream.seek(0)
    with suppress(*_DAMAGE):
        while (entry := next_entry(plain, limits.max_header_bytes)) is not None:
            size = entry.size + -entry.size % BLOCK
            end = stream.seek(min(size, length), io.SEEK_CUR)  # no size is too absurd to seek by
            if entry.kind != "folder":
                yield entry.name, start, end
            start = end


def _members(stream: Readable, limits: Limits) -> Iterator[Member]:
    last, ended = None, False
    try:
        plain = TarStream(_decompressed(stream))
        while (entry := next_entry(plain, limits.max_header_bytes)) is not None:
            last = entry
            if entry.kind != "folder":
                yield from _read_member(plain, entry, limits)
            plain.skip(entry.padding)
        ended = True
        plain.expect_nothing()
    except _DAMAGE as error:
        place = f"beyond {printable(last.name)}" if last else "at all"
        damage = DamagedShardError(f"not readable as tar {place}: {error}")
        damage.is_behind_end = ended
        raise damage from error


def _decompressed(stream: Readable) -> IO[bytes]:
    buffered = io.BufferedReader(_Raw(stream), _READ_AHEAD)
    if buffered.peek(len(_GZIP_MAGIC))[: len(_GZIP_MAGIC)] != _GZIP_MAGIC:
        return buffered
    plain = gzip.GzipFile(fileobj=buffered, mode="rb")
    return io.BufferedReader(_Raw(plain), _READ_AHEAD)  # its own small reads are slow


class _Raw(io.RawIOBase):
    """Lets a reader that has only `read` stand under a buffer."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        filled = 0
        while filled < len(buffer) and (data := self._stream.read(len(buffer) - filled)):
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        return filled


def _read_member(stream: TarStream, entry: Entry, limits: Limits) -> Iterator[Member]:
    """Yield the entry as a member; where its data end early as a failed one, and raise."""
    failure = _refusal(entry, limits)
    if failure:
        yield Member(entry.name, None, failure)
        stream.skip(entry.size)
        return
    try:
        data = stream.take(entry.size)
    except _DAMAGE as error:
        text = f"the archive is damaged in the member: {error}"
        yield Member(entry.name, None, Failure("cut_short", text))
        raise
    yield Member(entry.name, data)


def _refusal(entry: Entry, limits: Limits) -> Failure | None:
    if entry.kind != "file":
        return Failure("link", f"the member is a {entry.kind}; it is not followed or unpacked")
    if is_unsafe(entry.name):
        return Failure("unsafe_name", "the member name leaves its folder")
    if entry.size > limits.max_member_bytes:
        text = f"{entry.size} bytes are over the limit of {limits.max_member_bytes}"
        return Failure("too_large", text)
    return None


def _key(name: str) -> str:
    """The key of a member as webdataset has it; empty for a file that belongs to no sample.

    `folder/.jpg` has the key `folder/`; only what macOS leaves behind is taken out of that rule.
    """
    folder, slash, file = name.rpartition("/")
    stem, dot, _ = file.partition(".")
    if not dot or (name[:2] == "__" and _META.match(name)) or file.startswith(_MACOS):
        return ""
    is_hidden = not stem and "." in folder.rpartition("/")[2]
    return "" if is_hidden else folder + slash + stem


@dataclass
class _Pending:
    """The sample that is being read, and loose files since; what is over the limits is not kept."""

    limits: Limits
    key: str = ""
    members: list[Member] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    size: int = 0
    loose: list[Member] = field(default_factory=list)
    loose_size: int = 0

    def add(self, key: str, member: Member) -> None:
        if not self._exceeds(self.size, self.members):
            self.key = key
            self.members.append(member)
            self.names.add(member.name)
            self.size += len(member.data or b"")

    def add_loose(self, member: Member) -> bool:
        """Keep a loose file until the sample is complete, if there is one and room for more."""
        if not self.key or self._exceeds(self.loose_size, self.loose):
            return False
        self.loose.append(member)
        self.loose_size += len(member.data or b"")
        return True

    def _exceeds(self, size: int, members: list[Member]) -> bool:
        return size > self.limits.max_sample_bytes or len(members) > self.limits.max_sample_members

    def samples(self, *, is_cut: bool = False) -> Iterator[Sample]:
        if is_cut and self.key and not any(member.failure for member in self.members):
            failure = Failure("cut_short", "the archive is damaged here; members may be missing")
            yield describe(Sample(self.key, tuple(self.members), failure))
        elif self._exceeds(self.size, self.members):
            text = "the members of this key are over the limits on count or bytes of one sample"
            yield Sample(self.key, (), Failure("too_large", text))
        elif self.key:
            yield describe(Sample(self.key, tuple(self.members)))
        for member in self.loose:
            yield Sample("", (member,))


def _group(members: Iterator[Member], limits: Limits) -> Iterator[Sample]:
    """Neighbouring members of one key make a sample; a repeated member starts the next one.

    The last sample before a damage fails, since nobody knows whether it was whole.
    """
    pending = _Pending(limits)
    damage = None
    try:
        for member in members:
            key = _key(member.name)
            if not key:
                if not pending.add_loose(member):
                    yield Sample("", (member,))
                continue
            if pending.key and (key != pending.key or member.name in pending.names):
                yield from pending.samples()
                pending = _Pending(limits)
            pending.add(key, member)
    except DamagedShardError as error:
        damage = error
    yield from pending.samples(is_cut=damage is not None and not damage.is_behind_end)
    if damage:
        raise damage


def write(path: Path, samples: Iterable[Sample]) -> int:
    """Write samples as a tar that is equal for equal samples; returns how many there were.

    Member names and bytes are untouched, times and owners are fixed. `.gz` files carry no time.
    Loose files are written too; members that were not read (links, too large) are not.
    """
    count = 0
    with (
        atomic_write(path) as stream,
        _compressed(path, stream) as raw,
        tarfile.open(
            fileobj=raw,
            mode="w",
            format=tarfile.GNU_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
        ) as archive,
    ):
        for sample in samples:
            count += not sample.is_loose
            for member in sample.members:
                if member.data is None:
                    continue
                header = tarfile.TarInfo(member.name)
                header.size = len(member.data)
                archive.addfile(header, io.BytesIO(member.data))
            archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header
    return count


@contextmanager
def _compressed(path: Path, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    if path.suffix == ".tar":
        yield stream
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=6) as raw:
        yield raw  # type: ignore[misc]
