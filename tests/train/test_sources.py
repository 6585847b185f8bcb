"""A split and the original shards with its list are one training set, whatever the layout."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from archives import tar_bytes
from pictures import encoded, picture, sample, tree, write_set, write_shard
from splitting import split_of

from curate.artifacts import read_manifest
from curate.discover import open_dataset
from curate.errors import CurateError
from curate.lookup import Samples
from curate.samples import Sample, image_member
from curate.shards import ShardReader
from curate.units import run_in_process
from train.data import TrainSet
from train.sources import open_trainset


def webdataset(root: Path) -> Path:
    return write_set(root, [range(5), range(5, 6), range(6, 13)])


def repeated_keys(root: Path) -> Path:
    names = ("dup", "dup", "x", "dup", "a#2", "a", "日本", "a", "tab\there")
    members = [(f"{key}.png", encoded(picture(n))) for n, key in enumerate(names)]
    root.mkdir()
    (root / "0.tar.gz").write_bytes(gzip.compress(tar_bytes([*members, ("README", b"loose")])))
    return root


def image_folder(root: Path) -> Path:
    for number in range(9):
        path = root / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(number)))
    (root / "only").mkdir()
    (root / "only" / "notes.md").write_text("a directory without samples")
    return root


def table(root: Path) -> Path:
    root.mkdir()
    columns = {
        "image": [encoded(picture(n)) for n in range(10)],
        "label": [n % 2 for n in range(10)],
    }
    pl.DataFrame(columns).write_parquet(root / "t.parquet", row_group_size=4)
    return root


def clip_benchmark(root: Path) -> Path:
    write_shard(root / "test" / "0.tar", [sample(f"s{n}", encoded(picture(n)), n % 2)
                                          for n in range(6)])  # fmt: skip
    (root / "test" / "nshards.txt").write_text("1\n")
    (root / "classnames.txt").write_text("an owl\na cat\n")
    return root


def img2dataset(root: Path) -> Path:
    samples = [sample(f"{n:09d}", encoded(picture(n)), n % 2) for n in (0, 1, 3, 4)]
    write_shard(root / "00000.tar", samples)
    (root / "00000_stats.json").write_text("{}")
    rows = [{"key": f"{n:09d}", "status": "success", "error_message": None} for n in range(6)]
    for lost in (2, 5):
        rows[lost] |= {"status": "failed_to_download", "error_message": "404"}
    pl.DataFrame(rows).write_parquet(root / "00000.parquet")
    return root


LAYOUTS = (webdataset, repeated_keys, image_folder, table, clip_benchmark, img2dataset)
Layout = Callable[[Path], Path]


def contents(trainset: TrainSet) -> list[tuple[bytes, str | None]]:
    """The image and class of every sample, read by its id."""
    samples, found = Samples(trainset.dataset), []
    for id_, number in trainset.samples.iter_rows():
        read = samples.read(id_)
        assert read is not None, id_
        member = image_member(read)
        found.append((member.data, None if number is None else trainset.classes[number]))
    return found


def read_whole(root: Path) -> list[tuple[str, Sample]]:
    """The slow twin: every sample that has an image, by reading all shards."""
    dataset = open_dataset(str(root))
    return [
        (f"{shard.name}:{found.key}", found)
        for shard in dataset.shards for found in ShardReader(dataset, shard) if found.members
        and not found.is_loose
    ]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards_as_they_are_give_every_sample_with_its_label(
    layout: Layout, tmp_path: Path
) -> None:
    root = layout(tmp_path / "set")
    expected = read_whole(root)
    trainset = open_trainset(str(root))
    assert trainset.samples["id"].to_list() == [id_ for id_, _ in expected]
    assert contents(trainset) == [(image_member(s).data, s.label) for _, s in expected]
    assert sum(trainset.sizes) == len(expected)
    assert len(trainset.sizes) == len(trainset.dataset.shards)
    assert trainset.source.kind == "shards"
    assert trainset.lost == (2 if layout is img2dataset else 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_and_the_original_with_its_list_are_the_same(
    layout: Layout, tmp_path: Path
) -> None:
    root = layout(tmp_path / "set")
    before = tree(root)
    split = split_of(open_dataset(str(root)), tmp_path / "split")
    ids = (split / "clean_ids.txt").read_text().splitlines()
    elsewhere = tmp_path / "list.txt"
    elsewhere.write_text("".join(f"{id_}\n" for id_ in reversed(ids)))
    expected = [(image_member(s).data, s.label) for id_, s in read_whole(root) if id_ in ids]
    opened = [
        open_trainset(str(split)),
        open_trainset([str(split / "clean")]),
        open_trainset(str(root), split / "clean_ids.txt"),
        open_trainset(str(root), elsewhere),
    ]
    for trainset in opened:
        assert contents(trainset) == expected != []
        assert trainset.sizes == opened[0].sizes
        assert trainset.classes == opened[0].classes
    assert tree(root) == before


def test_what_a_set_was_made_from_is_stated(tmp_path: Path) -> None:
    root = webdataset(tmp_path / "set")
    split = split_of(open_dataset(str(root)), tmp_path / "split")
    manifest = read_manifest(split).id
    whole = open_trainset(str(split)).source
    assert whole.to_json() == {
        "kind": "split", "name": "split", "digest": manifest, "split": manifest,
    }  # fmt: skip
    listed = open_trainset(str(root), split / "clean_ids.txt", name="mine").source
    assert (listed.kind, listed.name, listed.split) == ("ids", "mine", manifest)
    assert listed.digest != manifest


def test_the_digest_tells_other_samples_and_stays_where_files_are_copied(tmp_path: Path) -> None:
    def digest(name: str, seeds: Sequence[int], kept: Sequence[int]) -> str:
        root = write_set(tmp_path / name, [seeds])
        ids = tmp_path / f"{name}.txt"
        ids.write_text("".join(f"00000:{seed:06d}\n" for seed in kept))
        return open_trainset(str(root), ids).source.digest

    base = digest("a", range(4), [0, 1])
    assert digest("copy", range(4), [0, 1]) == base
    assert len({base, digest("b", range(4), [0, 2]), digest("c", range(5), [0, 1])}) == 3


def test_shards_of_which_nothing_is_listed_are_not_read(tmp_path: Path) -> None:
    root = webdataset(tmp_path / "set")
    (root / "00000.tar").write_bytes(b"no tar at all")
    (tmp_path / "ids.txt").write_text("00002:000007\r\n\n00002:000006\n00002:000007\n")
    trainset = open_trainset(str(root), tmp_path / "ids.txt")
    assert trainset.samples["id"].to_list() == ["00002:000006", "00002:000007"]
    assert [shard.name for shard in trainset.dataset.shards] == ["00002"]


def test_classes_are_numbered_as_given_or_sorted(tmp_path: Path) -> None:
    rows = [sample(f"k{n}", encoded(picture(n))) for n in range(4)]
    for (_, members), word in zip(rows, ("dog", "ant", "dog", "cow"), strict=True):
        members["cls"] = word.encode()
    write_shard(tmp_path / "0.tar", rows)
    trainset = open_trainset(str(tmp_path / "0.tar"))
    assert trainset.classes == ("ant", "cow", "dog")
    assert trainset.samples["label"].to_list() == [2, 0, 2, 1]
    given = open_trainset(str(tmp_path / "0.tar"), classes=["dog", "cow", "ant"])
    assert given.samples["label"].to_list() == [0, 2, 0, 1]


def refused(match: str, *args: Any, **options: Any) -> None:
    with pytest.raises(CurateError, match=match):
        open_trainset(*args, **options)


def test_classes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    root = str(image_folder(tmp_path / "set"))
    refused("class 'cat' is given twice", root, classes=["cat", "dog", "cat"])
    refused(
        r"sample dog:1\.png is of class 'dog', which is not .* did you mean 'dogs'",
        root, classes=["cat", "dogs"],
    )  # fmt: skip
    refused("class 'cow' has no image, as 1 of 3", root, classes=["cow", "dog", "cat"])


def test_a_set_without_samples_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "empty" / "0.tar", [])
    refused("empty: there are no samples in it", str(tmp_path / "empty"))
    root = webdataset(tmp_path / "set")
    split = split_of(open_dataset(str(root)), tmp_path / "split", lambda _n, _s: True)
    refused("split: nothing in it is clean", str(split))
    refused("clean_ids.txt: no ids are in it", str(root), split / "clean_ids.txt")


def test_a_split_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(str(webdataset(tmp_path / "set")))
    bare = split_of(dataset, tmp_path / "bare", kinds=())
    refused("written without its clean shards.*bare/clean_ids.txt", str(bare))
    split = split_of(dataset, tmp_path / "split")
    refused("has a list of its own", str(split), split / "clean_ids.txt")
    shard = split / "clean" / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    refused("clean/00000.tar: missing, or not as it was written", str(split))


def test_a_list_that_does_not_fit_the_shards_is_refused(tmp_path: Path) -> None:
    root = str(webdataset(tmp_path / "set"))
    ids = tmp_path / "ids.txt"
    refused("ids.txt: not readable as a list of ids", root, ids)
    ids.write_bytes(b"\xff\xfe\x00")
    refused("ids.txt: not readable as a list of ids", root, ids)
    ids.write_text("00000:000001\n00000:none\nno such shard\n")
    refused("ids.txt: 2 of its 3 ids are not in set .*, the first is '00000:none'", root, ids)
    split = split_of(open_dataset(root), tmp_path / "split")
    refused("00002 of the split is not among", f"{root}/0000[01].tar", split / "clean_ids.txt")
    with (split / "clean_ids.txt").open("a") as stream:
        stream.write("00000:none\n")
    refused("1 of its 10 ids are not in set", root, split / "clean_ids.txt")


def test_a_sample_without_an_image_and_a_damaged_shard_are_named(tmp_path: Path) -> None:
    rows = [sample(f"k{n}", encoded(picture(n))) for n in range(3)]
    path = write_shard(tmp_path / "0.tar", [*rows, ("words", {"txt": b"no image"})])
    refused(r"0.tar: sample words has no image .*curate dedup", str(path))
    (tmp_path / "ids.txt").write_text("0:k0\n0:k2\n")
    assert open_trainset(str(path), tmp_path / "ids.txt").sizes == (2,)
    write_shard(path, rows)
    path.write_bytes(path.read_bytes()[:5000])
    refused(r"0.tar: not readable as tar beyond .*Fetch it again", str(path))
    refused(r"0.tar: sample k0 .*the archive is damaged", str(path), tmp_path / "ids.txt")
    write_shard(tmp_path / "1.tar", [("words", {"txt": b"no image"})])
    refused(r"0.tar: .*\n\(and 1 more shards with errors\)", [str(path), str(tmp_path / "1.tar")])


@pytest.mark.slow
def test_a_split_of_the_product_is_a_training_set(shared_data: Path, tmp_path: Path) -> None:
    from curate.config import DedupConfig
    from pipelines.dedup import run_dedup

    mini = shared_data / "cifar10-mini"
    config = DedupConfig(
        test=(str(mini / "train"),), train=(str(mini / "test"),), out=tmp_path / "run",
        threshold=0.95,
    )  # fmt: skip
    split = run_dedup(config, run_in_process).split
    decisions = pl.read_parquet(split / "decisions.parquet")
    trainset = open_trainset(str(split))
    kept = decisions.filter(pl.col("decision") == "clean")
    assert 0 < kept.height < decisions.height
    assert trainset.samples["id"].to_list() == kept["id"].to_list()
    assert len(trainset.classes) == 10
    original = open_trainset(str(mini / "train"), split / "clean_ids.txt")
    assert contents(trainset) == contents(original)
