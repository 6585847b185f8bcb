"""ImageNet and the sets made after it, on small trees of the published shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from evalset_trees import PNG, by_id, write_files, write_texts
from pictures import encoded, picture
from scipy.io import savemat

from curate.errors import CurateError
from eval.datasets.registry import open_evalset
from eval.datasets.texts import imagenet_wnids

if TYPE_CHECKING:
    from pathlib import Path

VAL = "ILSVRC2012_val_0000000"


def named(found: object, id_: str) -> str:
    """The text of the class that is right for an item."""
    items = found.items  # type: ignore[attr-defined]
    label = items.filter(items["id"] == id_)["label"].item()
    return str(found.labels[label])  # type: ignore[attr-defined]


def test_validation_images_in_folders_have_the_numbers_of_their_wnids(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("val/n01498041/1.JPEG", "val/n15075141/2.JPEG"))
    found = open_evalset("imagenet", root)
    assert by_id(found.items) == {"n01498041:1.JPEG": 6, "n15075141:2.JPEG": 999}
    assert len(found.classes) == 1000
    assert found.classes[6] == "stingray"
    assert found.imagenet == tuple(range(1000))
    assert len(found.templates) == 80
    assert by_id(open_evalset("imagenet", root / "val").items) == by_id(found.items)


def test_a_folder_that_is_no_class_is_an_error(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("val/n01498041/1.JPEG", "val/n01498042/1.JPEG"))
    with pytest.raises(CurateError, match=r"n01498042.*none of the 1000.*n01498041"):
        open_evalset("imagenet", root)


def flat(root: Path) -> Path:
    return write_files(root, (f"val/{VAL}1.JPEG", f"val/{VAL}2.JPEG"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "LOC_val_solution.csv",
            f"ImageId,PredictionString\n{VAL}2,n15075141 85 1 4 2\n{VAL}1,n01498041 1 1 9 9\n",
        ),
        ("imagenet_2012_validation_synset_labels.txt", "n01498041\nn15075141\n"),
        ("val.txt", f"{VAL}1.JPEG 6\n{VAL}2.JPEG 999\n"),
        ("val/val.txt", f"{VAL}1.JPEG 6\n{VAL}2.JPEG 999\n"),
    ],
)
def test_validation_images_in_one_folder_take_a_list(tmp_path: Path, name: str, text: str) -> None:
    root = write_texts(flat(tmp_path), {name: text})
    found = open_evalset("imagenet", root)
    assert by_id(found.items) == {f".:{VAL}1.JPEG": 6, f".:{VAL}2.JPEG": 999}


def test_numbers_of_the_devkit_are_not_those_of_sorted_wnids(tmp_path: Path) -> None:
    truth = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    root = write_texts(flat(tmp_path), {truth: "2\n1\n"})
    synsets = np.array([(1, "n02119789"), (2, "n02100735")],
                       [("ILSVRC2012_ID", "O"), ("WNID", "O")])  # fmt: skip
    savemat((root / truth).with_name("meta.mat"), {"synsets": synsets})
    found = open_evalset("imagenet", root)
    assert named(found, f".:{VAL}1.JPEG") == "English Setter"
    assert named(found, f".:{VAL}2.JPEG") == "kit fox"


def test_the_devkits_numbers_alone_are_an_error(tmp_path: Path) -> None:
    truth = "devkit/data/ILSVRC2012_validation_ground_truth.txt"
    root = write_texts(flat(tmp_path), {truth: "2\n1\n"})
    with pytest.raises(CurateError, match=r"meta\.mat: missing"):
        open_evalset("imagenet", root)


def test_validation_images_without_a_list_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"nothing says their classes.*LOC_val_solution\.csv"):
        open_evalset("imagenet", flat(tmp_path))


def test_an_image_that_no_list_has_is_an_error(tmp_path: Path) -> None:
    root = write_texts(flat(tmp_path), {"val.txt": f"{VAL}1.JPEG 6\n"})
    with pytest.raises(CurateError, match=f"{VAL}2.JPEG is not in the ground truth"):
        open_evalset("imagenet", root)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("LOC_val_solution.csv", f"ImageId,PredictionString\n{VAL}1,\n", "entry 1: an ImageId"),
        ("LOC_val_solution.csv", f"ImageId,PredictionString\n{VAL}1\n", "entry 1: an ImageId"),
        ("LOC_val_solution.csv", f"ImageId,PredictionString\n{VAL}1,n9 1\n", "KeyError: 'n9'"),
        ("LOC_val_solution.csv", f"{VAL}1,n01498041 1\n{VAL}2,n15075141 1\n", "'ImageId'"),
        ("imagenet_2012_validation_synset_labels.txt", "n01498041\nn9\n", "entry 2: a wnid"),
        ("imagenet_2012_validation_synset_labels.txt", "6\n999\n", "entry 1: a wnid"),
        ("val.txt", f"{VAL}1.JPEG 6\n{VAL}2.JPEG\n", "entry 2: a file and a number"),
        ("val.txt", f"{VAL}1.JPEG 6\n{VAL}2.JPEG 1000\n", "entry 2: a file and a number"),
        ("val.txt", f"{VAL}1.JPEG -1\n{VAL}2.JPEG 0\n", "entry 1: a file and a number"),
    ],
)
def test_a_malformed_list_of_classes_is_named(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    root = write_texts(flat(tmp_path), {name: text})
    with pytest.raises(CurateError, match=words) as error:
        open_evalset("imagenet", root)
    assert str(root / name) in str(error.value)


@pytest.mark.parametrize(
    ("truth", "file", "words"),
    [
        ("3\n1\n", None, r"ground_truth\.txt: entry 1: the number of a class of meta\.mat"),
        ("2\none\n", None, r"ground_truth\.txt: entry 2"),
        ("2\n1\n", b"no matrix at all", r"meta\.mat: "),
        ("2\n1\n", b"", r"meta\.mat: "),
        ("2\n1\n", {"other": np.array([1])}, r"meta\.mat: entry 1: .*synsets"),
        ("2\n1\n", {"synsets": np.array([1, 2])}, r"meta\.mat: entry 1: .*synsets"),
    ],
)
def test_a_malformed_devkit_is_named(
    tmp_path: Path, truth: str, file: bytes | dict[str, object] | None, words: str
) -> None:
    place = "devkit/data/ILSVRC2012_validation_ground_truth.txt"
    root = write_texts(flat(tmp_path), {place: truth})
    matrix = (root / place).with_name("meta.mat")
    if isinstance(file, bytes):
        matrix.write_bytes(file)
    else:
        rows = np.array([(1, "n02119789"), (2, "n02100735")], [("ID", "O"), ("WNID", "O")])
        savemat(matrix, file or {"synsets": rows})
    with pytest.raises(CurateError, match=words):
        open_evalset("imagenet", root)


def test_folders_of_version_two_are_numbers_not_sorted_text(tmp_path: Path) -> None:
    folder = "imagenetv2-matched-frequency-format-val"
    root = write_files(tmp_path, (f"{folder}/{n}/a.jpeg" for n in (0, 2, 10, 999)))
    found = open_evalset("imagenetv2", root)
    assert by_id(found.items) == {"0:a.jpeg": 0, "2:a.jpeg": 2, "10:a.jpeg": 10, "999:a.jpeg": 999}
    assert named(found, "10:a.jpeg") == "brambling"
    assert by_id(open_evalset("imagenetv2", root / folder).items) == by_id(found.items)


@pytest.mark.parametrize(
    ("variant", "folder"),
    [
        ("matched-frequency", "imagenetv2-matched-frequency-format-val"),
        ("threshold-07", "imagenetv2-threshold-0.7-format-val"),
        ("top-images", "imagenetv2-top-images-format-val"),
    ],
)
def test_version_two_has_three_variants(tmp_path: Path, variant: str, folder: str) -> None:
    root = write_files(tmp_path, (f"{folder}/7/a.jpeg",))
    found = open_evalset("imagenetv2", root, variant=variant)
    assert found.name == f"imagenetv2.{variant}"
    assert by_id(found.items) == {"7:a.jpeg": 7}
    missing = next(one for one in ("matched-frequency", "top-images") if one != variant)
    with pytest.raises(CurateError, match="is to be had from"):
        open_evalset("imagenetv2", root, variant=missing)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("imagenet-a", ("n01498041", "stingray"), ("n12267677", "acorn")),
        ("imagenet-r", ("n01443537", "goldfish"), ("n12267677", "acorn")),
    ],
)
def test_labels_of_a_smaller_set_are_places_among_its_own_classes(
    tmp_path: Path, name: str, first: tuple[str, str], last: tuple[str, str]
) -> None:
    root = write_files(tmp_path, (f"{first[0]}/a.jpg", f"{last[0]}/b.jpg", "README.txt"))
    found = open_evalset(name, root)
    assert len(found.classes) == 200
    assert by_id(found.items) == {f"{first[0]}:a.jpg": 0, f"{last[0]}:b.jpg": 199}
    assert named(found, f"{first[0]}:a.jpg") == first[1]
    assert named(found, f"{last[0]}:b.jpg") == last[1]
    wnids = imagenet_wnids()
    assert found.imagenet is not None
    assert [wnids[found.imagenet[row]] for row in (0, 199)] == [first[0], last[0]]


def test_a_class_outside_of_the_smaller_set_is_an_error(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("n01498041/a.jpg", "n01440764/a.jpg"))  # a tench
    with pytest.raises(CurateError, match=r"n01440764.*none of the 200"):
        open_evalset("imagenet-a", root)


def test_wnids_under_an_unknown_name_are_an_error(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("n01498041/a.jpg",))
    with pytest.raises(CurateError, match=r"wnids.*did you mean 'imagenet-a'"):
        open_evalset("imagnet-a", root)


@pytest.mark.parametrize(
    ("name", "place"), [("imagenet-sketch", "sketch"), ("stylized-imagenet", "val")]
)
def test_sets_of_a_thousand_classes(tmp_path: Path, name: str, place: str) -> None:
    root = write_files(tmp_path, (f"{place}/n01498041/a.JPEG",))
    assert by_id(open_evalset(name, root).items) == {"n01498041:a.JPEG": 6}
    assert by_id(open_evalset(name, root / place).items) == {"n01498041:a.JPEG": 6}


@pytest.mark.parametrize("group", ["", "weather/"])
def test_the_published_corruptions_are_crops(tmp_path: Path, group: str) -> None:
    root = write_files(
        tmp_path, (f"{group}fog/3/n01498041/a.JPEG", f"{group}fog/4/n01440764/a.JPEG")
    )
    found = open_evalset("imagenet-c", root, variant="fog", severity=3)
    assert found.name == "imagenet-c.fog.3"
    assert found.cropped
    assert by_id(found.items) == {"n01498041:a.JPEG": 6}


@pytest.mark.parametrize("part", [{}, {"variant": "fog"}, {"severity": 3}])
def test_the_whole_of_the_published_corruptions_is_no_set(
    tmp_path: Path, part: dict[str, object]
) -> None:
    root = write_files(tmp_path, ("fog/3/n01498041/a.JPEG",))
    with pytest.raises(CurateError, match=r"say which part, such as imagenet-c\.fog\.3"):
        open_evalset("imagenet-c", root, **part)  # type: ignore[arg-type]


def test_published_sequences_are_videos(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("translate/n01498041/v.mp4",), b"a video")
    found = open_evalset("imagenet-p", root, variant="translate")
    assert by_id(found.items) == {"n01498041:v.mp4": 6}
    assert found.read("n01498041:v.mp4") == b"a video"
    with pytest.raises(CurateError, match="say which part"):
        open_evalset("imagenet-p", root)


def test_objectnet_takes_the_folders_that_are_classes_of_imagenet(tmp_path: Path) -> None:
    paths = ("images/alarm_clock/a.png", "images/air_freshener/b.png", "images/banana/c.png")
    found = open_evalset("objectnet", write_files(tmp_path, paths, encoded(picture(1, 12))))
    assert found.items["id"].to_list() == ["alarm_clock:a.png", "banana:c.png"]
    assert len(found.labels) == 113
    assert named(found, "banana:c.png") == "Banana"
    assert found.groups is not None
    label = found.items["label"][0]
    assert [found.classes[row] for row in found.groups[label]] == ["analog clock", "digital clock"]
    assert len(found.classes) == len({row for group in found.groups for row in group}) == 125
    assert found.imagenet is not None
    assert [found.imagenet[row] for row in found.groups[label]] == [409, 530]  # of the 1,000
    assert found.image("banana:c.png").size == (8, 8)


def test_objectnets_border_is_taken_away(tmp_path: Path) -> None:
    image = picture(1, 12)
    root = write_files(tmp_path, ("images/banana/c.png",), encoded(image))
    cut = open_evalset("objectnet", root).image("banana:c.png")
    assert cut.tobytes() == image.crop((2, 2, 10, 10)).tobytes()


@pytest.mark.parametrize(
    ("variant", "labels", "expected"),
    [
        ("a-classes", 200, {"n01498041:a.JPEG": 0, "n07753592:b.JPEG": 188}),
        ("r-classes", 200, {"n01498041:a.JPEG": 3, "n07753592:b.JPEG": 191}),
        ("objectnet-classes", 113, {"n07753592:b.JPEG": 2}),
        ("vid-classes", 30, {"n01530575:c.JPEG": 4}),
    ],
)
def test_validation_images_of_a_smaller_sets_classes(
    tmp_path: Path, variant: str, labels: int, expected: dict[str, int]
) -> None:
    paths = ("n01498041/a.JPEG", "n07753592/b.JPEG", "n01530575/c.JPEG")
    root = write_files(tmp_path, paths)
    found = open_evalset("imagenet", root, variant=variant)
    assert len(found.labels) == labels
    assert by_id(found.items) == expected


def tiny_tree(root: Path, *, sorted_out: bool) -> Path:
    wnids = ("n02124075", "n01443537")
    words = "n01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\nn99\tnothing\n"
    paths = [f"val/{wnids[0]}/a.JPEG"] if sorted_out else ["val/images/val_0.JPEG"]
    write_files(root, [f"tiny-imagenet-200/{path}" for path in paths])
    texts = {"wnids.txt": "\n".join(wnids), "words.txt": words}
    if not sorted_out:
        texts["val/val_annotations.txt"] = f"val_0.JPEG\t{wnids[0]}\t0\t32\t44\t62\n"
    return write_texts(root, {f"tiny-imagenet-200/{name}": text for name, text in texts.items()})


@pytest.mark.parametrize("sorted_out", [False, True])
def test_tiny_imagenet_counts_its_classes_in_the_order_of_wnids(
    tmp_path: Path, *, sorted_out: bool
) -> None:
    found = open_evalset("tiny-imagenet", tiny_tree(tmp_path, sorted_out=sorted_out))
    assert found.labels == ("goldfish", "Egyptian Mau")
    assert found.items["label"].to_list() == [1]


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt"])
def test_a_list_that_is_no_text_is_named(tmp_path: Path, name: str) -> None:
    root = tiny_tree(tmp_path, sorted_out=True)
    path = root / "tiny-imagenet-200" / name
    path.write_bytes(path.read_bytes().replace(b"n02", b"n99") + b"\xff")
    if name == "words.txt":  # is read where a class is none of ImageNet's
        (root / "tiny-imagenet-200" / "wnids.txt").write_text("n02124075\nn99")
    with pytest.raises(CurateError, match=rf"{name}: not readable as UTF-8 text"):
        open_evalset("tiny-imagenet", root)


def test_an_image_that_the_annotations_lack_is_an_error(tmp_path: Path) -> None:
    root = tiny_tree(tmp_path, sorted_out=False)
    write_files(root, ["tiny-imagenet-200/val/images/val_1.JPEG"], PNG)
    with pytest.raises(CurateError, match=r"says nothing of val_1\.JPEG"):
        open_evalset("tiny-imagenet", root)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("val_0.JPEG", r"val_annotations\.txt: entry 1: a file name, a tab and a wnid"),
        ("val_0.JPEG\tn9\t0", r"val_annotations\.txt: val_0\.JPEG is of class 'n9', .*wnids\.txt"),
    ],
)
def test_malformed_annotations_are_named(tmp_path: Path, line: str, words: str) -> None:
    root = tiny_tree(tmp_path, sorted_out=False)
    write_texts(root, {"tiny-imagenet-200/val/val_annotations.txt": f"{line}\n"})
    with pytest.raises(CurateError, match=words):
        open_evalset("tiny-imagenet", root)
