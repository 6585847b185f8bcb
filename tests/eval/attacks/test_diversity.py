"""Varied images: as torch resizes and pads them, in a batch as alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attacking import pictures
from torch.nn import functional

from eval.attacks.diversity import Diversity, Draw, diversify, draw


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_a_batch_is_varied_as_torch_varies_one_image(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = torch.rand(12, 3, *size, generator=torch.Generator().manual_seed(0))
    draws = [draw(Diversity(probability=0.8), size, rng) for _ in range(12)]
    assert None in draws
    found = diversify(images, draws)
    assert found.shape == images.shape
    for image, item, got in zip(images, draws, found, strict=True):
        if item is None:
            assert torch.equal(got, image)
            continue
        small = functional.interpolate(image[None], (item.height, item.width), mode="bilinear")[0]
        right = size[1] - item.width - item.left
        padding = (item.left, right, item.top, size[0] - item.height - item.top)
        torch.testing.assert_close(got, functional.pad(small, padding), atol=1e-5, rtol=0)


def test_gradients_flow_back_to_the_pixels() -> None:
    images = pictures(2).requires_grad_()
    diversify(images, [Draw(29, 29, 2, 1), None]).sum().backward()
    assert images.grad is not None
    assert (images.grad[1] == 1).all()
    assert images.grad[0].sum() == pytest.approx(3 * 29 * 29, rel=1e-4)


def test_draws_have_the_ranges_and_the_share_that_were_published() -> None:
    rng = np.random.default_rng(1)
    draws = [draw(Diversity(), (224, 224), rng) for _ in range(4000)]
    made = [item for item in draws if item is not None]
    assert abs(len(made) / 4000 - 0.5) < 0.03
    sides = {item.height for item in made}
    assert min(sides) == 201
    assert max(sides) == 223
    assert len(sides) == 23
    assert all(item.height == item.width for item in made)
    assert all(0 <= item.top < 224 - item.height for item in made)
    assert all(0 <= item.left < 224 - item.width for item in made)
    assert np.corrcoef([i.top for i in made], [i.left for i in made])[0, 1] < 0.95


def test_a_certain_draw_varies_and_an_impossible_one_never_does() -> None:
    rng = np.random.default_rng(2)
    assert all(draw(Diversity(probability=1), (32, 32), rng) for _ in range(50))
    assert not any(draw(Diversity(probability=0), (32, 32), rng) for _ in range(50))
