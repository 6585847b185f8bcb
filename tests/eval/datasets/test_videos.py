"""Frames of videos."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from evalset_trees import write_files, write_texts

from curate.errors import CurateError
from eval.datasets import texts
from eval.datasets.registry import open_evalset
from eval.datasets.videos import YTBB_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

ANCHOR = "ILSVRC2015_val_00000000:000442.JPEG"


def anchors() -> list[str]:
    videos = texts.data("vid_robust")["videos"]
    return [f"val/ILSVRC{name}/{row[0]:06d}.JPEG" for name, row in videos.items()]


@pytest.fixture(scope="module")
def every_frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All frames that are within ten of an anchor, without content."""
    root = tmp_path_factory.mktemp("vid")
    for name, row in texts.data("vid_robust")["videos"].items():
        folder = root / "val" / f"ILSVRC{name}"
        folder.mkdir(parents=True)
        for number in range(max(row[0] - 10, 0), row[0] + 11):
            (folder / f"{number:06d}.JPEG").touch()
    return root


def test_pm0_is_the_anchors(tmp_path: Path) -> None:
    found = open_evalset("imagenet-vid-robust", write_files(tmp_path, anchors(), b""))
    assert found.items.height == 1109
    assert len(found.labels) == 30
    assert found.groups is not None
    assert len(found.classes) == sum(map(len, found.groups)) == 288
    row = found.items.row(0, named=True)
    assert row["id"] == row["group"] == ANCHOR
    assert found.labels[row["label"]] == "turtle"


def test_a_label_stands_for_its_classes_of_imagenet(tmp_path: Path) -> None:
    found = open_evalset("imagenet-vid-robust", write_files(tmp_path, anchors(), b""))
    assert found.groups is not None
    antelope = found.groups[found.labels.index("antelope")]
    assert [found.classes[row] for row in antelope] == [
        "hartebeest", "impala (antelope)", "gazelle",
    ]  # fmt: skip


def test_pm10_is_all_frames_that_were_found_alike(every_frame: Path) -> None:
    found = open_evalset("imagenet-vid-robust", every_frame, variant="pm10")
    assert found.items.height == 22_179
    assert found.items["group"].n_unique() == 1109
    assert set(found.items["group"]) <= set(found.items["id"])
    assert found.items["also"].drop_nulls().len() == 1463 + 51  # with two and three animals


def test_a_frame_that_is_missing_is_an_error(tmp_path: Path) -> None:
    root = write_files(tmp_path, anchors()[:-2], b"")
    with pytest.raises(CurateError, match="missing, as are 2 of the 1109 frames"):
        open_evalset("imagenet-vid-robust", root)


# --- YTBB-Robust ----------------------------------------------------------------------------------

LABELS = ["good", "bad", "unsure", "zebra", "cat"]
PAIRS = ["similar", "dissimilar", "bad-anchor"]


def frame(video: str, number: int) -> str:
    return f"{video}_1000/frame-{number}.jpg"


def ytbb(root: Path) -> Path:
    """Three anchors: one good with three frames, one that is bad, one that a pair calls bad."""
    anchor_rows = [
        {"key": f"x/{frame('v', 15)}", "labels": [0, 3]},
        {"key": f"x/{frame('w', 15)}", "labels": [0, 1]},
        {"key": f"x/{frame('u', 15)}", "labels": [0]},
    ]
    pair_rows = [
        {"key": f"{frame('v', 15)},{frame('v', 16)}", "labels": [1]},
        {"key": f"{frame('v', 15)},{frame('v', 16)}", "labels": [0]},  # the later one counts
        {"key": f"{frame('v', 15)},{frame('v', 14)}", "labels": [0, 1]},
        {"key": f"{frame('v', 15)},{frame('v', 26)}", "labels": [0]},  # too far
        {"key": f"{frame('u', 15)},{frame('u', 16)}", "labels": [2]},
    ]
    index = {"0": "zebra", "1": "cat", "22": "bear", "23": "train"}
    maps = {"0": [340], "1": [281, 282], "22": [294], "23": [466]}
    write_texts(
        root / YTBB_FOLDER,
        {
            "anchor_labels.json": json.dumps({"labels": LABELS, "annotations": anchor_rows}),
            "pmk_labels.json": json.dumps({"labels": PAIRS, "annotations": pair_rows}),
            "ytbb_class_index.json": json.dumps(index),
            "rev_class_idx_map.json": json.dumps(maps),
            "ytbb_robustness_test_anchors_full.csv": (
                "ytid,time_ms,label\nv,1000,22\nw,1000,0\nu,1000,1\n"
            ),
        },
    )
    return write_files(root, [frame("v", n) for n in (14, 15, 16, 26)])


def test_good_anchors_have_the_labels_of_both_lists(tmp_path: Path) -> None:
    found = open_evalset("ytbb-robust", ytbb(tmp_path), variant="pm0")
    assert found.labels == ("zebra", "cat", "bear", "train")
    assert found.groups == ((3,), (0, 1), (2,), (4,))
    row = found.items.row(0, named=True)
    assert found.items.height == 1
    # 22 of the list of anchors is 23 of the index: a train, and what people added
    assert [found.labels[n] for n in (row["label"], *row["also"])] == ["zebra", "train"]


def test_only_near_frames_that_are_alike_join_an_anchor(tmp_path: Path) -> None:
    found = open_evalset("ytbb-robust", ytbb(tmp_path), variant="pm10")
    assert found.items["id"].to_list() == ["v_1000:frame-15.jpg", "v_1000:frame-16.jpg"]
    assert set(found.items["group"]) == {"v_1000:frame-15.jpg"}


def test_without_annotations_the_error_says_where_they_are(tmp_path: Path) -> None:
    root = write_files(tmp_path, [frame("v", 15)])
    with pytest.raises(CurateError, match=r"no ytbb-robust_metadata.*imagenet-testbed"):
        open_evalset("ytbb-robust", root)


ANCHORS = "ytbb_robustness_test_anchors_full.csv"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (ANCHORS, "ytid,time_ms,label\nv,1000\n", "entry 1: ytid, time_ms"),
        (ANCHORS, "ytid,time_ms,label\nv,1000,bear\n", "entry 1: ytid, time_ms"),
        (ANCHORS, "ytid,label\nv,22\n", "KeyError: 'time_ms'"),
        (ANCHORS, "ytid,time_ms,label\nw,1000,0\n", "says nothing of v_1000"),
        ("rev_class_idx_map.json", '{"0": [340]}', "says nothing of class 23, which v_1000/frame"),
        ("rev_class_idx_map.json", '{"0": [1000]}', "entry 1: numbers of ImageNet's classes"),
        ("rev_class_idx_map.json", "[]", "entry 1: numbers of ImageNet's classes"),
        ("ytbb_class_index.json", '{"zebra": 0}', "entry 1: a numbered name"),
        ("anchor_labels.json", '{"labels": ["good"]}', "KeyError: 'annotations'"),
        (
            "pmk_labels.json",
            '{"labels": ["similar"], "annotations": [{"key": "a,b", "labels": [0, 1]}]}',
            "entry 1: a key and numbers of labels",
        ),
    ],
)
def test_malformed_annotations_are_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    root = write_texts(ytbb(tmp_path), {f"{YTBB_FOLDER}/{name}": text})
    with pytest.raises(CurateError, match=words) as error:
        open_evalset("ytbb-robust", root)
    assert str(root / YTBB_FOLDER / name) in str(error.value)
