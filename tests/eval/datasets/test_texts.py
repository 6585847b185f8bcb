"""Class names and templates."""

from __future__ import annotations

from collections import Counter
from importlib import resources

import pytest

from curate.errors import CurateError
from eval.datasets import texts
from eval.datasets.registry import ENTRIES


def repeated(names: tuple[str, ...]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def test_wnids_follow_the_numbers_of_imagenet() -> None:
    wnids = texts.imagenet_wnids()
    assert len(wnids) == len(set(wnids)) == 1000
    assert wnids == tuple(sorted(wnids))
    assert (wnids[0], wnids[6], wnids[999]) == ("n01440764", "n01498041", "n15075141")


def test_imagenets_names_are_those_of_the_published_prompts() -> None:
    names = texts.imagenet_names("openai")
    assert (names[0], names[6], names[988]) == ("tench", "stingray", "acorn")
    assert repeated(names) == ["missile", "sunglasses"]


def test_tecoas_names_of_imagenet_have_its_repetitions() -> None:
    names = texts.imagenet_names("tecoa")
    assert repeated(names) == ["cardigan", "crane", "maillot"]
    assert names[2] == "great white shark"


def test_imagenet_has_eighty_templates() -> None:
    found = texts.templates("imagenet", "openai")
    assert len(found) == 80
    assert found[0] == "a bad photo of a {}."
    assert texts.templates("imagenet-a", "openai") == found
    assert texts.templates("imagenet", "tecoa") == ("This is a photo of a {}",)


@pytest.mark.parametrize("profile", texts.PROFILES)
@pytest.mark.parametrize("key", sorted({entry.prompts for entry in ENTRIES.values()}))
def test_every_template_has_one_place_for_the_name(key: str, profile: texts.Profile) -> None:
    found = texts.templates(key, profile)
    assert found
    assert all(text.count("{}") == 1 for text in found)


@pytest.mark.parametrize(
    ("key", "count", "first", "last"),
    [
        ("cifar10", 10, "airplane", "truck"),
        ("cifar100", 100, "apple", "worm"),
        ("stl10", 10, "airplane", "truck"),
        ("flowers", 102, "pink primrose", "blackberry lily"),
        ("pets", 37, "Abyssinian", "Yorkshire Terrier"),
        ("country211", 211, "Andorra", "Zimbabwe"),
        ("caltech101", 101, "off-center face", "yin and yang symbol"),
        ("imagenet-a", 200, "stingray", "acorn"),
        ("imagenet-r", 200, "goldfish", "acorn"),
    ],
)
def test_known_names_are_in_the_order_of_labels(
    key: str, count: int, first: str, last: str
) -> None:
    names = texts.known_names(key)
    assert (len(names), names[0], names[-1]) == (count, first, last)


def test_names_of_folders_become_words() -> None:
    folders = ("apartment_building/outdoor", "abbey")
    assert texts.class_names("sun397", folders, "openai") == ("apartment building outdoor", "abbey")
    assert texts.class_names("sun397", ("T-Shirt_Shop/x",), "tecoa") == ("t shirt shop x",)


def test_tecoa_names_cars_without_their_year() -> None:
    assert texts.class_names("cars", ("AM General Hummer SUV 2000",), "tecoa") == (
        "am general hummer suv",
    )


def test_tecoa_has_its_own_names_for_satellite_pictures_and_tissue() -> None:
    assert texts.class_names("eurosat", tuple("abcdefghij"), "tecoa")[1] == "a forest"
    assert texts.class_names("pcam", ("0", "1"), "tecoa")[1].startswith("This is a photo of lymph")
    assert texts.templates("pcam", "tecoa") == ("{}",)


def test_tecoa_calls_both_kinds_of_faces_person() -> None:
    assert texts.class_names("caltech101", ("Faces", "Faces_easy", "Motorbikes"), "tecoa") == (
        "person", "person", "motorbikes",
    )  # fmt: skip


def test_countries_keep_their_capitals() -> None:
    codes = tuple(f"{number:03d}" for number in range(211))
    assert texts.class_names("country211", codes, "tecoa")[0] == "Andorra"


def test_wnids_become_names_of_either_profile() -> None:
    assert texts.class_names("imagenet", ("n02012849",), "openai") == ("crane bird",)
    assert texts.class_names("imagenet", ("n02012849",), "tecoa") == ("crane",)


def test_an_unknown_profile_is_an_error() -> None:
    with pytest.raises(CurateError, match="did you mean 'tecoa'"):
        texts.check_profile("tekoa")


def test_lists_state_their_source_and_licence_and_are_small() -> None:
    files = list(resources.files("eval.datasets").joinpath("data").iterdir())
    assert len(files) == 5
    for file in files:
        known = texts.data(file.name.removesuffix(".json"))
        assert known["source"]
        assert known["licence"]
    assert sum(len(file.read_bytes()) for file in files) < 100_000
