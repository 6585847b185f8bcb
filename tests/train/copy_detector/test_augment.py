"""Edited copies: shapes, ranges, the same from one generator, nothing where none is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import picture
from PIL import Image

from curate.encoders.copy_net import SIDE
from train.copy_detector import augment
from train.copy_detector.augment import HEAVY, MILD, Draws, Strength, originals, views

NOTHING = Strength(crop=1, turn=0, frame=0, cover=0, paste=0, tone=0, blur=0.3, grey=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int, side: int = 48) -> torch.Tensor:
    arrays = np.stack([np.asarray(picture(n, side)) for n in range(count)])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255


@settings(max_examples=15)
@given(
    st.integers(1, 7),
    st.tuples(st.integers(16, 90), st.integers(16, 90)),
    st.sampled_from([MILD, HEAVY]),
    st.integers(0, 2**32),
)
def test_copies_are_pictures_of_the_networks_size(
    count: int, size: tuple[int, int], strength: Strength, seed: int
) -> None:
    images = torch.rand((count, 3, *size), generator=seeded(seed))
    before = images.clone()
    found = views(images, strength, seeded(seed))
    assert found.shape == (count, 3, SIDE, SIDE)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.equal(images, before)


@pytest.mark.parametrize("strength", [MILD, HEAVY])
def test_the_generator_decides_and_nothing_else(strength: Strength) -> None:
    images = batch(6)
    first = views(images, strength, seeded(3))
    torch.manual_seed(77)
    assert torch.equal(views(images, strength, seeded(3)), first)
    assert not torch.equal(views(images, strength, seeded(4)), first)
    generator = seeded(3)
    views(images, strength, generator)
    assert not torch.equal(views(images, strength, generator), first)


def test_the_callers_randomness_is_left_alone() -> None:
    before = torch.get_rng_state()
    views(batch(3), HEAVY, seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_pictures_of_a_batch_are_edited_differently() -> None:
    images = batch(1).expand(8, 3, 48, 48)
    found = views(images, HEAVY, seeded())
    distances = torch.cdist(found.flatten(1), found.flatten(1))
    assert distances[~torch.eye(8, dtype=torch.bool)].min() > 1


def test_heavier_edits_lead_further_away() -> None:
    images = batch(40)
    plain = originals(images)
    mild, heavy = ((views(images, s, seeded()) - plain).abs().mean() for s in (MILD, HEAVY))
    assert mild < 0.6 * heavy


@pytest.mark.parametrize("size", [32, 48, 64, 96, 256])
def test_the_unedited_picture_is_what_the_encoder_sees(size: int) -> None:
    images = [picture(n, size) for n in range(3)]
    found = originals(torch.stack([as_tensor(image) for image in images]))
    expected = torch.stack([
        as_tensor(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images
    ])  # fmt: skip
    assert (found - expected).abs().max() <= 1.01 / 255


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


# --- one edit at a time --------------------------------------------------------------------------


def test_without_an_edit_the_picture_stays_in_its_place() -> None:
    images = batch(4, SIDE)
    found = augment.place(images, NOTHING, Draws(4, seeded()))
    assert torch.allclose(found, images, atol=1e-5)
    assert torch.allclose(augment.retone(images, NOTHING, Draws(4, seeded())), images, atol=1e-3)
    assert torch.equal(augment.cover(images, NOTHING, Draws(4, seeded())), images)
    assert torch.equal(augment.paste(images, NOTHING, Draws(4, seeded())), images)


def test_a_picture_that_lost_its_colour_is_grey() -> None:
    grey = Strength(1, 0, 0, 0, 0, 0, 0.3, grey=1)
    found = augment.retone(batch(4), grey, Draws(4, seeded()))
    assert (found - found[:, :1]).abs().max() < 1e-4


def test_what_is_covered_is_some_of_the_picture_and_not_all() -> None:
    covered = Strength(1, 0, 0, cover=1, paste=0, tone=0, blur=0.3, grey=0)
    images = batch(30, SIDE)
    changed = (augment.cover(images, covered, Draws(30, seeded())) != images).any(dim=1)
    share = changed.float().mean(dim=(1, 2))
    assert (share > 0).all()
    assert 0.05 < share.median() < 0.6


def test_a_pasted_picture_has_its_neighbour_around_it() -> None:
    pasted = Strength(1, 0, 0, 0, paste=1, tone=0, blur=0.3, grey=0)
    flat = torch.tensor([0.2, 0.5, 0.9])[:, None, None, None].expand(3, 3, SIDE, SIDE)
    found = augment.paste(flat, pasted, Draws(3, seeded()))
    for n, plane in enumerate(found):
        values = set(plane.flatten().tolist())
        assert len({round(value, 4) for value in values}) == 2
        own = (plane - flat[n]).abs().amax(dim=0) < 1e-4
        assert 0.5**2 < own.float().mean() < 0.92**2


def test_blurs_and_sharpenings_leave_flat_pictures_flat() -> None:
    flat = torch.full((20, 3, SIDE, SIDE), 0.4)
    assert torch.allclose(augment.soften(flat, HEAVY, Draws(20, seeded())), flat, atol=1e-5)


def test_the_block_transform_is_orthonormal_and_its_first_row_the_mean() -> None:
    matrix = augment._dct()
    assert torch.allclose(matrix @ matrix.T, torch.eye(8), atol=1e-6)
    assert torch.allclose(matrix[0], torch.full((8,), 8**-0.5), atol=1e-6)


def test_coding_changes_little_and_puts_blocks_where_they_were() -> None:
    images = batch(60, SIDE)
    found = augment.degrade(images, Draws(60, seeded()))
    off = (found - images).abs().mean(dim=(1, 2, 3))
    assert off.max() < 0.06
    assert (off > 1e-3).float().mean() > 0.3
    assert (off < 1e-6).float().mean() > 0.3


def test_draws_are_in_range() -> None:
    draws = Draws(2000, seeded())
    uniform, scale = draws.uniform(-2, 3, 4), draws.log_uniform(2.0)
    assert uniform.shape == (2000, 4)
    assert -2 <= uniform.min() < -1.9
    assert 2.9 < uniform.max() <= 3
    assert 0.5 <= scale.min() < 0.51
    assert 1.95 < scale.max() <= 2
    assert float(scale.log().mean()) == pytest.approx(0, abs=0.05)
    assert float(draws.chance(0.3).float().mean()) == pytest.approx(0.3, abs=0.05)
