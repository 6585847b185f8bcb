"""The headers of a tar, read forwards: V7, ustar, GNU long names, PAX.

The `tarfile` module is made for archives of friends: it takes a damaged header for the end, seeks
for days behind the end of a stream where a size is absurd, fills sparse files with zeros without
limit, recurses per extended header, and needs quadratic time for a hostile PAX one. Names and data
of regular files are the same here as there; sparse files are named, not read.
"""

from struct import Struct
from typing import IO, Literal, NamedTuple
from zlib import adler32

BLOCK = 512
_PIECE = 1 << 18
_END = bytes(BLOCK)
_HEADER = Struct("100s24x12s12x8sc188x155s12x")
"""Name, size, checksum, kind, prefix."""
_HALF = BLOCK // 2  # 256 bytes sum to less than 65521, so Adler-32's low half is that sum and 1
_ADLER = 0xFFFF
_MAX_NAME_BYTES = 4096  # PATH_MAX; nothing longer can be unpacked, and all keys are kept in memory
_FILE = b"0"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_SUN, _PAX_GLOBAL, _SPARSE = b"L", b"K", b"x", b"X", b"g", b"S"
_EXTENDED = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_SUN, _PAX_GLOBAL)

Kind = Literal["file", "folder", "link", "special file", "sparse file"]
_KINDS: dict[bytes, Kind] = {
    b"0": "file", b"\0": "file", b"7": "file", b"5": "folder", b"1": "link", b"2": "link",
    b"3": "special file", b"4": "special file", b"6": "special file", _SPARSE: "sparse file",
}  # fmt: skip
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")


class DamageError(Exception):
    """The bytes are not those of a whole tar."""


class TarStream:
    """The plain bytes of a tar, of which neither a missing end nor a skipped piece goes unseen."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._read = stream.read

    def take(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        data = self._read(size)
        if len(data) != size:
            raise DamageError(f"the archive ends {size - len(data)} bytes too early")
        return data

    def skip(self, size: int) -> None:
        """Pass over `size` bytes, a piece at a time."""
        while size > 0:
            size -= len(self.take(min(size, _PIECE)))

    def expect_nothing(self) -> None:
        """Read what follows the end mark, which makes a compressed stream check its digest too."""
        while data := self._read(_PIECE):
            if data.strip(b"\0"):
                raise DamageError("there is data behind the end mark; were archives just joined?")


class Entry(NamedTuple):
    """One entry of an archive: `size` bytes of data follow, and padding to a whole block."""

    name: str
    kind: Kind
    size: int

    @property
    def padding(self) -> int:
        """How many bytes stand between the data and the next header."""
        return -self.size % BLOCK


def next_entry(stream: TarStream, max_extended_bytes: int) -> Entry | None:
    """Read the header of the next entry, with the extended headers before it; None at the end mark.

    Raises:
        DamageError: no valid header is there, not even an end mark.
    """
    extended: dict[bytes, bytes] = {}
    allowance = max_extended_bytes
    while (block := stream.take(BLOCK)) != _END:
        name, size_field, checksum, kind, prefix = _HEADER.unpack(block)
        _check_sum(block, checksum)
        size = _number(size_field)
        if kind == _FILE and not extended and not prefix[0]:  # as nearly all are
            return Entry(_until_nul(name).decode("utf-8", "surrogateescape"), "file", size)
        if kind not in _EXTENDED:
            return _entry(stream, block, kind, size, extended)
        allowance -= BLOCK + size
        if allowance < 0:
            raise DamageError(f"an extended header is over the limit of {max_extended_bytes} bytes")
        data = stream.take(size)
        stream.skip(-size % BLOCK)
        for key, value in _keywords(kind, data).items():
            extended.setdefault(key, value)
    if extended:
        raise DamageError("an extended header has no entry")
    return None


def _entry(
    stream: TarStream, block: bytes, kind: bytes, size: int, extended: dict[bytes, bytes]
) -> Entry:
    name = _until_nul(block[:100])
    prefix = _until_nul(block[345:500])
    if prefix and kind != _SPARSE:  # GNU tar keeps other things there for sparse files
        name = prefix + b"/" + name
    name = extended.get(b"GNU.sparse.name") or extended.get(b"path") or name
    if len(name) > _MAX_NAME_BYTES:
        raise DamageError(f"a name of {len(name)} bytes is over the limit of {_MAX_NAME_BYTES}")
    more = kind == _SPARSE and block[482]
    while more:
        more = stream.take(BLOCK)[504]
    meaning: Kind = _KINDS.get(kind, "special file")
    if any(key.startswith(b"GNU.sparse.") for key in extended):
        meaning = "sparse file"
    elif kind == b"\0" and name.endswith(b"/"):  # how V7 wrote a folder
        meaning = "folder"
    if b"size" in extended:
        size = _decimal(extended[b"size"])
    text = name.decode("utf-8", "surrogateescape")
    return Entry(text, meaning, 0 if kind in _WITHOUT_DATA else size)


def _check_sum(block: bytes, checksum: bytes) -> None:
    """Compare a header with its checksum; some old writers summed signed bytes."""
    halves = (adler32(block[:_HALF]) & _ADLER) + (adler32(block[_HALF:]) & _ADLER) - 2
    spaces = len(checksum) * ord(" ")  # stand for the checksum where it is computed
    stored = _number(checksum)
    if halves - sum(checksum) + spaces == stored:
        return
    signed = memoryview(block).cast("b")
    if sum(signed) - sum(memoryview(checksum).cast("b")) + spaces != stored:
        raise DamageError("a header is damaged, or the end mark is missing")


def _number(field: bytes) -> int:
    """Octal digits, or a big-endian binary number behind a byte that no digit has."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = _until_nul(field).strip()
    try:
        number = int(digits or b"0", 8)
    except ValueError:
        number = -1
    if number < 0:
        raise DamageError("a header holds no number where one belongs")
    return number


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _keywords(kind: bytes, data: bytes) -> dict[bytes, bytes]:
    """What an extended header says of the entry that follows it."""
    if kind == _LONG_LINK:
        return {}
    if kind == _LONG_NAME:
        return {b"path": _until_nul(data)}
    records = dict(_pax_records(data))
    if b"path" in records:
        records[b"path"] = records[b"path"].rstrip(b"/")
    if kind != _PAX_GLOBAL:
        return records
    if any(key in (b"path", b"size") or key.startswith(b"GNU.sparse.") for key in records):
        raise DamageError("a global header gives every entry the same name or size")
    return {}


def _pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Split `length key=value` lines; the length counts the whole line."""
    records = []
    start = 0
    while start < len(data) and data[start]:
        space = data.find(b" ", start, start + 20)
        end = start + _decimal(data[start:space]) if space > 0 else 0
        key, sign, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or not sign or data[end - 1 : end] != b"\n":
            raise DamageError("an extended header is damaged")
        records.append((key, value))
        start = end
    return records


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19:  # noqa: PLR2004  # 2**63 has as many
        raise DamageError("an extended header holds no number where one belongs")
    return int(digits)
