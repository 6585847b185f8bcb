"""Splits on disk: exactly the kept samples, byte for byte, and lists that agree."""

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pictures import sample, write_shard

from curate import tables
from curate.artifacts import Manifest, verify
from curate.discover import open_dataset
from curate.errors import CurateError, GateError, PartialRunError
from curate.files import read_json
from curate.shards import Dataset, ShardReader
from curate.splits import SplitUnit, in_kind, read_decisions, write_split, write_unit

WORDS = {"00000": ["clean", "overlap", "unknown", "clean"], "00001": ["overlap", "overlap"],
         "00002": ["clean"]}  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for shard, words in WORDS.items():
        samples = [sample(f"{shard}-{n}", f"{word} {shard} {n}".encode() * 99)
                   for n, word in enumerate(words)]  # fmt: skip
        write_shard(tmp_path / "set" / f"{shard}.tar", samples)
    return open_dataset(str(tmp_path / "set"))


def digests(dataset: Dataset) -> dict[str, str]:
    found = {}
    for shard in dataset.shards:
        reader = ShardReader(dataset, shard)
        list(reader)
        found[shard.name] = reader.sha256
    return found


def decisions(words: Mapping[str, Sequence[str]] = WORDS) -> pl.DataFrame:
    rows = [
        {"id": f"{shard}:{shard}-{n}", "shard": shard, "key": f"{shard}-{n}", "position": n,
         "decision": word, "reason": "", "control": word != "unknown" and n == 0}
        for shard, of in words.items() for n, word in enumerate(of)
    ]  # fmt: skip
    return tables.rows(rows, tables.DECISIONS)


def written(
    dataset: Dataset, out: Path, words: Mapping[str, Sequence[str]] = WORDS, **options: Any
) -> pl.DataFrame:
    decided = decisions(words)
    summary = {"counts": {"in": decided.height}}
    given = {"kinds": ("clean", "overlap", "control"), "shard_digests": digests(dataset)} | options
    write_split(dataset, decided, Manifest("split", {"k": 1}, []), summary, out, **given)
    return decided


def members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        return [(m.name, archive.extractfile(m).read()) for m in archive.getmembers()]


def test_each_split_holds_just_its_samples_with_the_bytes_they_came_in(
    dataset: Dataset, tmp_path: Path
) -> None:
    decided = written(dataset, tmp_path / "split")
    for kind in ("clean", "overlap", "control"):
        keys = set(decided.filter(in_kind(kind))["key"])
        for shard in WORDS:
            source = members(tmp_path / "set" / f"{shard}.tar")
            kept = [member for member in source if member[0].partition(".")[0] in keys]
            assert members(tmp_path / "split" / kind / f"{shard}.tar") == kept


def test_lists_and_tables_agree_with_the_decisions(dataset: Dataset, tmp_path: Path) -> None:
    decided = written(dataset, tmp_path / "split")
    for kind in ("clean", "overlap", "unknown", "control"):
        lines = (tmp_path / "split" / f"{kind}_ids.txt").read_text().splitlines()
        assert lines == decided.filter(in_kind(kind))["id"].to_list() != []
    assert read_decisions(tmp_path / "split").equals(decided)
    assert read_json(tmp_path / "split" / "split.json") == {"counts": {"in": 7}}
    assert read_json(tmp_path / "split" / "manifest.json")["counts"] == {"in": 7}
    assert verify(tmp_path / "split") == []


def test_a_shard_of_which_nothing_is_kept_is_an_empty_tar_that_opens(
    dataset: Dataset, tmp_path: Path
) -> None:
    written(dataset, tmp_path / "split", kinds=("clean",))
    path = tmp_path / "split" / "clean" / "00001.tar"
    assert members(path) == []
    assert path.stat().st_size >= 1024
    again = open_dataset(str(tmp_path / "split" / "clean"))
    assert [list(ShardReader(again, shard)) == [] for shard in again.shards] == [False, True, False]
    assert not (tmp_path / "split" / "overlap").exists()


def test_the_clean_split_opens_in_webdataset(dataset: Dataset, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    written(dataset, tmp_path / "split")
    url = str(tmp_path / "split" / "clean" / "00000.tar")
    found = list(webdataset.WebDataset(url, shardshuffle=False))
    assert [item["__key__"] for item in found] == ["00000-0", "00000-3"]
    assert found[1]["png"] == b"clean 00000 3" * 99


def test_a_split_without_shards_needs_no_data_set(dataset: Dataset, tmp_path: Path) -> None:
    gone = replace(dataset, shards=())
    written(gone, tmp_path / "split", kinds=(), shard_digests={})
    assert not [path for path in (tmp_path / "split").iterdir() if path.is_dir()]
    assert (tmp_path / "split" / "clean_ids.txt").read_text().count("\n") == 3


def test_a_shard_that_changed_since_it_was_embedded_is_not_split(
    dataset: Dataset, tmp_path: Path
) -> None:
    known = digests(dataset)
    write_shard(tmp_path / "set" / "00001.tar", [sample("00001-0", b"another picture")])
    bare = replace(dataset, shards=())
    unit = SplitUnit(bare, dataset.shards[1], known["00001"], str(tmp_path / "x"), frozenset())
    with pytest.raises(GateError, match=r"00001\.tar: changed since it was embedded"):
        write_unit(unit)
    with pytest.raises(PartialRunError, match=r"3 of 9 units failed(.|\n)*00001\.tar: changed"):
        written(dataset, tmp_path / "split", shard_digests=known)
    assert not (tmp_path / "split").exists()


@pytest.mark.parametrize("change", ["added", "removed"])
def test_a_shard_added_or_removed_since_the_embedding_is_noticed(
    dataset: Dataset, tmp_path: Path, change: str
) -> None:
    known = digests(dataset)
    if change == "added":
        write_shard(tmp_path / "set" / "00003.tar", [sample("x", b"y")])
    else:
        (tmp_path / "set" / "00002.tar").unlink()
    now = open_dataset(str(tmp_path / "set"))
    name = "00003" if change == "added" else "00002"
    with pytest.raises(GateError, match=f"shard {name} was added or removed"):
        written(now, tmp_path / "split", shard_digests=known)


def test_an_unknown_kind_of_split_is_refused_before_anything_is_written(
    dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(CurateError, match="--write unknown: one of clean, overlap, control"):
        written(dataset, tmp_path / "split", kinds=("clean", "unknown"))
    assert not list(tmp_path.glob(".split*"))


def test_side_files_of_a_set_go_with_every_split(tmp_path: Path) -> None:
    root = tmp_path / "bench"
    write_shard(root / "test" / "0.tar", [sample("s0", b"a"), sample("s1", b"b")])
    (root / "test" / "nshards.txt").write_text("1\n")
    (root / "classnames.txt").write_text("cat\ndog")
    dataset = open_dataset(str(root))
    name = dataset.shards[0].name
    rows = [
        {"id": f"{name}:s{n}", "shard": name, "key": f"s{n}", "position": n, "decision": word}
        for n, word in enumerate(("clean", "overlap"))
    ]
    decided = tables.rows(rows, tables.DECISIONS)
    manifest, summary = Manifest("split", {}, []), {"counts": {}}
    write_split(
        dataset, decided, manifest, summary, tmp_path / "split", shard_digests=digests(dataset)
    )
    clean = tmp_path / "split" / "clean"
    assert (clean / "classnames.txt").read_text() == "cat\ndog"
    assert {name for name, _ in members(clean / "test" / "0.tar")} == {
        "s0.png",
        "s0.cls",
        "s0.json",
    }
    again = open_dataset(str(clean))
    assert again.layout == "clip_benchmark"
    assert again.class_names == ("cat", "dog")


def test_the_same_decisions_give_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    written(dataset, tmp_path / "one")
    written(dataset, tmp_path / "two")
    manifests = [read_json(tmp_path / name / "manifest.json") for name in ("one", "two")]
    assert manifests[0] == manifests[1]


def test_kinds_of_decisions_are_told_apart() -> None:
    decided = decisions()
    counts = {
        kind: decided.filter(in_kind(kind)).height for kind in ("clean", "overlap", "unknown")
    }
    assert counts == {"clean": 3, "overlap": 3, "unknown": 1}
    assert decided.filter(in_kind("control") & (pl.col("decision") == "unknown")).height == 0
