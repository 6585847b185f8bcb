"""Sound headers are read as `tarfile` reads them, and all others are damage."""

import io
import tarfile

import pytest
from archives import END, entry, pax, tar_bytes
from hypothesis import given
from hypothesis import strategies as st
from timing import cpu_seconds

from curate.formats.tar_headers import DamageError, Entry, TarStream, next_entry

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300)


def entries(data: bytes, limit: int = 1 << 20) -> list[Entry]:
    stream = TarStream(io.BytesIO(data))
    found = []
    while (item := next_entry(stream, limit)) is not None:
        found.append(item)
        stream.skip(item.size + item.padding)
    return found


def damage(data: bytes, limit: int = 1 << 20) -> str:
    with pytest.raises(DamageError) as caught:
        entries(data, limit)
    return str(caught.value)


@given(st.lists(st.tuples(names, st.binary(max_size=600)), max_size=6), st.sampled_from([0, 1, 2]))
def test_names_and_sizes_are_those_of_tarfile(pairs: list[tuple[str, bytes]], kind: int) -> None:
    try:
        data = tar_bytes(pairs, kind)
    except ValueError:  # ustar has no room for the name
        return
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        expected = [(info.name, info.size) for info in archive if info.isreg()]
    assert [(item.name, item.size) for item in entries(data) if item.kind == "file"] == expected


def test_a_name_in_two_parts_is_joined() -> None:
    name = "folder/" * 20 + "a.jpg"
    assert entries(tar_bytes([(name, b"x")], tarfile.USTAR_FORMAT)) == [Entry(name, "file", 1)]


def test_bytes_that_are_no_utf8_stay_in_the_name() -> None:
    by_header = entry(b"caf\xe9.jpg") + entry(b"L", b"\xff.jpg\0", b"L") + entry(b"short")
    by_pax = pax({b"hdrcharset": b"BINARY", b"path": b"\xe9.png"}) + entry(b"short")
    found = [item.name for item in entries(by_header + by_pax + END)]
    assert [name.encode("utf-8", "surrogateescape") for name in found] == [
        b"caf\xe9.jpg",
        b"\xff.jpg",
        b"\xe9.png",
    ]


def test_the_first_of_several_long_names_wins_as_with_tarfile() -> None:
    data = entry(b"L", b"first.jpg\0", b"L") + pax({b"path": b"second.jpg"}) + entry(b"x") + END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [item.name for item in entries(data)] == archive.getnames() == ["first.jpg"]


def test_a_pax_size_stands_for_the_one_in_the_header() -> None:
    data = pax({b"size": b"700"}) + entry(b"a.jpg", bytes(700), size=3) + entry(b"b.jpg") + END
    assert [(item.name, item.size) for item in entries(data)] == [("a.jpg", 700), ("b.jpg", 0)]


@pytest.mark.parametrize(
    ("kind", "word"),
    [(b"1", "link"), (b"2", "link"), (b"3", "special file"), (b"6", "special file"),
     (b"5", "folder"), (b"7", "file"), (b"\0", "file"), (b"S", "sparse file"),
     (b"V", "special file")],
)  # fmt: skip
def test_every_type_has_its_kind(kind: bytes, word: str) -> None:
    assert [item.kind for item in entries(entry(b"a", kind=kind) + END)] == [word]


def test_an_old_folder_is_a_file_type_with_a_slash() -> None:
    assert entries(entry(b"a/", kind=b"\0") + END) == [Entry("a/", "folder", 0)]


def test_links_have_no_data_whatever_their_size_says() -> None:
    data = entry(b"a.jpg", kind=b"1", size=900) + entry(b"b.jpg", b"y") + END
    assert [item.name for item in entries(data)] == ["a.jpg", "b.jpg"]


def test_sparse_files_of_both_kinds_are_named_and_passed_over() -> None:
    old = bytearray(entry(b"old.jpg", kind=b"S", size=512))
    old[482] = 1  # one more block of the map follows
    checksum = sum(old) - sum(old[148:156]) + 8 * 32
    old[148:156] = b"%06o\0 " % checksum
    records = {b"GNU.sparse.name": b"new.jpg", b"GNU.sparse.realsize": b"9" * 18}
    new = pax(records) + entry(b"GNUSparseFile.0/new.jpg", bytes(512))
    data = bytes(old) + bytes(512) + b"z" * 512 + new + entry(b"last.jpg") + END
    assert [(item.name, item.kind) for item in entries(data)] == [
        ("old.jpg", "sparse file"),
        ("new.jpg", "sparse file"),
        ("last.jpg", "file"),
    ]


def test_old_checksums_of_signed_bytes_are_accepted() -> None:
    block = bytearray(entry(b"caf\xe9.jpg"))
    signed = sum(block) - sum(block[148:156]) + 8 * 32 - 256
    block[148:156] = b"%06o\0 " % signed
    assert len(entries(bytes(block) + END)) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        entry(b"a.jpg"),
        entry(b"a.jpg") + bytes(100),
        entry(b"a.jpg").replace(b"a.jpg", b"b.jpg") + END,
        entry(b"a.jpg", size=10**12) + END,
        entry(b"a.jpg", size=8**11 * 2**50) + END,
        pax({b"path": b"x"}) + END,
        entry(b"pax", b"99 path=x\n", b"x") + entry(b"a") + END,
        entry(b"pax", b"0 path=x\n", b"x") + entry(b"a") + END,
        entry(b"pax", b"7 pathx\n", b"x") + entry(b"a") + END,
        entry(b"pax", b"-1 path=x\n", b"x") + entry(b"a") + END,
        pax({b"size": b"many"}) + entry(b"a") + END,
        pax({b"size": b"9" * 5000}) + entry(b"a") + END,
        pax({b"path": b"x.jpg"}, b"g") + entry(b"a") + END,
        entry(b"L", b"a" * 4097, b"L") + entry(b"a") + END,
        entry(b"L", size=10**15, kind=b"L") + END,
    ],
)
def test_what_is_no_sound_header_is_damage(data: bytes) -> None:
    assert damage(data)
    assert cpu_seconds(lambda: damage(data)) < 2


def test_negative_sizes_are_damage() -> None:
    block = bytearray(entry(b"a.jpg"))
    block[124:136] = b"\xff" * 12
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    assert "no number" in damage(bytes(block) + END)


def test_a_long_chain_of_extended_headers_stops_at_the_limit() -> None:
    assert "limit" in damage(entry(b"L", b"name", b"L") * 5000)


@pytest.mark.parametrize("data", [b"1" * (1 << 19), b"3 " * (1 << 18) + b"=", b"\n" * (1 << 19)])
def test_hostile_pax_headers_take_no_time(data: bytes) -> None:
    hostile = entry(b"pax", data, b"x") + entry(b"a") + END
    assert damage(hostile)
    assert cpu_seconds(lambda: damage(hostile)) < 2


def test_harmless_global_and_unknown_records_are_passed_over() -> None:
    head = pax({b"comment": b"by git"}, b"g") + pax({b"mtime": b"1.5", b"SCHILY.xattr.x": b"\0=\n"})
    assert entries(head + entry(b"a.jpg") + END) == [Entry("a.jpg", "file", 0)]
