"""Damaged tars end as samples and at most one DamagedShardError, and never as other data."""

import gzip
import io
import tarfile
import tracemalloc

import pytest
from archives import END, entry, pax, read_all, tar_bytes
from mutate import mutations
from timing import cpu_seconds
from watchdog import watched

from curate.samples import Limits

LIMITS = Limits(1 << 16, 1 << 14, 20, 1 << 17)
LIMIT_S = 20.0
MEMORY = 8 << 20

PAIRS = [("a/b.jpg", b"j" * 900), ("a/b.cls", b"3"), ("README", b"read me"), ("c.png", b"p" * 40)]


def corpus() -> list[bytes]:
    """Every kind of header once, plain and packed."""
    long = [("d" * 180 + ".jpg", b"1"), ("é\udcff.png", b"2")]
    kinds = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    plain = [tar_bytes(PAIRS, kind) for kind in kinds]
    plain += [tar_bytes([*PAIRS, *long], kind) for kind in kinds[1:]]
    odd = b"".join(entry(name, kind=kind) for name, kind in ((b"l.jpg", b"2"), (b"d/", b"5")))
    sparse = pax({b"GNU.sparse.name": b"s.jpg", b"GNU.sparse.realsize": b"99"}) + entry(b"s", b"x")
    plain.append(pax({b"comment": b"g"}, b"g") + odd + sparse + entry(b"last.jpg", b"y") + END)
    plain.append(entry(b"huge.jpg", bytes(70_000)) + entry(b"v", kind=b"V") + END)
    return [*plain, *(gzip.compress(data, mtime=0) for data in plain[:2])]


def outcome(data: bytes) -> str:
    """Read a tar; "whole", "damaged", or what is wrong with the reading."""
    tracemalloc.start()
    samples, damage = read_all(data, LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if peak > MEMORY:
        return f"{peak} bytes of memory"
    if damage is not None:
        return "damaged" if damage.isprintable() else f"bad reason {damage!r}"
    members = {member.name: member.data for sample in samples for member in sample.members}
    found = {(name, data) for name, data in members.items() if data}
    expected = by_tarfile(data)
    same = expected is None or (found <= expected.items() and expected.keys() <= members.keys())
    return "whole" if same else f"{sorted(members)} and not {sorted(expected or ())}"


def by_tarfile(data: bytes) -> dict[str, bytes] | None:
    """The regular files as the standard library reads them.

    None where it refuses: it insists on numbers in fields that are of no use here.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
            files = [(info.name, archive.extractfile(info)) for info in archive if info.isreg()]
            return {name: stream.read() for name, stream in files if stream}
    except tarfile.ReadError:
        return None


def check(count: int, seed: int) -> None:
    results = set(watched(outcome, mutations(seed, corpus(), count), LIMIT_S))
    assert results <= {"whole", "damaged"}
    assert len(results) == 2


def test_the_corpus_itself_is_whole() -> None:
    assert [outcome(data) for data in corpus()] == ["whole"] * len(corpus())


def test_300_damaged_tars_end_as_samples_or_damage() -> None:
    check(300, seed=1)


@pytest.mark.slow
def test_20000_damaged_tars_end_as_samples_or_damage() -> None:
    check(20_000, seed=2)


def test_reading_time_grows_with_the_tar_and_not_faster() -> None:
    def seconds(count: int) -> float:
        data = entry(b"a.jpg") * count + END
        assert len(read_all(data)[0]) == count
        return cpu_seconds(lambda: read_all(data))

    assert seconds(8000) < 16 * max(seconds(2000), 0.01)
