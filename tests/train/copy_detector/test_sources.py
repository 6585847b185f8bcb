"""Pictures to learn from: shapes, order, what cannot be read, and one of a group in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pictures import encoded, picture, sample, write_set, write_shard
from PIL import Image

from train.copy_detector.sources import (
    CROPS,
    SIDE,
    TAKES,
    Source,
    blobs,
    drawings,
    photographs,
    read_images,
    small,
    takes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures 1 to 4 in two shards, and a file that is none."""
    root = tmp_path_factory.mktemp("pictures")
    write_set(root, [[1, 2]])
    write_shard(root / "00001.tar", [
        sample("broken", b"no picture"),
        *(sample(f"k{n}", encoded(picture(n, 300).crop((0, 0, 300, 200)))) for n in (3, 4)),
    ])  # fmt: skip
    return str(root)


def test_images_come_in_order_without_those_that_are_broken(folder: str) -> None:
    found = list(read_images([folder]))
    assert [image.size for image in found] == [(48, 48), (48, 48), (300, 200), (300, 200)]
    assert found[1].tobytes() == picture(2).tobytes()


def test_small_pictures_are_one_of_a_group(folder: str) -> None:
    found = small([folder], 48)
    assert found.shape == (4, 1, 48, 48, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found[0, 0], np.asarray(picture(1)))


def test_a_photograph_is_there_whole_and_in_crops(folder: str) -> None:
    found = photographs([folder], np.random.default_rng(0))
    assert found.shape == (4, CROPS, SIDE, SIDE, 3)
    assert found.dtype == np.uint8
    whole = picture(2).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    assert np.array_equal(found[1, 0], np.asarray(whole))
    assert len(np.unique(found[2].reshape(CROPS, -1), axis=0)) == CROPS
    assert np.array_equal(photographs([folder], np.random.default_rng(0)), found)
    assert not np.array_equal(photographs([folder], np.random.default_rng(1)), found)


def test_drawings_are_of_three_kinds_and_their_seed_decides() -> None:
    found = drawings(3, 7)
    assert found.shape == (9, 1, SIDE, SIDE, 3)
    assert found.dtype == np.uint8
    assert len(np.unique(found.reshape(9, -1), axis=0)) == 9
    assert np.array_equal(drawings(3, 7), found)
    assert not np.array_equal(drawings(3, 8), found)


@pytest.mark.parametrize("draw", [takes, blobs])
def test_takes_of_a_plan_are_alike_and_no_copies(draw: Callable[..., NDArray[np.uint8]]) -> None:
    count = 10 * TAKES * 2
    found = draw(count, 7)
    assert found.shape == (count, SIDE, SIDE, 3)
    assert found.dtype == np.uint8
    assert len(np.unique(found.reshape(count, -1), axis=0)) == count
    assert np.array_equal(draw(4, 7), found[:4])
    assert not np.array_equal(draw(4, 8), found[:4])
    step = 10 if draw is takes else 1
    colours = found.reshape(count, -1, 3).mean(axis=1)
    one = np.arange(10 if draw is takes else count)[:: 1 if draw is takes else TAKES]
    within = np.linalg.norm(colours[one] - colours[one + step], axis=1)
    across = np.linalg.norm(colours[one] - np.roll(colours[one], 1, axis=0), axis=1)
    assert np.median(within) < np.median(across)


def numbered(groups: int, members: int) -> Source:
    """Picture m of group g is (g, m, 0) all over."""
    pictures = np.zeros((groups, members, 4, 5, 3), np.uint8)
    pictures[..., 0] = np.arange(groups)[:, None, None, None]
    pictures[..., 1] = np.arange(members)[None, :, None, None]
    return Source(pictures, 1.0)


def test_a_batch_takes_one_picture_of_a_group() -> None:
    source = numbered(40, 6)
    found = source.draw(40, np.random.default_rng(0))
    assert found.shape == (40, 3, 4, 5)
    assert found.dtype == torch.float32
    values = (found[:, :, 0, 0] * 255).round().int()
    assert sorted(values[:, 0].tolist()) == list(range(40))
    assert set(values[:, 1].tolist()) == set(range(6))
    assert found.max() <= 1


def test_the_generator_decides_on_a_batch() -> None:
    source = numbered(40, 6)
    first, again, other = (source.draw(9, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_pictures_than_groups_are_not_drawn() -> None:
    with pytest.raises(ValueError, match="larger sample"):
        numbered(3, 9).draw(4, np.random.default_rng(0))
