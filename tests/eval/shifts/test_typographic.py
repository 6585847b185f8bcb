"""Words of wrong classes on images."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture
from PIL import Image

from curate.errors import CurateError
from eval.datasets import texts
from eval.shifts import chance
from eval.shifts.typographic import (
    Typographic,
    _boxes,
    is_single,
    read_label_map,
    typographic_for,
)

NAMES = ("cat", "dog", "great white shark", "ship")
SMALL = picture(1, 32)
LARGE = picture(1, 400)


def test_roz_has_309_words_to_write() -> None:
    assert sum(map(is_single, texts.wordnet())) == 309


@pytest.mark.parametrize("image", [SMALL, LARGE])
def test_a_word_is_never_the_right_one_nor_two(image: Image.Image) -> None:
    shift = typographic_for(image, NAMES)
    for number in range(30):
        made = shift.made(image, f"s:{number}", number % 4)
        assert made is not None
        assert made[1] != number % 4
        assert is_single(NAMES[made[1]])


@pytest.mark.parametrize("image", [SMALL, LARGE])
def test_what_is_drawn_depends_on_seed_and_id(image: Image.Image) -> None:
    shift = typographic_for(image, NAMES)
    first, again = (shift.made(image, "s:1", 0) for _ in range(2))
    assert first is not None
    assert again is not None
    assert np.array_equal(first[0], again[0])
    others = [shift.made(image, "s:2", 0), typographic_for(image, NAMES, 1).made(image, "s:1", 0)]
    assert not any(other and np.array_equal(first[0], other[0]) for other in others)


def test_small_images_are_enlarged_and_others_stay() -> None:
    small, large = (typographic_for(image, NAMES) for image in (SMALL, LARGE))
    assert small.cropped
    assert not large.cropped
    made = small.made(SMALL, "a", 0)
    assert made is not None
    assert made[0].shape == (224, 224, 3)
    made = large.made(LARGE, "a", 0)
    assert made is not None
    assert made[0].shape == (400, 400, 3)


@pytest.mark.parametrize(("image", "places"), [(SMALL, 4), (LARGE, 8)])
def test_the_word_stands_there_as_often_as_published(image: Image.Image, places: int) -> None:
    black = Image.new("RGB", image.size)
    made = typographic_for(black, ("cat", "I")).made(black, "a", 0)
    assert made is not None
    from scipy.ndimage import label

    assert label(made[0].max(axis=2) > 100)[1] == places  # "I" is one stroke
    assert made[0].max() == 255


@given(st.tuples(st.integers(1, 60), st.integers(1, 20)), st.integers(0, 99), st.integers(1, 8))
def test_places_lie_inside_and_apart(size: tuple[int, int], seed: int, count: int) -> None:
    boxes = _boxes(chance.generator(seed, "x"), size, (224, 224), count)
    assert boxes is not None
    canvas = np.zeros((224, 224), int)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 224
        assert 0 <= top < bottom <= 224
        canvas[top:bottom, left:right] += 1
    assert canvas.max() == 1
    assert canvas.sum() == count * size[0] * size[1]


def test_an_image_on_which_nothing_fits_is_left_out() -> None:
    tiny = picture(1, 40)
    assert typographic_for(LARGE, ("airplane", "automobile")).made(tiny, "a", 0) is None


def test_a_label_that_fits_is_taken_instead_of_one_that_does_not() -> None:
    image = picture(1, 160)
    shift = Typographic(("x", "pneumonoultramicroscopic", "ox"), "imagenet-t")
    made = [shift.made(image, f"s:{n}", 0) for n in range(10)]
    assert {one and one[1] for one in made} == {2}


def test_imagenets_words_are_wordnets() -> None:
    names = texts.imagenet_names("openai")
    assert typographic_for(LARGE, names).words == texts.wordnet()
    assert typographic_for(LARGE, names[6:9]).words == texts.wordnet()[6:9]


def test_a_set_without_two_words_is_refused() -> None:
    with pytest.raises(CurateError, match="fewer than two labels"):
        typographic_for(LARGE, ("cat", "great white shark"))


def test_facts_tell_words_seeds_and_maps_apart() -> None:
    made = [Typographic(NAMES, "imagenet-t"), Typographic(NAMES[:2], "imagenet-t"),
            Typographic(NAMES, "cifar-10-t"), Typographic(NAMES, "imagenet-t", 1),
            Typographic(NAMES, "imagenet-t", chosen={"a": (None, 1)})]  # fmt: skip
    facts = [shift.facts() for shift in made]
    assert all(one != other for place, one in enumerate(facts) for other in facts[:place])


# --- label maps -----------------------------------------------------------------------------------


def test_rozs_dictionary_names_files(tmp_path: Path) -> None:
    path = tmp_path / "imgNet_record.pickle"
    path.write_bytes(pickle.dumps({"ILSVRC2012_val_00000001.JPEG": 3}))
    shift = typographic_for(LARGE, NAMES, chosen=read_label_map(path))
    made = shift.made(LARGE, "n01440764:ILSVRC2012_val_00000001.JPEG", 0)
    assert made is not None
    assert made[1] == 3


def test_rozs_list_has_true_labels_too(tmp_path: Path) -> None:
    path = tmp_path / "cifar10_record.pickle"
    path.write_bytes(pickle.dumps([(0, 1), (3, 0)]))
    shift = typographic_for(SMALL, NAMES, chosen=read_label_map(path))
    made = shift.made(SMALL, "shard-00000:00000001", 3)
    assert made is not None
    assert made[1] == 0
    with pytest.raises(CurateError, match="its label is 2, but 0 in the label map"):
        shift.made(SMALL, "shard-00000:00000000", 2)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_are_label_maps(tmp_path: Path, suffix: str) -> None:
    table = pl.DataFrame({"id": ["a:1", "b"], "word": [2, 0]})
    path = tmp_path / f"map{suffix}"
    table.write_csv(path) if suffix == ".csv" else table.write_parquet(path)
    assert read_label_map(path) == {"a:1": (None, 2), "b": (None, 0)}


def test_an_image_that_the_map_lacks_is_an_error() -> None:
    shift = typographic_for(SMALL, NAMES, chosen={"x": (None, 1)})
    with pytest.raises(CurateError, match="a:1: the label map says nothing"):
        shift.made(SMALL, "a:1", 0)


@pytest.mark.parametrize("number", [-1, 4])
def test_a_number_that_is_no_label_is_an_error(number: int) -> None:
    shift = typographic_for(LARGE, NAMES, chosen={"x": (None, number)})
    with pytest.raises(CurateError, match=f"a:x: the label map has {number} .* labels are 0 to 3"):
        shift.made(LARGE, "a:x", 0)


def test_a_pickle_that_names_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pickle"
    path.write_bytes(pickle.dumps(Path))
    with pytest.raises(CurateError, match="only plain data is read"):
        read_label_map(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x80", pickle.dumps(7), pickle.dumps([1]), pickle.dumps({"a": "b"})]
)
def test_what_is_no_label_map_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "map.pickle"
    path.write_bytes(content)
    with pytest.raises(CurateError, match=r"map\.pickle"):
        read_label_map(path)


@pytest.mark.parametrize("text", ["", "id\na\n", "id,word\na,b\n", "word,id\n1\n"])
def test_a_table_without_words_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map.csv"
    path.write_text(text)
    with pytest.raises(CurateError, match=r"map\.csv"):
        read_label_map(path)


def test_a_field_without_end_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text(f"id,word\n{'a' * 200_000},1\n")
    with pytest.raises(CurateError, match=r"map\.csv: not readable as a label map"):
        read_label_map(path)


def test_a_short_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text("id,word\na,1\nb\n")
    with pytest.raises(CurateError, match="row 2 lacks its id or its word"):
        read_label_map(path)
