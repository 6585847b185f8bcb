"""Webdataset shards: tar files, plain or gzipped, read as a stream and written byte for byte.

Grouping follows webdataset: the key is the path up to the first dot of the file name, and the members
of a sample stand next to each other. Unlike webdataset and `tarfile`, a damaged header or a missing
end mark is not taken for the end of the archive.
"""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from curate.errors import CurateError
from curate.files import atomic_write
from curate.samples import Failure, Limits, Member, Sample, describe, is_unsafe, printable

SUFFIXES = (".tar", ".tar.gz", ".tgz")
DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, IndexError)

_KEY = re.compile(r"^((?:.*/|)[^./][^./]*)[.]([^/]*)$", re.DOTALL)
_READ_AHEAD = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"


class Readable(Protocol):
    """All that is asked of a shard's stream; it need not seek."""

    def read(self, size: int = -1, /) -> bytes: ...


class DamagedShardError(CurateError):
    """The shard cannot be read to its end; the samples before the damage were yielded."""


class _StrictHeader(tarfile.TarInfo):
    """A header whose damage is an error, where `tarfile` would end the archive in silence."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_StrictHeader":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the regular end mark
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(
                f"{error}; the end mark is missing or a header is damaged"
            ) from error


class _Guard:
    """Bounds what is read for headers: an extended header may claim any size."""

    def __init__(self, stream: Readable, limit: int) -> None:
        self._stream = stream
        self._limit = limit + 2 * _READ_AHEAD
        self._left = self._limit
        self.in_header = True

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if self.in_header:
            self._left -= len(data)
            if self._left < 0:
                raise tarfile.ReadError("an extended header is larger than the limit")
        return data

    @contextmanager
    def data(self) -> Iterator[None]:
        self.in_header = False
        yield
        self.in_header = True
        self._left = self._limit


def read(stream: Readable, limits: Limits) -> Iterator[Sample]:
    """Yield the samples of a tar stream in order, loose files among them.

    Args:
        stream: the raw bytes of a `.tar` or `.tar.gz`; the compression is read off its content.
        limits: what is read into memory at most.

    Raises:
        DamagedShardError: after the last readable sample, when the archive is cut or damaged.
    """
    return _group(_members(stream, limits), limits)


def _members(stream: Readable, limits: Limits) -> Iterator[Member]:
    plain, head = _decompressed(stream)
    guard = _Guard(plain, limits.max_header_bytes)
    name = "the first member" if head else "an empty file"
    try:
        with tarfile.open(
            fileobj=guard,
            mode="r|",
            bufsize=_READ_AHEAD,
            tarinfo=_StrictHeader,  # type: ignore[call-overload]
            encoding="utf-8",
            errors="surrogateescape",
        ) as archive:
            while (header := archive.next()) is not None:
                name = f"after {printable(header.name)}"
                archive.members = []  # tarfile keeps every header, which is unbounded
                if header.isdir():
                    continue
                with guard.data():
                    member = _read_member(archive, header, limits)
                yield member
                if member.failure and member.failure.status == "cut_short":
                    raise tarfile.ReadError("the archive ends inside a member")
    except DAMAGE as error:
        raise DamagedShardError(f"not readable as tar beyond {name}: {error}") from error


def _decompressed(stream: Readable) -> tuple[IO[bytes], bytes]:
    buffered = io.BufferedReader(_Raw(stream), _READ_AHEAD)
    head = buffered.peek(2)[:2]
    if head == _GZIP_MAGIC:
        return gzip.GzipFile(fileobj=buffered, mode="rb"), head  # type: ignore[return-value]
    return buffered, head


class _Raw(io.RawIOBase):
    """Lets a reader that has only `read` stand under a buffer."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _read_member(archive: tarfile.TarFile, header: tarfile.TarInfo, limits: Limits) -> Member:
    if not header.isreg():
        kind = "link" if header.issym() or header.islnk() else "special file"
        return Member(
            header.name, None, Failure("link", f"the member is a {kind}; it is not followed")
        )
    if is_unsafe(header.name):
        failure = Failure("unsafe_name", "the member name leaves its folder")
        return Member(header.name, None, failure)
    if header.size > limits.max_member_bytes:
        text = f"{header.size} bytes are over the limit of {limits.max_member_bytes}"
        _skip(archive, header)
        return Member(header.name, None, Failure("too_large", text))
    try:
        source = archive.extractfile(header)
        data = source.read() if source else b""
    except DAMAGE as error:
        return Member(
            header.name, None, Failure("cut_short", f"the archive ends in the member: {error}")
        )
    if len(data) != header.size:
        return Member(header.name, None, Failure("cut_short", "the archive ends in the member"))
    return Member(header.name, data)


def _skip(archive: tarfile.TarFile, header: tarfile.TarInfo) -> None:
    """Read a member's data away in pieces, so that the next header starts a fresh allowance."""
    source = archive.extractfile(header)
    while source and source.read(_READ_AHEAD):
        pass


@dataclass
class _Pending:
    """The members of the sample that is being read; what is over the limits is not kept."""

    key: str = ""
    members: list[Member] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    size: int = 0

    def add(self, member: Member) -> None:
        self.members.append(member)
        self.names.add(member.name)
        self.size += len(member.data or b"")

    def exceeds(self, limits: Limits) -> bool:
        return self.size > limits.max_sample_bytes or len(self.members) > limits.max_sample_members

    def sample(self, limits: Limits) -> Sample:
        if self.exceeds(limits):
            text = "the members of this key are over the limits on count or bytes of one sample"
            return Sample(self.key, (), Failure("too_large", text))
        return describe(Sample(self.key, tuple(self.members)))


def _group(members: Iterator[Member], limits: Limits) -> Iterator[Sample]:
    """Neighbouring members of one key make a sample; a repeated member starts the next one."""
    pending = _Pending()
    try:
        for member in members:
            match = _KEY.match(member.name)
            key = match[1] if match and not match[1].rpartition("/")[2].startswith("__") else ""
            if pending.key and (key != pending.key or member.name in pending.names):
                yield pending.sample(limits)
                pending = _Pending()
            if not key:
                yield Sample("", (member,))
            elif not pending.exceeds(limits):
                pending.key = key
                pending.add(member)
    except DamagedShardError:
        if pending.key:
            yield pending.sample(limits)
        raise
    if pending.key:
        yield pending.sample(limits)


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
    return count


@contextmanager
def _compressed(path: Path, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    if path.suffix == ".tar":
        yield stream
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=6) as raw:
        yield raw  # type: ignore[misc]
