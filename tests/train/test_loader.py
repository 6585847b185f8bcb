"""Batches are the samples asked for, whoever reads them, and what goes wrong is told plainly."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import webdataset
from open_clip.transform import PreprocessCfg, image_transform_v2
from pictures import encoded, picture, sample, write_set, write_shard
from PIL import Image
from splitting import split_of

from curate.discover import open_dataset
from curate.errors import CurateError, PartialRunError
from train.data import TrainSet
from train.loader import Loaded, LoadSettings, load
from train.order import BatchRows, Order, batches, in_turn
from train.sources import open_trainset

PREPROCESS = {
    "size": 32, "mode": "RGB", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0),
    "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def trainset(tmp_path_factory: pytest.TempPathFactory) -> TrainSet:
    root = write_set(tmp_path_factory.mktemp("set"), [range(10), range(10, 16), range(16, 30)])
    return open_trainset(str(root))


def settings(**more: Any) -> LoadSettings:
    return LoadSettings(**{"preprocess": PREPROCESS, **more})


def asked(trainset: TrainSet, start: int = 0, stop: int | None = 7) -> Iterator[BatchRows]:
    return batches(Order(trainset.sizes, 8, 3, window=2), start, stop)


def everything(trainset: TrainSet, **more: Any) -> list[Loaded]:
    turn = in_turn(trainset.samples.height, 8)
    return list(load(trainset, turn, settings(**more)))


def content(batch: Loaded) -> tuple[Any, ...]:
    labels = None if batch.labels is None else batch.labels.tolist()
    images = batch.images.numpy().tobytes()
    return batch.step, batch.epoch, batch.keys, images, labels, batch.captions


def has_children() -> bool:
    return bool(multiprocessing.active_children())


def test_a_batch_is_the_samples_that_were_asked_for(trainset: TrainSet) -> None:
    whole = image_transform_v2(PreprocessCfg(**PREPROCESS), is_train=False)
    for wanted, batch in zip(asked(trainset), load(trainset, asked(trainset), settings()),
                             strict=True):  # fmt: skip
        rows = trainset.samples[wanted.rows]
        assert (batch.step, batch.epoch) == (wanted.step, wanted.epoch)
        assert batch.keys == tuple(rows["id"])
        seeds = [int(key.partition(":")[2]) for key in batch.keys]
        expected = torch.stack([whole(picture(seed)) for seed in seeds])
        assert batch.images.dtype == torch.uint8
        assert torch.equal(batch.images.float() / 255, expected)
        assert batch.labels is not None
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == [seed % 3 for seed in seeds]
        assert batch.captions == tuple(f"picture {seed:06d}" for seed in seeds)


def test_workers_read_what_one_process_reads_and_end_when_told(trainset: TrainSet) -> None:
    expected = list(map(content, load(trainset, asked(trainset), settings(augment="crop-flip"))))
    torch.manual_seed(3)
    state, handler = torch.get_rng_state(), signal.getsignal(signal.SIGCHLD)
    with closing(
        load(trainset, asked(trainset, stop=None), settings(augment="crop-flip", workers=2))
    ) as loaded:
        found = list(map(content, islice(loaded, 7)))
        assert len(multiprocessing.active_children()) == 2
    assert not has_children()
    assert found == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert signal.getsignal(signal.SIGCHLD) == handler


def test_from_the_middle_on_the_batches_are_the_same(trainset: TrainSet) -> None:
    for augment in ("crop-flip", "resized-crop"):

        def run(start: int, augment: str = augment) -> list[tuple[Any, ...]]:
            given = settings(augment=augment, seed=4)
            return list(map(content, load(trainset, asked(trainset, start), given)))

        assert run(4) == run(0)[4:]
        assert len(run(4)) == 3


def test_an_epoch_and_a_seed_have_augmentations_of_their_own(trainset: TrainSet) -> None:
    def images(epoch: int, seed: int) -> bytes:
        batch = BatchRows(0, epoch, np.arange(8))
        loaded = load(trainset, iter([batch]), settings(augment="crop-flip", seed=seed))
        return next(loaded).images.numpy().tobytes()

    assert images(0, 0) == images(0, 0)
    assert len({images(0, 0), images(1, 0), images(0, 1)}) == 3


def test_a_split_and_the_original_with_its_list_load_the_same(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", [range(9), range(9, 10), range(10, 21)])
    split = split_of(open_dataset(str(root)), tmp_path / "split", lambda n, _: n % 4 == 0)
    given = settings(augment="resized-crop")
    both = [
        list(map(content, load(opened, asked(opened, 0, 5), given)))
        for opened in (
            open_trainset(str(split)),
            open_trainset(str(root), split / "clean_ids.txt"),
        )
    ]
    assert both[0] == both[1]
    assert len(both[0]) == 5


def test_webdataset_reads_the_same_from_the_clean_shards(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", [range(9), range(9, 21)])
    split = split_of(open_dataset(str(root)), tmp_path / "split")
    urls = [str(path) for path in sorted((split / "clean").glob("*.tar"))]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
    ours = everything(open_trainset(str(split)))
    keys = [key.partition(":")[2] for batch in ours for key in batch.keys]
    assert keys == [item["__key__"] for item in theirs] != []
    pixels = np.concatenate([batch.images.numpy() for batch in ours])
    expected = [np.asarray(item["png"].resize((32, 32), Image.Resampling.BICUBIC))
                for item in theirs]  # fmt: skip
    assert np.array_equal(pixels, np.stack(expected).transpose(0, 3, 1, 2))


def test_real_photographs_are_read_as_webdataset_reads_them(shared_data: Path) -> None:
    root = shared_data / "cifar10-mini" / "train"
    trainset = open_trainset(str(root))
    assert trainset.classes == tuple(sorted(trainset.classes))
    assert len(trainset.classes) == 10
    urls = [shard.url for shard in trainset.dataset.shards]
    theirs = webdataset.WebDataset(urls, shardshuffle=False).decode("pil")
    ours = everything(trainset, captions=True)
    assert sum(len(batch.keys) for batch in ours) == trainset.samples.height > 100
    found = zip(
        (key for batch in ours for key in batch.keys),
        (pixels for batch in ours for pixels in batch.images.numpy()),
        (number for batch in ours if batch.labels is not None for number in batch.labels),
        (caption for batch in ours for caption in batch.captions),
        theirs, strict=True,
    )  # fmt: skip
    for key, pixels, number, caption, item in found:
        assert key.partition(":")[2] == item["__key__"]
        assert np.array_equal(pixels, np.asarray(item["jpg"]).transpose(2, 0, 1))
        assert trainset.classes[number] == item["json"]["classname"]
        assert caption == item["txt"]


def test_one_sample_without_a_label_leaves_none(tmp_path: Path) -> None:
    rows = [sample("a", encoded(picture(0))), ("b", {"png": encoded(picture(1))})]
    trainset = open_trainset(str(write_shard(tmp_path / "0.tar", rows)))
    batch = everything(trainset)[0]
    assert batch.labels is None
    assert batch.captions == ("picture a", None)


def with_broken(root: Path) -> TrainSet:
    rows = [sample(f"k{n}", encoded(picture(n))) for n in range(4)]
    rows[2][1]["png"] = encoded(picture(2))[:200]
    del rows[3][1]["json"]
    return open_trainset(str(write_shard(root / "0.tar", rows)))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path, workers: int) -> None:
    with pytest.raises(CurateError) as caught:
        everything(with_broken(tmp_path), workers=workers)
    assert str(caught.value).startswith(
        f"{tmp_path}/0.tar: sample k2 has no image that can be used (failed_to_decode: "
    )
    assert str(caught.value).endswith("or leave this sample out with a list of ids.")
    del caught
    assert not has_children()


def test_a_caption_that_is_missing_is_named_where_one_is_needed(tmp_path: Path) -> None:
    trainset = with_broken(tmp_path)
    last = BatchRows(0, 0, np.array([0, 3]))
    assert next(load(trainset, iter([last]), settings())).captions == ("picture k0", None)
    with pytest.raises(CurateError, match=r"0.tar: sample k3 has no caption .*Choose a loss"):
        next(load(trainset, iter([last]), settings(captions=True)))


def test_shards_that_changed_or_went_are_named(tmp_path: Path) -> None:
    root = write_set(tmp_path, [range(3)])
    trainset = open_trainset(str(root))
    write_set(tmp_path, [range(2)])
    with pytest.raises(CurateError, match=r"00000.tar: sample 000002 is no longer in it"):
        everything(trainset)
    (root / "00000.tar").unlink()
    with pytest.raises(CurateError, match=r"00000.tar: cannot be read \(No such file"):
        everything(trainset)


def test_an_unknown_augmentation_is_refused_before_anything_is_read(trainset: TrainSet) -> None:
    with pytest.raises(CurateError, match="augmentation 'mixup'"):
        next(load(trainset, asked(trainset), settings(augment="mixup")))


def endless(trainset: TrainSet) -> Generator[Loaded, None, None]:
    loaded = load(trainset, asked(trainset, stop=None), settings(workers=1, prefetch=1))
    next(loaded)
    return loaded


def test_a_worker_that_is_killed_ends_the_run_where_batches_are_waited_for(
    trainset: TrainSet,
) -> None:
    loaded = endless(trainset)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.5)  # whatever is going on meanwhile is not interrupted
    with pytest.raises(PartialRunError, match="a process that reads the training data was killed"):
        list(loaded)
    assert not has_children()


PROGRAM = """
import sys, time
from train.loader import LoadSettings, load
from train.order import Order, batches
from train.sources import open_trainset

if __name__ == "__main__":
    trainset = open_trainset(sys.argv[1])
    order = Order(trainset.sizes, 8)
    loaded = load(trainset, batches(order), LoadSettings({"size": 32}, workers=2))
    next(loaded)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_a_run_that_is_killed(trainset: TrainSet, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(program), trainset.dataset.root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=where) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        processes = psutil.Process(run.pid).children(recursive=True)
        assert len(processes) >= 2
        run.kill()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []
