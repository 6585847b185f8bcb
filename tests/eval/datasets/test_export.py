"""Sets written for CLIP_benchmark, and that program itself on one of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evalset_trees import by_id, write_files
from pictures import encoded, picture, tree
from splitting import split_of

from curate.discover import open_dataset
from curate.errors import CurateError, PartialRunError
from eval.datasets import export
from eval.datasets.registry import open_evalset
from eval.geometry import as_pixels, geometry
from eval.models.classifier import class_texts, load_clip_model

TINY = Path(__file__).parents[3] / "curate" / "encoders" / "tiny_clip"


def huge() -> bytes:
    """A bitmap that declares more pixels than PIL opens."""
    data = bytearray(encoded(picture(1), "BMP"))
    data[18:26] = (30_000).to_bytes(4, "little") * 2
    return bytes(data)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", [f"{name}/{n}.png" for name in "ab" for n in range(3)])
    source = replace(open_evalset("letters", root), templates=("a {}", "the {}."))
    export.write_clip_benchmark(source, tmp_path / "out")
    found = open_evalset("letters", tmp_path / "out")
    assert found.classes == source.classes
    assert found.templates == source.templates
    assert found.items["label"].to_list() == source.items["label"].to_list()
    assert found.read(found.items["id"][4]) == source.read(source.items["id"][4])


def test_the_layout_is_clip_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PER_SHARD", 2)
    root = write_files(tmp_path / "set", ("a/1.png", "a/2.png", "b/3.png"))
    export.write_clip_benchmark(open_evalset("letters", root), tmp_path / "out")
    files = tree(tmp_path / "out")
    assert sorted(files) == [
        "classnames.txt", "dataset_type.txt", "test/0.tar", "test/1.tar", "test/nshards.txt",
        "zeroshot_classification_templates.txt",
    ]  # fmt: skip
    assert files["test/nshards.txt"] == b"2\n"
    assert files["classnames.txt"] == b"a\nb\n"
    assert files["zeroshot_classification_templates.txt"] == b"a photo of a {c}.\n"


@pytest.mark.parametrize(
    ("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "png")]
)
def test_images_stay_as_they_are_where_the_layout_allows(
    tmp_path: Path, kind: str, extension: str
) -> None:
    data = encoded(picture(1), kind)
    root = write_files(tmp_path / "set", ("a/x.img", "b/y.img"), data)
    export.write_clip_benchmark(open_evalset("letters", root), tmp_path / "out")
    found = open_evalset("letters", tmp_path / "out")
    first = found.items["id"][0]
    assert (found.read(first) == data) == (kind != "GIF")
    assert f"00000000.{extension}".encode() in (tmp_path / "out/test/0.tar").read_bytes()


def test_a_border_is_taken_away(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", ("a/x.png", "b/y.png"), encoded(picture(1, 12)))
    source = replace(open_evalset("letters", root), border=2)
    export.write_clip_benchmark(source, tmp_path / "out")
    found = open_evalset("letters", tmp_path / "out")
    assert found.image(found.items["id"][0]).size == (8, 8)


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0", huge()],
    ids=["empty", "text", "cut", "huge"],
)
def test_a_file_that_is_no_image_is_told_with_its_id(tmp_path: Path, data: bytes) -> None:
    root = write_files(write_files(tmp_path / "set", ("a/x.png",)), ("b/y.png",), data)
    with pytest.raises(PartialRunError, match=r"1 of 1 units failed.*\n  letters: b:y\.png is no"):
        export.write_clip_benchmark(open_evalset("letters", root), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_of_several_classes_are_refused(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", ("images/banana/a.png",))
    with pytest.raises(CurateError, match="stand for several classes"):
        export.write_clip_benchmark(open_evalset("objectnet", root), tmp_path / "out")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", ("a/x.png", "b/y.png"))
    (tmp_path / "out").mkdir()
    with pytest.raises(CurateError, match="is there already"):
        export.write_clip_benchmark(open_evalset("letters", root), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_clean_split_of_what_was_written_is_a_set_again(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", [f"{name}/{n}.png" for name in "ab" for n in range(3)])
    export.write_clip_benchmark(open_evalset("letters", root), tmp_path / "out")
    split = split_of(open_dataset(str(tmp_path / "out")), tmp_path / "split")
    clean = open_evalset("letters", split / "clean")
    assert clean.items.height == 4
    assert (
        by_id(clean.items).items() < by_id(open_evalset("letters", tmp_path / "out").items).items()
    )


@pytest.mark.slow
def test_clip_benchmark_itself_measures_the_same_on_a_clean_split(
    shared_data: Path, tmp_path: Path
) -> None:
    program = os.environ.get("CLIP_BENCHMARK") or shutil.which("clip_benchmark")
    if not program:
        pytest.skip("no clip_benchmark on the path, nor where CLIP_BENCHMARK says")
    whole = open_evalset("cifar10", shared_data / "cifar10" / "test")
    export.write_clip_benchmark(replace(whole, items=whole.items[:300]), tmp_path / "set")
    clean = split_of(open_dataset(str(tmp_path / "set")), tmp_path / "split") / "clean"
    words = [
        program, "eval", "--model", f"local-dir:{TINY}", "--pretrained", "none", "--dataset",
        "wds/cifar10", "--dataset_root", str(clean), "--task", "zeroshot_classification",
        "--output", str(tmp_path / "out.json"), "--no_amp", "--num_workers", "0",
    ]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    theirs = json.loads((tmp_path / "out.json").read_text())["metrics"]["acc1"]
    assert theirs == pytest.approx(accuracy(clean), abs=1e-6)


def accuracy(folder: Path) -> float:
    """Share of images of a set that the built-in CLIP puts into the right class."""
    found = open_evalset("cifar10", folder)
    clip = load_clip_model("builtin:tiny-clip", device="cpu")
    net = clip.classifier(class_texts(clip, found.classes, found.templates))
    shape = geometry(clip.config["preprocess_cfg"])
    pixels = np.stack([as_pixels(shape(found.image(id_))) for id_ in found.items["id"]])
    with torch.no_grad():
        predicted = net(torch.from_numpy(pixels).float() / 255).argmax(dim=1).numpy()
    return float((predicted == found.items["label"].to_numpy()).mean())
