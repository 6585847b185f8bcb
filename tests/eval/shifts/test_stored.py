"""Shifted sets that are made once and read from then on."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from evalset_trees import by_id, write_files
from pictures import encoded, picture, tree

from curate import artifacts
from curate.errors import CurateError, PartialRunError
from curate.units import Outcome, run_in_process
from eval.datasets.registry import open_evalset
from eval.shifts import stored
from eval.shifts.corruptions import Corruption
from eval.shifts.typographic import typographic_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from eval.datasets.evalset import EvalSet
    from eval.geometry import Pixels

NOISE = Corruption("gaussian_noise", 3, "cifar-10-c")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvalSet:
    """Seven small images of two classes, three to a shard."""
    monkeypatch.setattr(stored, "PER_SHARD", 3)
    for number in range(7):
        name = "ab"[number % 2]
        write_files(tmp_path / "set", (f"{name}/{number}.png",), encoded(picture(number, 32)))
    return open_evalset("letters", tmp_path / "set")


def test_items_keep_ids_labels_and_order(source: EvalSet, tmp_path: Path) -> None:
    made = stored.write_shifted(source, NOISE, tmp_path / "out")
    assert made.name == "letters.gaussian_noise.3"
    assert by_id(made.items) == by_id(source.items)
    assert made.items["id"].to_list() == source.items["id"].to_list()
    assert (made.classes, made.templates) == (source.classes, source.templates)


def test_stored_pictures_are_what_the_shift_makes(source: EvalSet, tmp_path: Path) -> None:
    made = stored.write_shifted(source, NOISE, tmp_path / "out")
    for id_ in source.items["id"]:
        assert np.array_equal(np.asarray(made.image(id_)), NOISE.apply(source.image(id_), id_))


def test_a_second_time_nothing_is_done(source: EvalSet, tmp_path: Path) -> None:
    def none(_function: Callable[[Any], Any], _units: Sequence[Any]) -> Iterator[Outcome]:
        pytest.fail("units were run")

    first = stored.write_shifted(source, NOISE, tmp_path / "out")
    again = stored.write_shifted(source, NOISE, tmp_path / "out", run_units=none)
    assert again.digest == first.digest


def test_order_of_units_and_other_processes_change_no_byte(source: EvalSet, tmp_path: Path) -> None:
    def backwards(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        return run_in_process(function, [pickle.loads(pickle.dumps(u)) for u in units[::-1]])

    stored.write_shifted(source, NOISE, tmp_path / "one")
    stored.write_shifted(source, NOISE, tmp_path / "two", run_units=backwards)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert artifacts.verify(tmp_path / "one") == []


def test_a_broken_run_goes_on_where_it_was(source: EvalSet, tmp_path: Path) -> None:
    done = []

    def counting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in units:
            whole = (stored._part(tmp_path / unit.work, unit.number)).is_file()
            done.append(whole)
            yield Outcome(unit, function(unit))

    def failing(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        yield Outcome(units[0], function(units[0]))
        yield Outcome(units[1], error="the disk is full")

    with pytest.raises(PartialRunError, match="the disk is full"):
        stored.write_shifted(source, NOISE, tmp_path / "out", run_units=failing)
    assert not (tmp_path / "out").exists()
    stored.write_shifted(source, NOISE, tmp_path / "out", run_units=counting)
    stored.write_shifted(source, NOISE, tmp_path / "whole")
    assert done == [True, False, False]
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    "other",
    [
        Corruption("gaussian_noise", 4, "cifar-10-c"),
        Corruption("gaussian_noise", 3, "cifar-10-c", seed=1),
    ],
)
def test_another_shift_makes_the_folder_again(
    source: EvalSet, tmp_path: Path, other: Corruption
) -> None:
    first = stored.write_shifted(source, NOISE, tmp_path / "out")
    again = stored.write_shifted(source, other, tmp_path / "out")
    assert again.images_digest != first.images_digest
    id_ = source.items["id"][0]
    assert np.array_equal(np.asarray(again.image(id_)), other.apply(source.image(id_), id_))


def test_fewer_items_make_the_folder_again(source: EvalSet, tmp_path: Path) -> None:
    stored.write_shifted(source, NOISE, tmp_path / "out")
    part = replace(source, items=source.items[:2])
    assert stored.write_shifted(part, NOISE, tmp_path / "out").items.height == 2


def test_other_texts_use_the_same_pictures(source: EvalSet, tmp_path: Path) -> None:
    first = stored.write_shifted(source, NOISE, tmp_path / "out")
    texts = replace(source, templates=("the {}",))
    again = stored.write_shifted(texts, NOISE, tmp_path / "out")
    assert again.images_digest == first.images_digest
    assert again.templates == ("the {}",)


def test_clip_benchmarks_layout_holds_the_same(source: EvalSet, tmp_path: Path) -> None:
    made = stored.write_shifted(source, NOISE, tmp_path / "out")
    found = open_evalset("letters", tmp_path / "out")
    assert found.items["label"].to_list() == made.items["label"].to_list()
    assert found.read(found.items["id"][-1]) == made.read(made.items["id"][-1])


def test_words_are_kept_with_the_items(source: EvalSet, tmp_path: Path) -> None:
    shift = typographic_for(source.image(source.items["id"][0]), source.labels)
    made = stored.write_shifted(source, shift, tmp_path / "out")
    assert made.name == "letters.typographic"
    assert made.cropped
    assert (made.items["word"] == 1 - made.items["label"]).all()


@dataclass(frozen=True)
class OnlyB:
    """A shift that suits the second class alone."""

    usable: int = 1
    word = "only"
    cropped = False

    def facts(self) -> dict[str, Any]:
        return {"usable": self.usable}

    def made(self, image: Image.Image, _id: str, label: int) -> tuple[Pixels, None] | None:
        return (np.asarray(image, np.uint8), None) if label == self.usable else None


def test_images_that_the_shift_does_not_suit_are_left_out(source: EvalSet, tmp_path: Path) -> None:
    made = stored.write_shifted(source, OnlyB(), tmp_path / "out")
    assert made.items["id"].to_list() == ["b:1.png", "b:3.png", "b:5.png"]
    counts = artifacts.read_manifest(tmp_path / "out").counts
    assert counts == {"images": 3, "left_out": 4}


def test_a_shift_that_suits_nothing_is_an_error(source: EvalSet, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no image suits only"):
        stored.write_shifted(source, OnlyB(usable=7), tmp_path / "out")


def test_an_image_of_another_size_is_an_error_of_its_unit(source: EvalSet, tmp_path: Path) -> None:
    write_files(tmp_path / "set", ("a/0.png",), encoded(picture(0, 40)))
    with pytest.raises(PartialRunError, match=r"a:0\.png: is 40 x 40"):
        stored.write_shifted(source, NOISE, tmp_path / "out")


def test_two_processes_do_not_make_the_same_set(source: EvalSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        artifacts.artifact_lock(out),
        pytest.raises(CurateError, match="another curate process is working there"),
    ):
        stored.write_shifted(source, NOISE, out)
    made = stored.write_shifted(source, NOISE, out)
    with artifacts.artifact_lock(out):  # what is there may be read meanwhile
        assert stored.write_shifted(source, NOISE, out).digest == made.digest
