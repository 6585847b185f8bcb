"""What the walk over a tar's headers must equal, byte by byte, and tars that try to mislead it."""

import tarfile
from collections.abc import Iterator

from archives import END, entry, pax, tar_bytes
from hypothesis import strategies as st

from curate.formats.tar import _key
from curate.samples import Limits, printable

NO_DATA, SPARSE, EXTENDED = b"123456", b"S", b"LKxXg"
_MAX_NAME = 4096


class Damage(Exception):  # noqa: N818
    """No header stands where one should."""


def number(field: bytes) -> int:
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        value = int(field.split(b"\0")[0].strip() or b"0", 8)
    except ValueError as error:
        raise Damage from error
    if value < 0:
        raise Damage
    return value


def checked(data: bytes, at: int) -> bytes:
    """The header at a place, whose bytes sum to what it says, as unsigned or signed ones."""
    block = data[at : at + 512]
    if len(block) < 512:
        raise Damage
    blank = block[:148] + b" " * 8 + block[156:]
    unsigned, signed = sum(blank), sum(byte - 256 * (byte > 127) for byte in blank)
    if any(block) and number(block[148:156]) not in (unsigned, signed):
        raise Damage
    return block


def records(data: bytes) -> dict[bytes, bytes]:
    """The lines of a PAX header."""
    found = {}
    while data and data[0]:
        length, space, _ = data[:20].partition(b" ")
        if not space or not length.isdigit():
            raise Damage
        line, data = data[: int(length)], data[int(length) :]
        key, sign, value = line[len(length) + 1 : -1].partition(b"=")
        if len(line) != int(length) or not sign or line[-1:] != b"\n":
            raise Damage
        found[key] = value
    return found


def said(kind: bytes, data: bytes) -> dict[bytes, bytes]:
    """What an extended header says of the entry behind it."""
    if kind == b"L":
        return {b"path": data.split(b"\0")[0]}
    if kind == b"K":
        return {}
    found = records(data)
    if b"path" in found:
        found[b"path"] = found[b"path"].rstrip(b"/")
    if kind == b"g":
        if any(key in (b"path", b"size") or key.startswith(b"GNU.sparse.") for key in found):
            raise Damage
        return {}
    return found


def places(data: bytes, limits: Limits) -> Iterator[tuple[str, int, int]]:
    """Name, first byte, and byte behind the padded data of each member before a damage."""
    at = 0
    try:
        while True:
            start, more, room = at, dict[bytes, bytes](), limits.max_header_bytes
            while (kind := (block := checked(data, at))[156:157]) in [b"%c" % k for k in EXTENDED]:
                size = number(block[124:136])
                room -= 512 + size
                at += 512 + size + -size % 512
                if room < 0 or at > len(data):
                    return
                more = {**said(kind, data[at - size - -size % 512 : at - -size % 512]), **more}
            if not any(block):
                return
            name, size, at, is_folder = one(data, at, more)
            at += size + -size % 512
            if not is_folder:
                yield name, start, at
    except Damage:
        return


def one(data: bytes, at: int, more: dict[bytes, bytes]) -> tuple[str, int, int, bool]:
    """Name, size, first byte of the data of the entry at a place; whether it is a folder."""
    block = data[at : at + 512]
    kind, size = block[156:157], number(block[124:136])
    prefix = b"" if kind == SPARSE else block[345:500].split(b"\0")[0]
    name = (prefix + b"/" if prefix else b"") + block[:100].split(b"\0")[0]
    name = more.get(b"GNU.sparse.name") or more.get(b"path") or name
    at += 512
    map_goes_on = kind == SPARSE and block[482]
    while map_goes_on:
        if at + 512 > len(data):
            raise Damage
        map_goes_on = data[at + 504]
        at += 512
    if b"size" in more:
        if not more[b"size"].isdigit() or len(more[b"size"]) > 19:
            raise Damage
        size = int(more[b"size"])
    if len(name) > _MAX_NAME:
        raise Damage
    is_sparse = any(key.startswith(b"GNU.sparse.") for key in more)
    is_folder = not is_sparse and (kind == b"5" or (kind == b"\0" and name.endswith(b"/")))
    return name.decode("utf-8", "surrogateescape"), 0 if kind in NO_DATA else size, at, is_folder


def index(data: bytes, limits: Limits) -> list[tuple[str, int, int]]:
    """The places of samples: neighbours of one key, until a name comes again; `k#2` and so on."""
    groups: list[tuple[str, list[str], list[tuple[int, int]]]] = []
    for name, start, end in places(data, limits):
        key = _key(name)
        if key and groups and groups[-1][0] == key and name not in groups[-1][1]:
            groups[-1][1].append(name)
            groups[-1][2].append((start, end))
        elif key:
            groups.append((key, [name], [(start, end)]))
    found: list[tuple[str, int, int]] = []
    for key, names, spans in groups:
        assert len(names) <= limits.max_sample_members
        own, times = printable(key), 1
        while own in [other for other, *_ in found]:
            times += 1
            own = f"{printable(key)}#{times}"
        found.append((own, spans[0][0], spans[-1][1]))
    return found


_names = st.sampled_from(
    [b"a.png", b"a.txt", b"b.png", b"a#2.png", b"d/a.png", b"d/", b"README", b"__m__/a.png",
     b"../up.png", b"caf\xe9.png", b"x" * 100, b""]
)  # fmt: skip
_kinds = st.sampled_from([b"0"] * 6 + [b"\0", b"1", b"2", b"3", b"5", b"7", b"S", b"V", b"\xff"])
_sizes = st.sampled_from([0, 1, 511, 512, 513, 10**6, 8**11 + 5, 2**63, 2**87])
_ordinary = st.builds(entry, _names, st.binary(max_size=600), _kinds)
_lying = st.builds(entry, _names, st.binary(max_size=40), _kinds, _sizes)
_long = st.builds(
    lambda name, data, kind: entry(b"././@LongLink", name + b"\0", kind) + entry(b"cut", data),
    st.sampled_from([b"y" * 150 + b".png", b"a.png", b"z" * 4097]), st.binary(max_size=40),
    st.sampled_from([b"L", b"K"]),
)  # fmt: skip
_pax = st.builds(
    lambda told, kind, data: pax(told, kind) + entry(b"short.png", data),
    st.sampled_from(
        [{b"mtime": b"1.5"}, {b"path": b"p.png"}, {b"path": b"p/"}, {b"size": b"3"},
         {b"size": b"9" * 18}, {b"size": b"many"}, {b"GNU.sparse.name": b"s.png"}, {b"note": b""}]
    ), st.sampled_from([b"x", b"X", b"g"]), st.binary(max_size=40),
)  # fmt: skip
_parted = st.just(tar_bytes([("folder/" * 20 + "a.png", b"x")], tarfile.USTAR_FORMAT)[:1024])


def _signed(data: bytes) -> bytes:
    """The same with the first header's checksum as some old writers summed it."""
    block = bytearray(data[:512])
    low = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % max(low, 0)
    return bytes(block) + data[512:]


@st.composite
def hostile_tars(draw: st.DrawFn) -> bytes:
    """Entries of every kind with valid checksums, some of which lie; perhaps bent or cut."""
    pieces = draw(st.lists(_ordinary | _ordinary.map(_signed) | _lying | _long | _pax | _parted,
                           max_size=8))  # fmt: skip
    data = b"".join(pieces) + draw(st.sampled_from([END, END[:512], b""]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        data = data[:at] + draw(st.binary(max_size=2)) + data[at + draw(st.integers(0, 2)) :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) and data else data
