"""Tars for tests: ordinary ones, and headers set byte by byte as no tool would."""

import io
import tarfile
from collections.abc import Iterable, Sequence

from curate.formats import tar
from curate.samples import Limits, Sample

END = bytes(1024)
Pairs = Sequence[tuple[str, bytes]]


def tar_bytes(members: Iterable[tuple[str, bytes]], kind: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar as the standard library writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, errors="surrogateescape") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: bytes, data: bytes = b"", kind: bytes = b"0", size: int | None = None) -> bytes:
    """One entry with a valid checksum; `size` may lie about the data."""
    claimed = len(data) if size is None else size
    octal = b"%011o\0" % claimed if 0 <= claimed < 8**11 else claimed.to_bytes(12, "big")
    field = octal if claimed < 8**11 else b"\x80" + octal[1:]
    head = name.ljust(100, b"\0") + b"0000644\0" * 3 + field + b"%011o\0" % 0
    return _with_checksum(head, kind) + data + bytes(-len(data) % 512)


def _with_checksum(head: bytes, kind: bytes) -> bytes:
    tail = (kind + bytes(100) + b"ustar\x0000").ljust(512 - 156, b"\0")
    total = sum(head) + sum(tail) + 8 * ord(" ")
    return head + b"%06o\0 " % total + tail


def pax(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    """A PAX header for the entry that follows."""
    return entry(b"pax", b"".join(record(k, v) for k, v in records.items()), kind)


def record(key: bytes, value: bytes) -> bytes:
    """One `length key=value` line; the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def read_all(data: bytes, limits: Limits | None = None) -> tuple[list[Sample], str | None]:
    """All samples of a tar, those before a damage too, and what the damage is."""
    samples = []
    try:
        for sample in tar.read(io.BytesIO(data), limits or Limits()):
            samples.append(sample)  # noqa: PERF402  # a failing `extend` would keep none
    except tar.DamagedShardError as error:
        return samples, str(error)
    return samples, None


def members(samples: Iterable[Sample]) -> list[tuple[str, bytes | None]]:
    """Names and data of all members in order."""
    return [(member.name, member.data) for sample in samples for member in sample.members]


def keys(samples: Iterable[Sample]) -> list[str]:
    """The keys of the samples; loose files have none."""
    return [sample.key for sample in samples if not sample.is_loose]


def statuses(samples: Iterable[Sample]) -> dict[str, str | None]:
    """Why each sample cannot be used, or None."""
    found = {}
    for sample in samples:
        failed = [member.failure for member in sample.members if member.failure]
        failure = sample.failure or (failed[0] if failed else None)
        found[sample.key] = failure.status if failure else None
    return found
