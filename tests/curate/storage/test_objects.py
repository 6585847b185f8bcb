"""Objects of S3 through a connection that fails: tried again and checked, or a clear error."""

from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import Fault, Faults, Request, broken_at, through_proxy

from curate.errors import CurateError
from curate.remote import Stamp
from curate.storage.objects import Objects, StoreError, digests, side_by_side

pytestmark = pytest.mark.usefixtures("impatient")

FAST = (0.0, 0.0, 0.0)
DATA = bytes(range(256)) * 500


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(DATA)
    return path


def test_what_is_sent_is_listed_and_comes_back(bucket: str, file: Path, tmp_path: Path) -> None:
    objects = Objects(f"{bucket}/plain", FAST)
    stamp = objects.send(file, "a/b.bin")
    assert objects.list() == {"a/b.bin": stamp}
    assert objects.stamp("a/b.bin") == stamp
    assert objects.stamp("a/none") is None
    assert objects.stamp("a") is None
    objects.fetch("a/b.bin", tmp_path / "back.bin", stamp)
    assert (tmp_path / "back.bin").read_bytes() == DATA
    assert objects.digest("a/b.bin").sha256 == digests(file).sha256
    assert objects.read("a/b.bin") == DATA
    objects.remove(["a/b.bin", "a/none"])
    assert objects.list() == {}
    assert objects.read("a/b.bin") is None


def test_a_large_file_is_sent_in_parts(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_args, **_more: 5 << 20)
    assert s3fs
    path = tmp_path / "large.bin"
    path.write_bytes(DATA * 100)
    objects = Objects(f"{bucket}/parts", FAST)
    stamp = objects.send(path, "large.bin")
    assert "-" in stamp.tag
    assert objects.digest("large.bin").sha256 == digests(path).sha256


def test_only_one_creates_an_object(bucket: str) -> None:
    objects = Objects(f"{bucket}/created", FAST)
    assert objects.create("x", b"1")
    assert not objects.create("x", b"2")
    assert objects.read("x") == b"1"


@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost", "slow"])
def test_sending_survives_what_passes(bucket: str, file: Path, fault: Fault) -> None:
    for number in range(2):
        faults = Faults(broken_at({number}, fault))
        with through_proxy(faults):
            objects = Objects(f"{bucket}/sent-{fault}-{number}", FAST)
            objects.send(file, "x.bin")
            assert objects.read("x.bin") == DATA
        assert len(faults.asked) >= 3


@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost", "cut", "slow"])
def test_reading_survives_what_passes(
    bucket: str, file: Path, tmp_path: Path, fault: Fault
) -> None:
    Objects(f"{bucket}/read", FAST).send(file, "x.bin")
    for number in range(2):
        with through_proxy(Faults(broken_at({number}, fault))):
            objects = Objects(f"{bucket}/read", FAST)
            stamp = objects.stamp("x.bin")
            assert stamp is not None
            objects.fetch("x.bin", tmp_path / f"{fault}.bin", stamp)
        assert (tmp_path / f"{fault}.bin").read_bytes() == DATA
    with through_proxy(Faults(broken_at({0}, fault))):
        assert Objects(f"{bucket}/read", FAST).list().keys() == {"x.bin"}


def test_a_store_that_stays_broken_is_named_and_nothing_is_left(
    bucket: str, file: Path, tmp_path: Path
) -> None:
    stamp = Objects(f"{bucket}/broken", FAST).send(file, "x.bin")
    faults = Faults(lambda request: "cut" if request.method == "GET" else None)
    with through_proxy(faults):
        objects = Objects(f"{bucket}/broken", FAST)
        with pytest.raises(StoreError, match=r"broken/x\.bin: failed again and again"):
            objects.fetch("x.bin", tmp_path / "new" / "x.bin", stamp)
    assert list((tmp_path / "new").iterdir()) == []


def test_what_is_refused_is_not_asked_again(bucket: str, file: Path) -> None:
    def refuse(request: Request) -> Fault | None:
        return "403" if request.method == "PUT" else None

    faults = Faults(refuse)
    with through_proxy(faults):
        objects = Objects(f"{bucket}/refused", FAST)
        with pytest.raises(CurateError, match="Check the credentials"):
            objects.send(file, "x.bin")
    assert sum(request.method == "PUT" for request in faults.asked) == 1


def test_a_bucket_that_is_not_there_is_to_be_created(bucket: str) -> None:
    with pytest.raises(CurateError, match="no such bucket; create it first"):
        Objects("s3://no-such-bucket/run", FAST).write("x", b"1")


def test_another_object_than_announced_is_not_taken(
    bucket: str, file: Path, tmp_path: Path
) -> None:
    objects = Objects(f"{bucket}/other", FAST)
    objects.send(file, "x.bin")
    with pytest.raises(StoreError, match=f"only {len(DATA)} of 5 bytes came"):
        objects.fetch("x.bin", tmp_path / "x.bin", Stamp(5, "another"))


def test_a_full_disk_is_no_fault_of_the_store(bucket: str, file: Path) -> None:
    objects = Objects(f"{bucket}/full", FAST)
    stamp = objects.send(file, "x.bin")
    with pytest.raises(CurateError, match="could not be written"):
        objects.fetch("x.bin", Path("/proc/none/x.bin"), stamp)


def test_a_tag_that_looks_like_an_md5_and_is_none_is_settled_by_reading(
    bucket: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of objects that a store encrypts."""
    objects = Objects(f"{bucket}/encrypted", FAST)

    def stamp_of(info: dict[str, Any]) -> Stamp:
        return Stamp(info["size"], f'"{"0" * 32}"')

    monkeypatch.setattr("curate.storage.objects.stamp_of", stamp_of)
    objects.send(file, "x.bin")
    monkeypatch.setattr(objects._fs, "put_file", lambda *_: None)
    objects._fs.pipe_file(f"{objects._base}/x.bin", bytes(len(DATA)))
    with pytest.raises(StoreError, match="other bytes arrived"):
        objects.send(file, "x.bin")


def test_the_first_error_ends_what_goes_side_by_side() -> None:
    assert side_by_side(lambda n: n * 2, range(5)) == [0, 2, 4, 6, 8]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 // n, range(5))
