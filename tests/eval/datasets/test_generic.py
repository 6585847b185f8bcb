"""Layouts that say themselves what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from evalset_trees import PNG, by_id, write_clip_benchmark_set, write_files, write_texts
from pictures import encoded, picture, sample, write_shard
from splitting import split_of

from curate.discover import open_dataset
from curate.errors import CurateError
from eval.datasets.generic import label_numbers
from eval.datasets.registry import open_evalset

if TYPE_CHECKING:
    from pathlib import Path


def test_numbers_in_cls_files_are_places_among_the_class_names(tmp_path: Path) -> None:
    root = write_clip_benchmark_set(tmp_path, ("ant", "bee", "cow"), (2, 0, 1, 2))
    found = open_evalset("farm", root)
    assert found.classes == found.labels == ("ant", "bee", "cow")
    assert found.items["label"].to_list() == [2, 0, 1, 2]
    assert found.items["id"].to_list()[-1] == "test/1:s0003"
    assert found.read("test/1:s0003") == encoded(picture(3))


def test_templates_beside_the_shards_are_used(tmp_path: Path) -> None:
    root = write_clip_benchmark_set(tmp_path, ("ant", "bee"), (0, 1))
    assert open_evalset("farm", root).templates == ("a {}.", "the {}!")
    assert open_evalset("farm", root, profile="tecoa").templates == ("This is a photo of a {}",)


def test_two_classes_of_one_name_stay_apart(tmp_path: Path) -> None:
    root = write_clip_benchmark_set(tmp_path, ("missile", "ant", "missile"), (0, 2, 1, 2))
    assert open_evalset("things", root).items["label"].to_list() == [0, 2, 1, 2]


def test_class_names_that_are_numbers_do_not_turn_labels_round(tmp_path: Path) -> None:
    root = write_clip_benchmark_set(tmp_path, ("2", "0", "1"), (0, 1, 2))
    assert open_evalset("digits", root).items["label"].to_list() == [0, 1, 2]


def test_a_label_without_a_class_is_an_error(tmp_path: Path) -> None:
    root = write_clip_benchmark_set(tmp_path, ("ant", "bee"), (0, 1, 2))
    with pytest.raises(CurateError, match=r"s0002.*'2'.*none of the 2"):
        open_evalset("farm", root)


def test_class_names_of_another_set_are_an_error(tmp_path: Path) -> None:
    root = write_clip_benchmark_set(tmp_path, ("ant", "bee"), (0, 1))
    with pytest.raises(CurateError, match="2 classes, but cifar10 has 10"):
        open_evalset("cifar10", root)


def test_labels_of_plain_shards_may_be_names(tmp_path: Path) -> None:
    rows = [(f"k{n}", {"png": PNG, "json": f'{{"classname": "{name}"}}'.encode()})
            for n, name in enumerate(("frog", "ship"))]  # fmt: skip
    write_shard(tmp_path / "a.tar", rows)
    assert by_id(open_evalset("cifar10", tmp_path).items) == {"a:k0": 6, "a:k1": 8}
    assert by_id(open_evalset("boats", tmp_path).items) == {"a:k0": 0, "a:k1": 1}


def test_numbers_without_names_are_an_error(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [sample("k", PNG, 1)])
    with pytest.raises(CurateError, match=r"labels are numbers.*classnames\.txt"):
        open_evalset("unheard", tmp_path)


def test_an_image_without_a_label_is_an_error(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("k0", {"png": PNG, "cls": b"0"}), ("k1", {"png": PNG})])
    with pytest.raises(CurateError, match="a:k1 has no label"):
        open_evalset("cifar10", tmp_path)


def test_a_cut_shard_is_an_error(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [sample("k", encoded(picture(1)), 1)])
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(CurateError, match=r"a\.tar.*Fetch it again"):
        open_evalset("cifar10", tmp_path)


def test_a_name_of_two_classes_says_nothing() -> None:
    with pytest.raises(CurateError, match="'crane' names two classes"):
        label_numbers("here", ["a"], ["crane"], ("crane", "crane"))


def test_folders_are_classes(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("dog/1.png", "cat/1.png", "cat/2.png"))
    found = open_evalset("pairs", root)
    assert found.classes == ("cat", "dog")
    assert by_id(found.items) == {"cat:1.png": 0, "cat:2.png": 0, "dog:1.png": 1}


def test_folders_of_a_known_set_are_its_classes_not_their_order(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("truck/1.png", "deer/1.png"))
    found = open_evalset("cifar10", root)
    assert len(found.classes) == 10
    assert by_id(found.items) == {"deer:1.png": 4, "truck:1.png": 9}


@pytest.mark.parametrize("layout", ["clip_benchmark", "folder"])
def test_a_split_folder_is_its_clean_images(tmp_path: Path, layout: str) -> None:
    if layout == "folder":
        root = write_files(tmp_path / "set", [f"{c}/{n}.png" for c in "ab" for n in range(3)])
    else:
        root = write_clip_benchmark_set(tmp_path / "set", ("a", "b"), (0, 0, 1, 1, 0, 1))
    whole = open_evalset("letters", root)
    clean = open_evalset("letters", split_of(open_dataset(str(root)), tmp_path / "split"))
    assert clean.classes == whole.classes
    assert by_id(clean.items).items() < by_id(whole.items).items()
    assert clean.items.height == whole.items.height - 2
    assert clean.read(clean.items["id"][-1]) == whole.read(clean.items["id"][-1])


def test_a_class_that_lost_its_last_image_is_still_a_class(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", ("a/1.png", "b/1.png", "c/1.png"))
    split = split_of(open_dataset(str(root)), tmp_path / "split", lambda _, one: one.label == "b")
    clean = open_evalset("letters", split)
    assert clean.classes == ("a", "b", "c")
    assert by_id(clean.items) == {"a:1.png": 0, "c:1.png": 2}


def test_a_split_without_clean_images_is_an_error(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", ("a/1.png", "b/1.png"))
    split = split_of(open_dataset(str(root)), tmp_path / "split", kinds=())
    with pytest.raises(CurateError, match="without its clean images"):
        open_evalset("letters", split)


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    root = write_clip_benchmark_set(tmp_path / "set", ("a", "b"), (0, 1))
    split = split_of(open_dataset(str(root)), tmp_path / "split", lambda *_: True)
    with pytest.raises(CurateError, match="nothing to evaluate"):
        open_evalset("letters", split)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="neither shards nor folders of images"):
        open_evalset("letters", write_texts(tmp_path, {"README.md": "nothing"}))
