"""Samples by id: the same as reading whole shards gives, in every layout."""

import gzip
import io
import threading
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from archives import tar_bytes
from hypothesis import HealthCheck, given, settings
from pictures import encoded, picture, sample, write_set, write_shard
from servers import web_server
from slow_tars import hostile_tars

from curate import lookup
from curate.discover import open_dataset
from curate.errors import CurateError
from curate.lookup import Samples
from curate.samples import Limits, Sample
from curate.shards import Dataset, Shard, ShardReader

STRANGE = ("../up", "a/b:c", "dup", "dup", "<img src=x>", "日本/é\u202e", "x" * 300, "tab\there")


def all_of(dataset: Dataset) -> dict[str, Sample]:
    """The slow twin: every sample by id, reading everything."""
    return {
        f"{shard.name}:{found.key}": found
        for shard in dataset.shards
        for found in ShardReader(dataset, shard)
        if not found.is_loose
    }


def check(dataset: Dataset) -> None:
    samples, expected = Samples(dataset), all_of(dataset)
    assert len(expected) > 3
    for id_, whole in expected.items():
        assert samples.read(id_) == whole, id_
    shard = next(iter(dataset.shards)).name
    for id_ in (f"{shard}:none", "none:000001", "none", "", f"{shard}:../../etc/passwd"):
        assert samples.read(id_) is None


def strange_tar() -> bytes:
    members = []
    for number, key in enumerate(STRANGE):
        members += [(f"{key}.png", encoded(picture(number))), (f"{key}.txt", b"words")]
        members.append(("README", b"a loose file"))
    return tar_bytes(members)


def test_a_tar_is_entered(tmp_path: Path) -> None:
    write_set(tmp_path / "set", [range(5), range(5, 9)])
    check(open_dataset(str(tmp_path / "set")))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_strange_and_repeated_keys_are_found(tmp_path: Path, suffix: str) -> None:
    data = strange_tar()
    path = tmp_path / f"strange{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".tar.gz" else data)
    check(open_dataset(str(path)))


def test_a_folder_of_images_is_entered(tmp_path: Path) -> None:
    for number, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png", "dog/<b>.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(picture(number)))
    (tmp_path / "cat" / "1.txt").write_text("a cat")
    (tmp_path / "cat" / "notes.md").write_text("loose")
    check(open_dataset(str(tmp_path)))


@pytest.mark.parametrize("key", ["key", None])
def test_a_table_is_entered(tmp_path: Path, key: str | None) -> None:
    columns = {
        "image": [encoded(picture(n)) for n in range(10)], "caption": [f"c{n}" for n in range(10)],
        **({key: ["twice", *(f"k{n}" for n in range(8)), "twice"]} if key else {}),
    }  # fmt: skip
    pl.DataFrame(columns).write_parquet(tmp_path / "t.parquet", row_group_size=4)
    check(open_dataset(str(tmp_path / "t.parquet")))


def test_a_remote_tar_is_fetched_once(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [sample(f"k{n}", encoded(picture(n))) for n in range(5)])
    with web_server(tmp_path) as (url, faults):
        dataset = open_dataset(f"{url}/0.tar")
        samples = Samples(dataset)
        expected = all_of(dataset)
        before = faults.bytes_of("0.tar")
        assert all(samples.read(id_) == whole for id_, whole in expected.items())
        assert faults.bytes_of("0.tar") - before <= (tmp_path / "0.tar").stat().st_size


def test_of_a_damaged_tar_the_samples_before_the_damage_are_found(tmp_path: Path) -> None:
    rows = [sample(f"k{n}", encoded(picture(n))) for n in range(4)]
    path = write_shard(tmp_path / "0.tar", rows)
    data = path.read_bytes()
    for cut, suffix in ((data[: len(data) // 2], "0.tar"), (gzip.compress(data)[:-3000], "1.tar")):
        (tmp_path / suffix).write_bytes(cut)
        samples = Samples(open_dataset(str(tmp_path / suffix)))
        found = samples.read(f"{suffix[0]}:k0")
        assert found is not None
        assert found.members[0].data == rows[0][1]["png"]
        last = samples.read(f"{suffix[0]}:k3")
        assert last is None or last.members[0].data is None


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@given(data=hostile_tars())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_a_hostile_tar_every_sample_is_found(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".tar.gz" else data)
    dataset = Dataset("t", "webdataset", str(path), (Shard("t", str(path), path.name),))
    samples, whole = Samples(dataset), all_of(dataset)
    for number, (id_, expected) in enumerate(whole.items(), 1):
        found = samples.read(id_)
        damaged_behind_it = replace(expected, failure=None) if number == len(whole) else expected
        assert found in (expected, damaged_behind_it), id_


def test_missing_bytes_of_a_sample_are_not_made_up(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(tar_bytes([("k.png", bytes(range(250)) * 4)])[:1200])
    found = Samples(open_dataset(str(tmp_path / "0.tar"))).read("0:k")
    assert found is not None
    assert found.members[0].data is None
    assert found.members[0].failure is not None
    assert found.members[0].failure.status == "cut_short"


def test_a_shard_that_has_gone_is_named(tmp_path: Path) -> None:
    write_set(tmp_path / "set", [range(3)])
    dataset = open_dataset(str(tmp_path / "set"))
    (tmp_path / "set" / "00000.tar").unlink()
    with pytest.raises(CurateError, match=r"00000.tar: cannot be read \(No such file"):
        Samples(dataset).read("00000:000001")


def test_a_sample_over_the_limits_is_no_image(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.tar", [sample("k", encoded(picture(0)))])
    found = Samples(open_dataset(str(path)), Limits(max_sample_bytes=600)).read("0:k")
    assert found is not None
    assert found.failure is not None
    assert found.failure.status == "too_large"


def test_a_shard_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "_SPOOLED", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes([("a.png", bytes(8 << 20))])))
    with pytest.raises(CurateError, match="over the limit of 1048576 bytes"):
        Samples(open_dataset(str(path))).read("bomb:a")


def test_only_so_many_shards_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "set", [range(3), range(3, 6), range(6, 9)])
    monkeypatch.setattr(lookup, "_KEYS", 7)
    dataset = open_dataset(str(tmp_path / "set"))
    samples = Samples(dataset)
    for id_, whole in (*all_of(dataset).items(), *all_of(dataset).items()):
        assert samples.read(id_) == whole
        assert sum(opened.keys for opened in samples._opened.values()) <= 7


def test_a_shard_that_many_ask_for_is_looked_over_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path / "set", [range(8)])
    looks: list[str] = []
    original = lookup._open_tar

    def counted(url: str, limits: Limits) -> lookup.Opened:
        looks.append(url)
        return original(url, limits)

    monkeypatch.setattr(lookup, "_open_tar", counted)
    dataset = open_dataset(str(tmp_path / "set"))
    samples, expected = Samples(dataset), all_of(dataset)
    wrong: list[str] = []

    def read_all() -> None:
        wrong.extend(id_ for id_, whole in expected.items() if samples.read(id_) != whole)

    threads = [threading.Thread(target=read_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(looks) == 1


def test_keys_whose_hashes_collide_are_told_apart() -> None:
    class Same(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 5

        def __eq__(self, other: object) -> bool:
            return str.__eq__(self, other)

    data = tar_bytes([("a.png", b"first"), ("b.png", b"second")])
    opened = lookup._Tar(io.BytesIO(data), None, Limits())
    opened._places._table["hash"] = 5
    for key, text in (("a", b"first"), ("b", b"second")):
        found = opened.read(Same(key))
        assert found is not None
        assert found.members[0].data == text
    assert opened.read(Same("c")) is None
