"""Samples that are held out, and what a loss may ask of a set."""

from pathlib import Path

import polars as pl
import pytest
from pictures import encoded, picture, sample, write_set, write_shard

from curate.errors import CurateError
from train.data import TrainSet, hold_out, need_captions, need_labels
from train.sources import open_trainset


@pytest.fixture(scope="module")
def trainset(tmp_path_factory: pytest.TempPathFactory) -> TrainSet:
    root = write_set(tmp_path_factory.mktemp("set"), [range(20), range(20, 21), range(21, 60)])
    return open_trainset(str(root))


def ids(trainset: TrainSet) -> list[str]:
    return trainset.samples["id"].to_list()


def consistent(trainset: TrainSet) -> bool:
    names = [shard.name for shard in trainset.dataset.shards]
    expected = [name for name, n in zip(names, trainset.sizes, strict=True) for _ in range(n)]
    return [id_.partition(":")[0] for id_ in ids(trainset)] == expected


@pytest.mark.parametrize("count", [1, 7, 30, 59])
def test_what_is_held_out_and_what_is_left_are_the_set(trainset: TrainSet, count: int) -> None:
    rest, held = hold_out(trainset, count, 0)
    assert held.samples.height == count
    assert sorted(ids(rest) + ids(held)) == sorted(ids(trainset))
    both = pl.concat([rest.samples, held.samples]).sort("id")
    assert both.equals(trainset.samples.sort("id"))
    assert consistent(rest)
    assert consistent(held)
    assert ids(held) == [id_ for id_ in ids(trainset) if id_ in ids(held)]
    assert held.classes == trainset.classes


def test_the_choice_stays_when_other_samples_come_or_go(tmp_path: Path) -> None:
    chosen = []
    for number, last in enumerate((40, 39, 41)):
        root = write_set(tmp_path / str(number), [range(last)])
        chosen.append(set(ids(hold_out(open_trainset(str(root)), 8, 3)[1])))
    assert len(chosen[0] - chosen[1]) <= 1
    assert len(chosen[0] - chosen[2]) <= 1


def test_every_seed_holds_out_others(trainset: TrainSet) -> None:
    assert ids(hold_out(trainset, 10, 0)[1]) == ids(hold_out(trainset, 10, 0)[1])
    assert ids(hold_out(trainset, 10, 0)[1]) != ids(hold_out(trainset, 10, 1)[1])


def test_a_number_that_leaves_nothing_is_refused(trainset: TrainSet) -> None:
    for count in (0, 60, 61, -1):
        with pytest.raises(CurateError, match=f"{count} samples cannot be held out of 60"):
            hold_out(trainset, count, 0)


def test_labels_and_captions_that_are_there_are_enough(trainset: TrainSet) -> None:
    need_labels(trainset)
    need_captions(trainset)
    assert trainset.is_labelled


def test_a_sample_without_label_or_caption_is_named(tmp_path: Path) -> None:
    rows = [sample(f"k{n}", encoded(picture(n))) for n in range(3)]
    for _, members in rows[1:]:
        del members["cls"], members["json"]
    del rows[0][1]["json"]
    path = write_shard(tmp_path / "0.tar", rows)
    trainset = open_trainset(str(path))
    assert not trainset.is_labelled
    with pytest.raises(CurateError, match=r"0.tar: sample k1 has no label, as 2 of 3 samples"):
        need_labels(trainset)
    with pytest.raises(CurateError, match=r"0.tar: sample k0 has no caption"):
        need_captions(trainset)


def test_a_set_without_any_label_has_no_classes(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [("k", {"png": encoded(picture(0))})])
    trainset = open_trainset(str(tmp_path / "0.tar"))
    assert trainset.classes == ()
    assert trainset.samples["label"].to_list() == [None]
