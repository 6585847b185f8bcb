"""Corruptions: their seeds, their recipes, and the library behind them."""

from __future__ import annotations

import imagecorruptions
import numpy as np
import pytest
from pictures import picture
from PIL import Image

from curate.errors import CurateError
from eval.shifts import chance
from eval.shifts.corruptions import (
    CORRUPTIONS,
    RECIPES,
    Corruption,
    Recipe,
    as_jpeg,
    crop,
    recipe_for,
)

SIDES: dict[Recipe, tuple[int, int]] = {"imagenet-c": (300, 224), "cifar-10-c": (32, 32)}
DRAWN = {
    "gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost",
    "fog", "elastic_transform", "speckle_noise", "spatter",
}  # fmt: skip


# numba compiles what it takes, which is longer than all the rest
LARGE = [
    pytest.param(name, marks=pytest.mark.slow) if name == "glass_blur" else name
    for name in CORRUPTIONS
]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", LARGE)
def test_what_is_drawn_depends_on_seed_and_id_only(name: str, recipe: Recipe) -> None:
    size, side = SIDES[recipe]
    images = [picture(seed, size) for seed in range(2)]
    corruption = Corruption(name, 3, recipe)
    first = [corruption.apply(image, id_) for image, id_ in zip(images, "ab", strict=True)]
    again = [corruption.apply(image, id_) for image, id_ in zip(images[::-1], "ba", strict=True)]
    assert all(map(np.array_equal, first, again[::-1]))
    assert first[0].shape == (side, side, 3)
    assert first[0].dtype == np.uint8
    others = ((corruption, "b"), (Corruption(name, 3, recipe, seed=1), "a"))
    is_same = [np.array_equal(first[0], other.apply(images[0], id_)) for other, id_ in others]
    assert not any(is_same) if name in DRAWN else all(is_same)


@pytest.mark.parametrize("name", LARGE)
def test_large_images_are_what_the_library_makes_of_their_crop(name: str) -> None:
    image = picture(1, 256)
    rng = chance.generator(7, "a", name, 2)
    seeds = {"seed": chance.number(rng)} if name in {"impulse_noise", "glass_blur"} else {}
    np.random.seed(chance.number(rng))  # noqa: NPY002
    expected = imagecorruptions.corrupt(np.asarray(crop(image)), 2, name, **seeds)
    assert np.array_equal(Corruption(name, 2, "imagenet-c", seed=7).apply(image, "a"), expected)


@pytest.mark.parametrize(
    ("size", "expected"), [((256, 300), 300), ((500, 400), 320), ((8, 8), 256)]
)
def test_the_crop_is_the_middle_of_a_short_side_of_256(
    size: tuple[int, int], expected: int
) -> None:
    image = picture(1, 64).resize(size)
    width, height = size
    resized = image.resize(
        (256, expected) if width <= height else (expected, 256), Image.Resampling.BILINEAR
    )
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    cut = resized.crop((left, top, left + 224, top + 224))
    assert np.abs(np.asarray(cut, float) - np.asarray(crop(image), float)).max() <= 1


def test_a_jpeg_of_quality_85_may_follow() -> None:
    plain = Corruption("fog", 3, "imagenet-c").apply(picture(1, 256), "a")
    stored = Corruption("fog", 3, "imagenet-c", jpeg=True)
    assert np.array_equal(stored.apply(picture(1, 256), "a"), as_jpeg(plain))
    assert stored.facts() != Corruption("fog", 3, "imagenet-c").facts()
    assert 0 < np.abs(plain.astype(int) - as_jpeg(plain)).mean() < 5


def test_facts_tell_corruptions_apart_and_name_the_libraries() -> None:
    made = [
        Corruption("fog", 3, "imagenet-c"), Corruption("fog", 4, "imagenet-c"),
        Corruption("fog", 3, "cifar-10-c"), Corruption("fog", 3, "imagenet-c", seed=1),
    ]  # fmt: skip
    facts = [corruption.facts() for corruption in made]
    assert all(one != other for place, one in enumerate(facts) for other in facts[:place])
    assert {"imagecorruptions-imaug", "numba", "opencv", "scipy"} <= {
        name.removesuffix("-python") for name in facts[0]["versions"]
    }


def test_only_the_crops_of_imagenet_are_never_cut_again() -> None:
    assert Corruption("fog", 3, "imagenet-c").cropped
    assert not Corruption("fog", 3, "cifar-10-c").cropped


def test_the_size_of_an_image_decides_on_the_recipe() -> None:
    assert recipe_for(picture(1, 32)) == "cifar-10-c"
    assert recipe_for(picture(1, 96)) == "imagenet-c"


@pytest.mark.parametrize(
    ("name", "severity", "recipe", "message"),
    [
        ("fogg", 1, "imagenet-c", "did you mean 'fog'"),
        ("fog", 6, "imagenet-c", "severity 6"),
        ("fog", 1, "imagenet", "recipe 'imagenet'"),
    ],
)
def test_what_is_not_known_is_an_error(
    name: str, severity: int, recipe: Recipe, message: str
) -> None:
    with pytest.raises(CurateError, match=message):
        Corruption(name, severity, recipe)
