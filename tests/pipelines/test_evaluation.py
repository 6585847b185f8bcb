"""From a test set to rows: the same in pieces and when interrupted, clear in refusal."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import torch
from evaluating import (
    asked,
    measure,
    rows_of,
    small,
    stopping,
    write_deduplicated,
    write_one,
    write_test_set,
)
from pictures import encoded, picture, sample, write_shard
from PIL import Image
from safetensors.torch import load_file, save_file
from small_clips import write_clip
from splitting import split_of

from curate import artifacts
from curate.discover import open_dataset
from curate.errors import CurateError, PartialRunError
from curate.units import run_in_process
from eval.datasets.registry import open_evalset
from eval.models.model import load_model
from eval.records import read_samples
from pipelines.evaluation import bench
from pipelines.evaluation import run as stage
from pipelines.evaluation.bench import over
from pipelines.evaluation.request import Source, whole_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from curate.units import Outcome

WORDS = (
    "mine", "mine.fog.3", "mine.typographic", "mine.sequence-tilt", "mine@noise.eps4.native",
    "mine@pgd-3.eps4.native", "mine@dim.eps4.native", "mine@nes-2.eps2.native",
    "mine@deepfool.eps4.native",
)  # fmt: skip
DEAR = (
    "mine@spsa-2.eps2.native", "mine@apgd-ce+dlr.eps1.native", "mine@cw-l2-1.eps64.native",
    "mine@fmn-linf.eps4.native", "mine@fmn-l2.eps64.native", "mine@autoattack.eps1.native",
)  # fmt: skip
CHEAP = ("mine", "mine.fog.3", "mine.sequence-tilt", "mine@pgd-3.eps4.native")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test set of 12 pictures and a model with random weights."""
    root = tmp_path_factory.mktemp("evaluation")
    write_test_set(root / "set", 12)
    write_clip("vit", root / "vit")
    return root


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The results of all words, in one piece each, that nothing disturbed."""
    out = place / "whole" / "model"
    measure(asked(place / "set", out, *WORDS, model=small(place / "vit")))
    return out


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A deduplicated test set and the folder of its split."""
    return write_deduplicated(tmp_path_factory.mktemp("split"))


@pytest.fixture
def five(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of five images, so that a small set has several."""
    monkeypatch.setattr(stage, "PIECE", 5)


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    """When each file was written, and by which inode it is known."""
    found = ((path, path.stat()) for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path): (stat.st_mtime_ns, stat.st_ino) for path, stat in found}


def value(summary: dict[str, Any], part: str = "full") -> float:
    return float(summary["numbers"][part]["accuracy"]["value"])


# --- the same rows ----------------------------------------------------------------------------


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize("batch", [1, 16])
def test_neither_batch_nor_pieces_show_in_the_rows(
    place: Path, whole: Path, tmp_path: Path, batch: int
) -> None:
    request = asked(place / "set", tmp_path / "m", *WORDS, model=small(place / "vit"), batch=batch)
    measure(request)
    assert rows_of(tmp_path / "m") == rows_of(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("five")
def test_neither_batch_nor_pieces_show_in_the_rows_of_dear_attacks(
    place: Path, tmp_path: Path
) -> None:
    model = small(place / "vit")
    for batch in (7, 1):
        out = tmp_path / str(batch) / "m"
        measure(asked(place / "set", out, *DEAR, model=model, limit=7, batch=batch))
    assert rows_of(tmp_path / "1" / "m") == rows_of(tmp_path / "7" / "m")


@pytest.mark.usefixtures("five")
def test_pieces_of_all_settings_are_given_out_together(place: Path, tmp_path: Path) -> None:
    given: list[int] = []

    def noting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        given.append(len(units))
        return run_in_process(function, units)

    request = asked(place / "set", tmp_path / "m", *CHEAP, model=small(place / "vit"))
    measure(request, noting)
    assert given == [1, 3 * len(CHEAP)]  # one shard of fog, then all


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize("after", [0, 2, 5, 9])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    place: Path, whole: Path, tmp_path: Path, after: int
) -> None:
    request = asked(place / "set", tmp_path / "m", *CHEAP, model=small(place / "vit"))
    with pytest.raises(KeyboardInterrupt):
        measure(request, stopping(after))
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("pieces/*.parquet")}
    measure(request)
    found, expected = rows_of(tmp_path / "m"), rows_of(whole)
    assert found == {word: expected[word] for word in CHEAP}
    assert len(done) == {0: 0, 2: 1, 5: 1, 9: 2}[after]
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.usefixtures("five")
def test_only_missing_pieces_are_computed_after_an_interruption(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(place / "set", tmp_path / "m", "mine", model=small(place / "vit"))
    with pytest.raises(KeyboardInterrupt):
        measure(request, stopping(1))
    numbers: list[int] = []
    real = stage.measure_piece

    def counted(unit: stage.PieceUnit) -> dict[str, Any]:
        numbers.append(unit.number)
        return real(unit)

    monkeypatch.setattr(stage, "measure_piece", counted)
    measure(request)
    assert numbers == [1, 2]


@pytest.mark.usefixtures("five")
def test_a_piece_that_is_torn_is_no_piece(place: Path, whole: Path, tmp_path: Path) -> None:
    request = asked(place / "set", tmp_path / "m", "mine", model=small(place / "vit"))
    with pytest.raises(KeyboardInterrupt):
        measure(request, stopping(2))
    (pieces,) = tmp_path.rglob("pieces")
    (pieces / ".000002.parquet.x.tmp").write_bytes(b"PAR1")  # what a killed writer leaves
    measure(request)
    assert rows_of(tmp_path / "m")["mine"] == rows_of(whole)["mine"]


def test_the_same_request_does_nothing(place: Path, whole: Path) -> None:
    before = stamps(whole.parent)
    again = measure(asked(place / "set", whole, *WORDS, model=small(place / "vit"), batch=7))
    assert stamps(whole.parent) == before
    assert [row["word"] for row in again] == list(WORDS)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"limit": 6}, {"limit": 6, "seed": 1}, {"texts": "tecoa"}],
)
def test_what_rows_hang_on_makes_others(
    place: Path, whole: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    word = "mine@pgd-3.eps4.native"
    shutil.copytree(whole / word, tmp_path / "m" / word)
    before = artifacts.read_manifest(tmp_path / "m" / word)
    measure(asked(place / "set", tmp_path / "m", word, model=small(place / "vit"), **changes))
    after = artifacts.read_manifest(tmp_path / "m" / word)
    assert after.key != before.key
    assert after.outputs != before.outputs


def test_other_weights_are_measured_anew(place: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "vit", tmp_path / "vit")
    weights = load_file(tmp_path / "vit" / "open_clip_model.safetensors")
    weights["visual.proj"] = weights["visual.proj"].flip(1).contiguous()
    save_file(weights, tmp_path / "vit" / "open_clip_model.safetensors")
    shutil.copytree(whole / "mine", tmp_path / "m" / "mine")
    measure(asked(place / "set", tmp_path / "m", "mine", model=small(tmp_path / "vit")))
    found = read_samples(tmp_path / "m" / "mine" / "samples.parquet")
    assert not found["margin"].equals(read_samples(whole / "mine" / "samples.parquet")["margin"])


def test_an_altered_image_is_measured_anew(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "set", tmp_path / "set")
    request = asked(tmp_path / "set", tmp_path / "r" / "m", "mine", model=small(place / "vit"))
    measure(request)
    before = rows_of(tmp_path / "r" / "m")
    rows = [sample(f"s{n:04}", encoded(picture(500 + n, 32)), n % 3) for n in range(6)]
    write_shard(tmp_path / "set" / "test" / "0.tar", rows)
    bench._whole.cache_clear()  # a set is opened once in a process
    measure(request)
    assert rows_of(tmp_path / "r" / "m") != before


# --- what the rows say ------------------------------------------------------------------------


def test_rows_are_those_of_the_set_and_say_what_the_model_says(place: Path, whole: Path) -> None:
    subject = open_evalset("mine", place / "set")
    rows = read_samples(whole / "mine" / "samples.parquet")
    assert rows["id"].to_list() == subject.items["id"].to_list()
    assert rows["label"].to_list() == [n % 3 for n in range(12)]
    model = load_model("open_clip:local-dir", str(place / "vit"), "cpu")
    pixels = np.stack([np.asarray(model.geometry(subject.image(id_))) for id_ in rows["id"]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits = over(small(place / "vit"), subject, "fp32")(images)
    assert rows["pred"].to_list() == logits.argmax(dim=1).tolist()


def test_what_was_attacked_is_stored_and_comes_out_wrong_again(place: Path, whole: Path) -> None:
    word = "mine@pgd-3.eps4.native"
    rows = {row["id"]: row for row in read_samples(whole / word / "samples.parquet").to_dicts()}
    with np.load(whole / word / "examples.npz") as stored:
        ids, clean, attacked = stored["ids"], stored["clean"], stored["attacked"]
    assert 0 < len(ids) <= 8
    classifier = over(small(place / "vit"), open_evalset("mine", place / "set"), "fp32")
    with torch.no_grad():
        found = classifier(torch.from_numpy(attacked)).argmax(dim=1).tolist()
    assert found == [rows[id_]["pred"] for id_ in ids.tolist()]
    assert all(rows[id_]["pred"] != rows[id_]["label"] for id_ in ids.tolist())
    moved = np.abs(attacked.astype(np.float64) - clean / 255.0)
    assert moved.max() <= 4 / 255 + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1


def test_settings_without_an_attack_have_no_examples_and_no_distance(whole: Path) -> None:
    for word in ("mine", "mine.fog.3", "mine.typographic"):
        assert not (whole / word / "examples.npz").exists()
        rows = read_samples(whole / word / "samples.parquet")
        assert rows["linf"].null_count() == rows["queries"].null_count() == rows.height
    assert read_samples(whole / "mine.typographic" / "samples.parquet")["word"].null_count() == 0
    frames = read_samples(whole / "mine.sequence-tilt" / "samples.parquet")
    assert (frames["comparisons"] > 0).all()
    assert (frames["flips"] <= frames["comparisons"]).all()


def test_a_summary_says_all_that_a_figure_hangs_on(whole: Path) -> None:
    facts = artifacts.read_manifest(whole / "mine@pgd-3.eps4.native").config
    assert facts["norm"] == "linf"
    assert facts["setting"]["at"] == "native"
    assert facts["setting"]["seed"] == 0
    attack = facts["setting"]["attack"]
    assert (attack["eps"], attack["steps"], attack["step"]) == (4, 3, 1)
    assert set(facts["model"]) == {"name", "weights", "precision", "size"}


def test_native_and_input_are_two_threats(place: Path, tmp_path: Path) -> None:
    write_test_set(tmp_path / "big", 12, size=48)
    words = [f"mine@pgd-3.eps2.{at}" for at in ("native", "input")]
    measure(asked(tmp_path / "big", tmp_path / "r" / "m", *words, model=small(place / "vit")))
    sides = []
    for word in words:
        with np.load(tmp_path / "r" / "m" / word / "examples.npz") as stored:
            sides.append(stored["attacked"].shape[-1])
        rows = read_samples(tmp_path / "r" / "m" / word / "samples.parquet")
        assert rows["linf"].max() == pytest.approx(2, abs=1e-3)
    assert sides == [48, 32]


def test_an_attack_on_images_of_several_sizes_needs_the_models_size(
    place: Path, tmp_path: Path
) -> None:
    images = {"a": encoded(picture(1, 40)), "b": encoded(picture(2, 52))}
    write_one(tmp_path / "set", images)
    model = small(place / "vit")
    with pytest.raises(PartialRunError, match=r"b has 52 x 52 .* squares of one size .*\.input"):
        measure(asked(tmp_path / "set", tmp_path / "r" / "m", "mine@fgsm.native", model=model))
    (found,) = measure(
        asked(tmp_path / "set", tmp_path / "r" / "m", "mine@fgsm.input", model=model)
    )
    assert found["numbers"]["full"]["accuracy"]["total"] == 2


# --- made sets --------------------------------------------------------------------------------


def test_a_made_set_is_made_once_for_two_models(place: Path, tmp_path: Path) -> None:
    write_clip("resnet", tmp_path / "resnet")
    measure(asked(place / "set", tmp_path / "r" / "one", "mine.fog.3", model=small(place / "vit")))
    before = stamps(tmp_path / "r" / "sets")
    model = small(tmp_path / "resnet")
    measure(asked(place / "set", tmp_path / "r" / "two", "mine.fog.3", model=model))
    assert stamps(tmp_path / "r" / "sets") == before
    assert rows_of(tmp_path / "r" / "one") != rows_of(tmp_path / "r" / "two")
    measure(asked(place / "set", tmp_path / "r" / "two", "mine.fog.3", model=model, limit=7))
    made = sorted(path.name for path in (tmp_path / "r" / "sets").glob("[!.]*"))
    assert made == ["mine.fog.3~0", "mine.fog.3~7~0"]


def test_decoded_images_are_kept_where_several_settings_want_them(
    place: Path, whole: Path, tmp_path: Path
) -> None:
    measure(asked(place / "set", tmp_path / "r" / "m", "mine", model=small(place / "vit")))
    assert not (tmp_path / "r" / "pictures").exists()
    assert list((whole.parent / "pictures").glob("*/000000.npy"))


def test_a_limit_takes_the_same_images_for_every_model_and_setting(
    place: Path, tmp_path: Path
) -> None:
    words = ("mine", "mine.fog.3")
    measure(asked(place / "set", tmp_path / "m", *words, model=small(place / "vit"), limit=9))
    ids = [read_samples(tmp_path / "m" / word / "samples.parquet")["id"] for word in words]
    assert len(ids[0]) == 9
    assert ids[0].equals(ids[1])


def test_settings_that_are_wanted_whole_are_measured_on_all_images(
    place: Path, tmp_path: Path
) -> None:
    words = ("mine", "mine.fog.3", "mine.fog.4")
    request = asked(place / "set", tmp_path / "m", *words, model=small(place / "vit"), limit=9)
    measure(replace(request, whole=whole_words(request.sources, ("mine", "mine.fog.3"))))
    rows = {word: read_samples(tmp_path / "m" / word / "samples.parquet").height for word in words}
    assert rows == {"mine": 12, "mine.fog.3": 12, "mine.fog.4": 9}


# --- splits -----------------------------------------------------------------------------------


def test_figures_come_for_every_split_and_a_split_alone_has_its_images_only(
    place: Path, split: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, decided = split
    words = ("mine", "mine#clean", "mine#control", "mine@fgsm.eps2.native#overlap")
    model = small(place / "vit")
    all_, clean, control, overlap = measure(
        asked(folder, tmp_path / "m", *words, split=str(decided), model=model)
    )
    totals = {part: row["accuracy"]["total"] for part, row in all_["numbers"].items()}
    assert totals == {"full": 16, "clean": 11, "overlap": 5, "control": 11}
    assert clean["numbers"]["full"]["accuracy"] == all_["numbers"]["clean"]["accuracy"]
    assert control["numbers"]["full"]["accuracy"]["total"] == 11
    assert overlap["numbers"]["full"]["accuracy"]["total"] == 5
    rows = read_samples(tmp_path / "m" / "mine" / "samples.parquet")
    copies = rows.filter(pl.col("split") == "overlap")["id"].to_list()
    assert all(id_.startswith("test/1:copy-") for id_ in copies)
    assert len(copies) == 5
    only = read_samples(tmp_path / "m" / "mine#clean" / "samples.parquet")
    assert only.equals(rows.filter(pl.col("split") == "clean"))


def test_shifted_images_keep_their_splits(
    place: Path, split: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, decided = split
    words = ("mine.typographic", "mine.sequence-tilt", "mine.typographic#overlap")
    model = small(place / "vit")
    found = measure(asked(folder, tmp_path / "m", *words, split=str(decided), model=model))
    for summary in found[:2]:
        assert summary["numbers"]["overlap"]["accuracy"]["total"] == 5
    assert found[2]["numbers"]["full"]["accuracy"]["total"] == 5


def test_images_of_unknown_split_count_in_the_whole_only(place: Path, tmp_path: Path) -> None:
    folder = write_test_set(tmp_path / "set", 9)
    decided = split_of(open_dataset(str(folder / "test")), tmp_path / "split")
    table = decided / "decisions.parquet"
    frame = pl.read_parquet(table)
    known = frame.with_columns(
        decision=pl.when(pl.col("position") == 0).then(pl.lit("unknown")).otherwise("decision")
    )
    known.write_parquet(table)
    model = small(place / "vit")
    (found,) = measure(asked(folder, tmp_path / "m", "mine", split=str(decided), model=model))
    totals = {part: row["accuracy"]["total"] for part, row in found["numbers"].items()}
    assert totals["full"] == 9
    assert totals["clean"] + totals["overlap"] == 7


def test_images_that_could_not_be_read_when_the_set_was_split_are_left_out(
    place: Path, tmp_path: Path
) -> None:
    images = {f"{n:03}": encoded(picture(n, 32)) for n in range(8)} | {"cut": b"\xff\xd8 no more"}
    folder = write_one(tmp_path / "set", images)
    model = small(place / "vit")
    with pytest.raises(CurateError, match="cut"):
        measure(asked(folder, tmp_path / "m", "mine", model=model))
    decided = split_of(open_dataset(str(folder / "test")), tmp_path / "split")
    table = decided / "decisions.parquet"
    words = {"decision": "unknown", "reason": "failed_to_decode"}
    is_cut = pl.col("key") == "cut"
    pl.read_parquet(table).with_columns(
        **{name: pl.when(is_cut).then(pl.lit(word)).otherwise(name) for name, word in words.items()}
    ).write_parquet(table)
    (found,) = measure(asked(folder, tmp_path / "m", "mine", split=str(decided), model=model))
    assert found["numbers"]["full"]["accuracy"]["total"] == 8
    rows = read_samples(tmp_path / "m" / "mine" / "samples.parquet")
    assert not [id_ for id_ in rows["id"] if id_.endswith("cut")]


def test_the_split_of_another_set_is_refused(
    place: Path, split: tuple[Path, Path], tmp_path: Path
) -> None:
    _, decided = split
    request = asked(
        place / "set", tmp_path / "m", "mine", split=str(decided), model=small(place / "vit")
    )
    with pytest.raises(CurateError, match=r"12 of 12 images have no decision, .* very set"):
        measure(request)
    with pytest.raises(CurateError, match="no image of mine is in its clean split"):
        measure(replace(request, settings=("mine#clean",)))


def test_a_split_that_was_not_given_is_asked_for(place: Path, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"no split of mine was given.* --split"):
        measure(asked(place / "set", tmp_path / "m", "mine#clean"))


def test_a_split_that_comes_later_is_joined_without_measuring_again(
    place: Path, split: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, decided = split
    words = ("mine", "mine@fgsm.eps2.native")
    model = small(place / "vit")
    measure(asked(folder, tmp_path / "m", *words, model=model))
    before = (tmp_path / "m" / words[1] / "examples.npz").read_bytes()
    monkeypatch.setattr(stage, "measure_piece", None)
    found = measure(asked(folder, tmp_path / "m", *words, model=model, split=str(decided)))
    assert [set(row["numbers"]) >= {"clean", "overlap"} for row in found] == [True, True]
    assert (tmp_path / "m" / words[1] / "examples.npz").read_bytes() == before
    assert not artifacts.verify(tmp_path / "m" / "mine")


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mine@pgd.eps4.native", "attack 'pgd': unknown"),
        ("mine@fgms.eps4.native", "did you mean 'fgsm'"),
        ("mine.fgo.3", "did you mean 'fog'"),
        ("mine.fog", "needs a severity"),
        ("mine.typographic.3", "has no severities"),
        ("mine.sequence-tlit", "did you mean 'sequence-tilt'"),
        ("mine.sequence-tilt@fgsm", "sequences are not attacked"),
        ("mein", "did you mean 'mine'"),
        ("mine@cw-l2.linf.eps4", "is defined for l2, not linf"),
    ],
)
def test_an_unknown_setting_is_refused_before_anything_is_computed(
    place: Path, tmp_path: Path, word: str, said: str
) -> None:
    with pytest.raises(CurateError, match=said):
        measure(asked(place / "set", tmp_path / "m", "mine", word))
    assert not (tmp_path / "m" / "mine").exists()


@pytest.mark.parametrize("name", ["cifar10", "imagenet-a", "objectnet"])
def test_a_missing_folder_says_where_to_get_it_and_what_it_holds(
    place: Path, tmp_path: Path, name: str
) -> None:
    request = replace(
        asked(tmp_path / "nowhere", tmp_path / "m", name),
        sources=(Source(name, str(tmp_path / "nowhere")),),
    )
    with pytest.raises(CurateError, match=rf"nowhere: no such folder\. {name} is to be had from"):
        measure(request)


def test_another_number_of_classes_is_refused(place: Path, tmp_path: Path) -> None:
    request = replace(
        asked(place / "set", tmp_path / "m", "cifar10"),
        sources=(Source("cifar10", str(place / "set")),),
    )
    with pytest.raises(CurateError, match="3 classes, but cifar10 has 10"):
        measure(request)


def test_an_empty_set_is_refused(place: Path, tmp_path: Path) -> None:
    write_one(tmp_path / "set", {})
    with pytest.raises(CurateError, match="nothing to evaluate"):
        measure(asked(tmp_path / "set", tmp_path / "m", "mine", model=small(place / "vit")))


def test_images_of_every_mode_are_measured(place: Path, tmp_path: Path) -> None:
    image = picture(4, 48)
    frames = [picture(n, 48) for n in (5, 6)]
    wide = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    write_one(
        tmp_path / "set",
        {
            "grey": encoded(image.convert("L")),
            "cmyk": encoded(image.convert("CMYK"), "JPEG"),
            "palette": encoded(image.convert("P")),
            "alpha": encoded(image.convert("RGBA")),
            "sixteen": encoded(wide),
            "animated": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        },
    )
    words = ("mine", "mine.fog.1", "mine@fgsm.eps2.native")
    for found in measure(
        asked(tmp_path / "set", tmp_path / "r" / "m", *words, model=small(place / "vit"))
    ):
        assert found["numbers"]["full"]["accuracy"]["total"] == 6


@pytest.mark.parametrize("word", ["mine", "mine.fog.1", "mine@fgsm.native", "mine.sequence-tilt"])
def test_a_truncated_image_is_named(place: Path, tmp_path: Path, word: str) -> None:
    data = encoded(picture(3, 32))
    write_one(tmp_path / "set", {"good": data, "torn": data[: len(data) // 2]})
    with pytest.raises(PartialRunError, match="0:torn is no image that can be used"):
        measure(asked(tmp_path / "set", tmp_path / "r" / "m", word, model=small(place / "vit")))


def test_weights_that_are_not_finite_are_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "vit", tmp_path / "vit")
    weights = load_file(tmp_path / "vit" / "open_clip_model.safetensors")
    weights["visual.proj"][0, 0] = float("nan")
    save_file(weights, tmp_path / "vit" / "open_clip_model.safetensors")
    for word in ("mine", "mine@pgd-3.eps1.native"):
        with pytest.raises(CurateError, match="NaN"):
            measure(asked(place / "set", tmp_path / "m", word, model=small(tmp_path / "vit")))
    assert not list((tmp_path / "m").glob("*/summary.json"))


def test_a_full_disk_leaves_no_result_and_the_run_goes_on(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    request = asked(place / "set", tmp_path / "m", "mine", model=small(place / "vit"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CurateError, match="No space left"):
            measure(request)
    assert not (tmp_path / "m" / "mine").exists()
    measure(request)
    assert rows_of(tmp_path / "m")["mine"] == rows_of(whole)["mine"]


def test_an_output_that_cannot_be_written_is_named(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CurateError, match=r"file.*cannot be written.*--out"):
        measure(asked(place / "set", tmp_path / "file" / "m", "mine"))


def test_two_runs_do_not_write_the_same_results(place: Path, tmp_path: Path) -> None:
    request = asked(place / "set", tmp_path / "m", "mine", model=small(place / "vit"))
    with (
        artifacts.run_lock(tmp_path / "m"),
        pytest.raises(CurateError, match="another curate process"),
    ):
        measure(request)


def test_a_binary_set_falls_back_where_dlr_is_not_defined(place: Path, tmp_path: Path) -> None:
    write_test_set(tmp_path / "set", 6, names=("cat", "dog"))
    words = ("mine@pgd-dlr-2.eps1.native", "mine@apgd-ce+dlr.eps1.native")
    found = measure(
        asked(tmp_path / "set", tmp_path / "r" / "m", *words, model=small(place / "vit"))
    )
    assert [row["numbers"]["full"]["accuracy"]["total"] for row in found] == [6, 6]


def test_a_piece_is_computed_by_one_thread(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads sum in another order, and an attack turns a last bit into another walk."""
    seen: list[int] = []
    computed = stage.plain_rows

    def counted(*given: Any) -> pl.DataFrame:
        seen.append(torch.get_num_threads())
        return computed(*given)

    monkeypatch.setattr(stage, "plain_rows", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure(asked(place / "set", tmp_path / "out", "mine", model=small(place / "vit")))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


def test_words_come_from_a_label_map_where_one_is_given(tmp_path: Path) -> None:
    folder = write_test_set(tmp_path / "set", 6)
    table = tmp_path / "words.csv"
    lines = [f"{id_},{(label + 1) % 3}" for id_, label in _labels(folder)]
    table.write_text("\n".join(["id,word", *lines]))
    measure(asked(folder, tmp_path / "out", "mine.typographic", words=str(table)))
    rows = read_samples(tmp_path / "out" / "mine.typographic" / "samples.parquet")
    assert rows["word"].to_list() == [(label + 1) % 3 for label in rows["label"]]


def _labels(folder: Path) -> list[tuple[str, int]]:
    items = open_evalset("mine", folder).items
    return list(zip(items["id"], items["label"], strict=True))
