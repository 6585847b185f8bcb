"""What an evaluation knows of a test set."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from evalset_trees import PNG, write_clip_benchmark_set, write_files
from pictures import encoded, picture
from PIL import Image

from curate.errors import CurateError
from eval.datasets.evalset import ITEMS, Found, FromArrays, FromFiles, assembled
from eval.datasets.registry import open_evalset

if TYPE_CHECKING:
    from pathlib import Path


def found(**changes: object) -> Found:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    base = Found(("a", "b"), (0, 1), ("x", "y"), FromArrays(pixels, {"a": 0, "b": 1}), "c")
    return replace(base, **changes)  # type: ignore[arg-type]


def test_items_have_the_schema() -> None:
    made = assembled("set", "here", found(also=((1,), ()), clusters=("v", "v")), ["a {}"])
    assert made.items.schema == ITEMS
    assert made.items["also"].to_list() == [[1], None]
    assert made.items["group"].to_list() == ["v", "v"]
    assert made.items["word"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": (), "labels": ()}, "nothing to evaluate"),
        ({"ids": ("a", "a")}, "'a' occurs twice"),
        ({"labels": (0, 2)}, "b has label 2, but there are 2 classes"),
        ({"labels": (-1, 0)}, "a has label -1"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CurateError, match=message):
        assembled("set", "here", found(**changes), ["a {}"])


@pytest.mark.parametrize(
    "changes",
    [{"content": "d"}, {"labels": (1, 1)}, {"border": 2}, {"cropped": True}, {"clusters": "vw"}],
)
def test_the_digest_of_images_tells_sets_apart(changes: dict[str, object]) -> None:
    one, other = (assembled("s", "h", found(**c), ["a {}"]) for c in ({}, changes))
    assert one.images_digest != other.images_digest
    assert one.digest != other.digest


def test_other_texts_leave_the_digest_of_images() -> None:
    one, other = (assembled("s", "h", found(), [text]) for text in ("a {}", "the {}"))
    assert one.images_digest == other.images_digest
    assert one.digest != other.digest


def test_a_set_survives_the_way_to_another_process(tmp_path: Path) -> None:
    whole = open_evalset("x", write_clip_benchmark_set(tmp_path, ("a", "b"), (0, 1)))
    first = whole.items["id"][0]
    data = whole.read(first)
    assert pickle.loads(pickle.dumps(whole)).read(first) == data


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (3, 3), 7), (7, 7, 7)),
        (Image.new("I;16", (3, 3), 7 * 256), (7, 7, 7)),
        (Image.new("RGBA", (3, 3), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("P", (3, 3), 0), (0, 0, 0)),
    ],
)
def test_images_of_any_mode_are_rgb(
    tmp_path: Path, image: Image.Image, expected: tuple[int, int, int]
) -> None:
    root = write_files(tmp_path, ("a/1.png",), encoded(image))
    assert open_evalset("modes", root).image("a:1.png").getpixel((1, 1)) == expected


def test_a_cmyk_jpeg_is_rgb(tmp_path: Path) -> None:
    image = encoded(picture(1).convert("CMYK"), "JPEG", quality=95)
    root = write_files(tmp_path, ("a/1.jpg",), image)
    made = np.asarray(open_evalset("modes", root).image("a:1.jpg"), float)
    assert made.shape == (48, 48, 3)
    assert np.abs(made - np.asarray(picture(1), float)).mean() < 4


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (200, 10)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    root = write_files(tmp_path, ("a/1.gif",), gif)
    assert open_evalset("modes", root).image("a:1.gif").getpixel((0, 0)) == (200, 0, 0)


@pytest.mark.parametrize("data", [PNG[:60], b"", b"no picture"])
def test_a_broken_image_is_an_error_that_names_it(tmp_path: Path, data: bytes) -> None:
    root = write_files(write_files(tmp_path, ("a/1.png",)), ("a/2.png",), data)
    whole = open_evalset("modes", root)
    with pytest.raises(CurateError, match=r"modes: a:2\.png is no image"):
        whole.image("a:2.png")


def test_an_image_that_is_gone_is_an_error(tmp_path: Path) -> None:
    whole = open_evalset("gone", write_files(tmp_path, ("a/1.png",)))
    (tmp_path / "a/1.png").unlink()
    with pytest.raises(CurateError, match=r"a:1\.png"):
        whole.read("a:1.png")


def test_a_border_that_leaves_nothing_is_an_error() -> None:
    made = assembled("set", "here", found(border=2), ["a {}"])
    with pytest.raises(CurateError, match="a is 4 x 4, no more than its border"):
        made.image("a")


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"x\.mp4"):
        FromFiles(str(tmp_path), {"a": "x.mp4"}).read("a")
