"""Data sets below a torchvision root, and those that torchvision does not know."""

from __future__ import annotations

import hashlib
import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torchvision
from evalset_trees import PNG, by_id, write_files, write_texts
from pictures import encoded, picture
from PIL import Image
from scipy.io import savemat

from curate.errors import CurateError
from eval.datasets.registry import open_evalset
from eval.datasets.torchvision_sets import _from_arrays

if TYPE_CHECKING:
    from pathlib import Path

JPEG = encoded(picture(3), "JPEG")


def test_cifar10_is_read_from_its_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    batches = {"test_batch": {"data": pixels, "labels": [3, 9]},
               "batches.meta": {"label_names": ["airplane"] * 10}}  # fmt: skip
    sums = {}
    for name, content in batches.items():
        data = pickle.dumps(content)
        write_files(tmp_path, [f"cifar-10-batches-py/{name}"], data)
        sums[name] = hashlib.md5(data).hexdigest()
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums["batches.meta"]})
    found = open_evalset("cifar10", tmp_path)
    assert by_id(found.items) == {"test:00000000": 3, "test:00000001": 9}
    assert found.classes[3] == "cat"
    shown = np.asarray(found.image("test:00000001"))
    assert np.array_equal(shown, pixels[1].reshape(3, 32, 32).transpose(1, 2, 0))


def test_stl10_has_its_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 96, 96), dtype=np.uint8)
    stored = {"test_X.bin": pixels.transpose(0, 1, 3, 2).tobytes(), "test_y.bin": bytes([1, 10])}
    sums = []
    for name, data in stored.items():
        write_files(tmp_path, [f"stl10_binary/{name}"], data)
        sums.append([name, hashlib.md5(data).hexdigest()])
    monkeypatch.setattr(torchvision.datasets.STL10, "train_list", [])
    monkeypatch.setattr(torchvision.datasets.STL10, "test_list", sums)
    write_texts(tmp_path, {"stl10_binary/class_names.txt": "\n".join("abcdefghij")})
    found = open_evalset("stl10", tmp_path)
    assert found.items["label"].to_list() == [0, 9]
    shown = np.asarray(found.image("test:00000000"))
    assert np.array_equal(shown, pixels[0].transpose(1, 2, 0))


def test_pictures_that_only_iterate_are_read_one_by_one() -> None:
    class Patches:
        """Keeps its pictures in a file that is opened for each, as PCAM does."""

        def __len__(self) -> int:
            return 2

        def __getitem__(self, place: int) -> tuple[Image.Image, int]:
            return Image.new("RGB", (4, 4), (place, 0, 0)), 1 - place

    found = _from_arrays(Patches())
    assert found.labels == [1, 0]
    assert found.names == ("0", "1")


def eurosat(root: Path) -> dict[str, int]:
    write_files(root, ("eurosat/2750/Forest/Forest_2.jpg", "eurosat/2750/River/River_1.jpg"), JPEG)
    for name in ["AnnualCrop", "HerbaceousVegetation", "Highway", "Industrial", "Pasture"]:
        write_files(root, (f"eurosat/2750/{name}/a.jpg",), JPEG)
    for name in ["PermanentCrop", "Residential", "SeaLake"]:
        write_files(root, (f"eurosat/2750/{name}/a.jpg",), JPEG)
    return {"Forest:Forest_2.jpg": 1, "River:River_1.jpg": 8}


def food101(root: Path) -> dict[str, int]:
    write_files(root, ("food-101/images/apple_pie/1.jpg", "food-101/images/waffles/2.jpg"), JPEG)
    write_files(root, ("food-101/images/waffles/3.jpg",), JPEG)  # of the training set
    listed = {"apple_pie": ["apple_pie/1"], "waffles": ["waffles/2"]}
    write_texts(root, {"food-101/meta/test.json": json.dumps(listed)})
    return {"apple_pie:1.jpg": 0, "waffles:2.jpg": 1}


def dtd(root: Path) -> dict[str, int]:
    write_files(root, ("dtd/dtd/images/banded/b_1.jpg", "dtd/dtd/images/woven/w_2.jpg"), JPEG)
    write_texts(root, {"dtd/dtd/labels/test1.txt": "banded/b_1.jpg\nwoven/w_2.jpg\n"})
    return {"banded:b_1.jpg": 0, "woven:w_2.jpg": 1}


def pets(root: Path) -> dict[str, int]:
    write_files(root, ("oxford-iiit-pet/images/Abyssinian_1.jpg",), JPEG)
    write_files(root, ("oxford-iiit-pet/images/pug_7.jpg",), JPEG)
    lines = "Abyssinian_1 1 1 1\npug_7 2 2 1\n"
    write_texts(root, {"oxford-iiit-pet/annotations/test.txt": lines})
    return {".:Abyssinian_1.jpg": 0, ".:pug_7.jpg": 1}


def caltech101(root: Path) -> dict[str, int]:
    base = "caltech101/101_ObjectCategories"
    names = ("BACKGROUND_Google", "Faces", "Faces_easy", "accordion")
    write_files(root, (f"{base}/{name}/image_0001.jpg" for name in names), JPEG)
    return {f"{name}:image_0001.jpg": label for label, name in enumerate(names[1:])}


def caltech256(root: Path) -> dict[str, int]:
    base = "caltech256/256_ObjectCategories"
    write_files(root, (f"{base}/001.ak47/001_0001.jpg", f"{base}/002.t-shirt/002_0001.jpg"), JPEG)
    return {"001.ak47:001_0001.jpg": 0, "002.t-shirt:002_0001.jpg": 1}


def aircraft(root: Path) -> dict[str, int]:
    base = "fgvc-aircraft-2013b/data"
    write_files(root, (f"{base}/images/12.jpg", f"{base}/images/13.jpg"), JPEG)
    lists = {"variants.txt": "707-320\nYak-42\n", "images_variant_test.txt": "12 Yak-42\n"}
    write_texts(root, {f"{base}/{name}": text for name, text in lists.items()})
    return {".:12.jpg": 1}


def sun397(root: Path) -> dict[str, int]:
    write_files(root, ("SUN397/a/abbey/sun_b.jpg", "SUN397/a/abbey/sun_a.jpg"), JPEG)
    write_files(root, ("SUN397/a/apartment_building/outdoor/sun_c.jpg",), JPEG)
    write_texts(root, {"SUN397/ClassName.txt": "/a/abbey\n/a/apartment_building/outdoor\n"})
    return {
        "a/abbey:sun_a.jpg": 0,
        "a/abbey:sun_b.jpg": 0,
        "a/apartment_building/outdoor:sun_c.jpg": 1,
    }


def country211(root: Path) -> dict[str, int]:
    write_files(root, ("country211/test/AD/1.jpg", "country211/test/ZW/2.jpg"), JPEG)
    return {"AD:1.jpg": 0, "ZW:2.jpg": 1}


def cars(root: Path) -> dict[str, int]:
    write_files(
        root, ("stanford_cars/cars_test/00001.jpg", "stanford_cars/cars_test/00002.jpg"), JPEG
    )
    (root / "stanford_cars/devkit").mkdir()
    rows = np.array([("00001.jpg", 2), ("00002.jpg", 1)], [("fname", "O"), ("class", "O")])
    savemat(root / "stanford_cars/cars_test_annos_withlabels.mat", {"annotations": rows})
    names = np.array(["Acura RL Sedan 2012", "BMW M3 Coupe 2012"], dtype=object)
    savemat(root / "stanford_cars/devkit/cars_meta.mat", {"class_names": names})
    return {".:00001.jpg": 1, ".:00002.jpg": 0}


TREES = {
    "eurosat": eurosat, "food101": food101, "dtd": dtd, "pets": pets, "caltech101": caltech101,
    "caltech256": caltech256, "fgvc_aircraft": aircraft, "sun397": sun397,
    "country211": country211, "cars": cars,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TREES))
def test_files_below_a_torchvision_root_keep_ids_and_bytes(tmp_path: Path, name: str) -> None:
    expected = TREES[name](tmp_path)
    found = open_evalset(name, tmp_path)
    assert expected.items() <= by_id(found.items).items()
    assert found.read(next(iter(expected))) == JPEG


@pytest.mark.parametrize("name", ["food101", "dtd", "caltech256", "sun397"])
def test_names_of_classes_become_words(tmp_path: Path, name: str) -> None:
    TREES[name](tmp_path)
    expected = {"food101": "apple pie", "dtd": "banded", "caltech256": "t shirt",
                "sun397": "apartment building outdoor"}  # fmt: skip
    assert expected[name] in open_evalset(name, tmp_path).classes


def test_flowers_are_numbered_from_one_in_their_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "flowers-102"
    write_files(base, ("jpg/image_00001.jpg", "jpg/image_00002.jpg", "jpg/image_00003.jpg"), JPEG)
    savemat(base / "imagelabels.mat", {"labels": np.array([[102, 1, 77]])})
    savemat(base / "setid.mat", {"tstid": np.array([[1, 3]])})
    kind = torchvision.datasets.Flowers102
    files = {"image": ("102flowers.tgz", "")}
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        files[key] = (name, hashlib.md5((base / name).read_bytes()).hexdigest())
    monkeypatch.setattr(kind, "_file_dict", files)
    found = open_evalset("flowers", tmp_path)
    assert by_id(found.items) == {".:image_00001.jpg": 101, ".:image_00003.jpg": 76}
    assert found.classes[101] == "blackberry lily"
    assert found.classes[76] == "passion flower"


def test_a_listed_image_that_is_missing_is_an_error(tmp_path: Path) -> None:
    dtd(tmp_path)
    (tmp_path / "dtd/dtd/images/woven/w_2.jpg").unlink()
    with pytest.raises(CurateError, match=r"w_2\.jpg: missing, as are 1 of the 2 images of dtd"):
        open_evalset("dtd", tmp_path)


def test_memes_of_both_test_lists_are_taken_once(tmp_path: Path) -> None:
    write_files(tmp_path, ("img/1.png", "img/2.png", "img/3.png"), PNG)
    rows = [{"id": n, "img": f"img/{n}.png", "label": n % 2} for n in (1, 2, 3)]
    write_texts(
        tmp_path,
        {
            "test_seen.jsonl": "\n".join(map(json.dumps, rows[:2])),
            "test_unseen.jsonl": "\n".join(map(json.dumps, rows[1:])) + "\n",
        },
    )
    found = open_evalset("hateful-memes", tmp_path)
    assert by_id(found.items) == {".:1.png": 1, ".:2.png": 0, ".:3.png": 1}
    assert found.classes == ("meme", "hatespeech meme")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"img": "img/1.png"}', "no labels; take the second's lists"),
        ('{"label": 1}', "KeyError: 'img'"),
        ('{"img": "1.png", "label": 1}', "a file below img/"),
        ('{"img": "img/../1.png", "label": 1}', "leads out of img/"),
        ('{"img": "img/1.png", "label": null}', "TypeError"),
        ('{"img": ', "JSONDecodeError"),
        ("[1]", "TypeError"),
    ],
)
def test_malformed_memes_are_named(tmp_path: Path, line: str, words: str) -> None:
    write_files(tmp_path, ("img/1.png",), PNG)
    good = '{"img": "img/1.png", "label": 1}\n'
    write_texts(tmp_path, {"test_seen.jsonl": good, "test_unseen.jsonl": f"{good}{line}\n"})
    with pytest.raises(CurateError, match=rf"test_unseen\.jsonl: entry 2: .*{words}"):
        open_evalset("hateful-memes", tmp_path)


def ucf(root: Path) -> Path:
    base = "UCF-101-midframes"
    write_files(
        root, (f"{base}/Apply_Lipstick/v_ApplyLipstick_g{g}_c01.jpg" for g in ("01", "20")), JPEG
    )
    write_files(root, (f"{base}/Yo_Yo/v_YoYo_g07_c02.jpg",), JPEG)
    lines = "ApplyLipstick/v_ApplyLipstick_g01_c01.avi\nYoYo/v_YoYo_g07_c02.avi\n"
    return write_texts(root, {"ucfTrainTestlist/testlist01.txt": lines})


def test_middle_frames_are_those_of_the_test_list(tmp_path: Path) -> None:
    found = open_evalset("ucf101", ucf(tmp_path))
    assert by_id(found.items) == {
        "Apply_Lipstick:v_ApplyLipstick_g01_c01.jpg": 0, "Yo_Yo:v_YoYo_g07_c02.jpg": 1,
    }  # fmt: skip
    assert found.classes == ("Apply Lipstick", "Yo Yo")
    assert found.items["group"].to_list() == ["ApplyLipstick_g01", "YoYo_g07"]
    assert len(found.templates) == 48


def test_a_list_of_videos_that_is_no_text_is_named(tmp_path: Path) -> None:
    root = ucf(tmp_path)
    (root / "ucfTrainTestlist" / "testlist01.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CurateError, match=r"testlist01\.txt: not readable as UTF-8 text"):
        open_evalset("ucf101", root)


def test_a_video_of_no_class_is_an_error(tmp_path: Path) -> None:
    root = write_texts(
        ucf(tmp_path), {"ucfTrainTestlist/testlist01.txt": "Dive/v_Dive_g01_c01.avi"}
    )
    with pytest.raises(CurateError, match=r"'Dive/v_Dive_g01_c01\.avi' is no video"):
        open_evalset("ucf101", root)
