"""Images are decoded once, and a cache that is damaged or of others is not believed."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from evalset_trees import write_clip_benchmark_set
from evaluating import write_one, write_test_set
from pictures import encoded, picture
from torchvision.transforms import Resize

from curate.errors import CurateError
from eval.datasets.registry import open_evalset
from eval.geometry import as_pixels
from eval.pictures import read_items, read_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from eval.datasets.evalset import EvalSet


@pytest.fixture
def subject(tmp_path: Path) -> EvalSet:
    return open_evalset("mine", write_test_set(tmp_path / "set", 9))


def test_items_come_in_the_order_that_is_asked_for(subject: EvalSet) -> None:
    items = read_items(subject, [8, 0, 4])
    assert len(items) == 3
    assert items.ids == tuple(subject.items["id"][place] for place in (8, 0, 4))
    assert items.labels.tolist() == [2, 0, 1]
    assert items.labels.dtype == torch.int64
    assert items.also == ((), (), ())
    assert items.words == (None, None, None)
    assert items.groups == (None, None, None)


def test_images_are_as_they_are_stored_without_a_shape(subject: EvalSet) -> None:
    found = read_pictures(subject, range(9), None)
    assert found.images.shape == (9, 3, 32, 32)
    assert found.images.dtype == torch.uint8
    for place, image in enumerate(found.images):
        assert np.array_equal(image.numpy(), as_pixels(picture(place, 32)))


def test_images_take_the_shape_of_a_model(tmp_path: Path) -> None:
    folder = write_clip_benchmark_set(tmp_path / "set", ("cat", "dog"), [0, 1])
    subject = open_evalset("mine", folder)
    found = read_pictures(subject, [1], Resize((20, 20)))
    assert np.array_equal(found.images[0].numpy(), as_pixels(Resize((20, 20))(picture(1))))


def test_what_was_decoded_is_not_decoded_again(subject: EvalSet, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "0.npy"
    first = read_pictures(subject, range(4), None, cache)
    for shard in (tmp_path / "set" / "test").glob("*.tar"):
        shard.unlink()
    again = read_pictures(subject, range(4), None, cache)
    assert torch.equal(first.images, again.images)
    assert again.ids == first.ids


@pytest.mark.parametrize("damage", ["torn", "empty", "other", "short", "pickle"])
def test_a_damaged_cache_is_written_again(subject: EvalSet, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "0.npy"
    first = read_pictures(subject, range(4), None, cache)
    whole = cache.read_bytes()
    if damage == "torn":
        cache.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        cache.write_bytes(b"")
    elif damage == "other":
        np.save(cache, np.zeros((4, 3, 32, 32), np.float32))
    elif damage == "short":
        np.save(cache, np.zeros((3, 3, 32, 32), np.uint8))
    else:
        np.save(cache, np.array([{"no": "array"}], object), allow_pickle=True)
    assert torch.equal(read_pictures(subject, range(4), None, cache).images, first.images)
    assert cache.read_bytes() == whole


def test_a_full_disk_is_told_and_leaves_no_cache(
    subject: EvalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CurateError, match="No space left"):
        read_pictures(subject, range(4), None, tmp_path / "cache" / "0.npy")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("sizes", "words"),
    [(((40, 40), (52, 52)), "b has 52 x 52"), (((40, 30), (40, 30)), "a has 40 x 30")],
)
def test_stored_images_must_be_squares_of_one_size(
    tmp_path: Path, sizes: tuple[tuple[int, int], ...], words: str
) -> None:
    images = {key: encoded(picture(1).resize(size)) for key, size in zip("ab", sizes, strict=True)}
    subject = open_evalset("mine", write_one(tmp_path / "set", images))
    with pytest.raises(CurateError, match=rf"{words} pixels, .*@ATTACK\.epsRADIUS\.input"):
        read_pictures(subject, range(2), None)
