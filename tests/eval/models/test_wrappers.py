"""Wrapped classifiers: resized inside the gradient, labels of several classes, steady answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.models.classifier import ZeroShot, class_texts, load_clip_model
from eval.models.wrappers import STEADY, Grouped, Resized, Steady


class Sizes(nn.Module):
    """Says which size it was given; its logits are means of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return images.mean(dim=(2, 3))


def some(count: int, size: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_images_of_another_size_are_resized_and_stay_pixels() -> None:
    inner = Sizes()
    steep = (some(3, 20) > 0.5).float()  # bicubic overshoots at steep edges
    Resized(inner, 32)(steep)
    assert inner.seen == [(3, 3, 32, 32)]
    resized = functional.interpolate(steep, (32, 32), mode="bicubic", antialias=True)
    assert resized.min() < 0
    assert resized.max() > 1
    answer = Resized(inner, 32)(steep)
    assert torch.equal(answer, resized.clamp(0, 1).mean(dim=(2, 3)))


def test_images_of_the_models_size_pass_untouched() -> None:
    images = some(2, 32)
    assert torch.equal(Resized(Sizes(), 32)(images), images.mean(dim=(2, 3)))


def test_the_gradient_goes_through_the_resize_to_the_stored_pixels() -> None:
    images = some(2, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(Resized(Sizes(), 32)(images).sum(), images)
    assert gradient.shape == images.shape
    assert (gradient != 0).all()


def test_a_label_of_several_classes_has_the_logit_of_the_best() -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[1.0, 5.0, 2.0, -1.0], [0.0, -3.0, 4.0, 9.0]])[: len(images)]

    answer = Grouped(Fixed(), [(0, 2), (1,), (3, 0, 2)])(some(2))
    assert answer.tolist() == [[2.0, 5.0, 2.0], [4.0, -3.0, 9.0]]


def _gradient(classifier: nn.Module, images: Tensor) -> Tensor:
    here = images.clone().requires_grad_()
    labels = torch.zeros(len(images), dtype=torch.long)
    loss = functional.cross_entropy(classifier(here), labels, reduction="sum")
    return torch.autograd.grad(loss, here)[0]


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    clip = load_clip_model("builtin:tiny-clip", device="cpu")
    return Steady(clip.classifier(class_texts(clip, ["cat", "dog", "ship"], ["a photo of a {}"])))


@pytest.mark.parametrize("batch", [1, 2, 7, 15, 16, 33, 64])
@pytest.mark.parametrize("which", ["tiny", "vit"])
def test_answers_and_gradients_are_the_same_bits_in_any_batch(
    which: str, batch: int, tiny: nn.Module, classifier: ZeroShot
) -> None:
    asked = tiny if which == "tiny" else Steady(classifier)
    images = some(64)
    with torch.no_grad():
        whole = asked(images)
        parts = torch.cat([asked(part) for part in images.split(batch)])
    assert torch.equal(whole, parts)
    gradients = [_gradient(asked, part) for part in images.split(batch)]
    assert torch.equal(_gradient(asked, images), torch.cat(gradients))


def test_order_does_not_matter(tiny: nn.Module) -> None:
    images = some(48)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(tiny(images)[order], tiny(images[order]))


def test_no_image_gives_no_logit() -> None:
    assert Steady(Sizes())(some(0)).shape == (0, 3)


@pytest.mark.parametrize("count", [1, STEADY - 1, STEADY, STEADY + 1])
def test_a_batch_is_filled_only_where_it_is_small(count: int) -> None:
    inner = Sizes()
    assert Steady(inner)(some(count)).shape == (count, 3)
    assert inner.seen[0][0] == max(count, STEADY)
