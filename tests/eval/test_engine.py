"""Rows from images: what they say is what the classifier says, whatever the batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curate.errors import CurateError
from eval.attacks.guard import NotFiniteError
from eval.attacks.registry import find_attack
from eval.engine import attacked_rows, in_batches, plain_rows, sequence_rows
from eval.models.wrappers import Steady
from eval.pictures import Pictures
from eval.shifts.sequences import video_frames

if TYPE_CHECKING:
    from eval.geometry import Pixels
    from eval.models.classifier import ZeroShot


def pictures(count: int = 20, size: int = 32, seed: int = 0, classes: int = 5) -> Pictures:
    draws = torch.Generator().manual_seed(seed)
    return Pictures(
        tuple(f"0:{number}" for number in range(count)),
        torch.randint(0, classes, (count,), generator=draws),
        ((),) * count,
        (None,) * count,
        (None,) * count,
        torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draws),
    )


class Fixed(nn.Module):
    """Answers with the same logits to every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))
        self.logits: Tensor

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


@pytest.mark.parametrize("batch", [1, 3, 20, 64])
def test_rows_say_what_the_classifier_says(classifier: ZeroShot, batch: int) -> None:
    given = pictures()
    rows = plain_rows(Steady(classifier), given, batch)
    with torch.no_grad():
        logits = Steady(classifier)(given.images.float() / 255)
    assert rows["id"].to_list() == list(given.ids)
    assert rows["pred"].to_list() == logits.argmax(dim=1).tolist()
    for row, label in enumerate(given.labels.tolist()):
        others = [float(value) for place, value in enumerate(logits[row]) if place != label]
        assert rows["margin"][row] == pytest.approx(float(logits[row, label]) - max(others))
    assert rows["clean_pred"].null_count() == len(given)


def test_any_of_several_right_labels_is_right() -> None:
    one = pictures(3)
    given = replace(one, labels=torch.tensor([0, 0, 0]), also=((), (2,), (1,)))
    rows = plain_rows(Fixed([1.0, 0.5, 3.0]), given, 8)
    assert rows["correct"].to_list() == [False, True, False]
    assert rows["label"].to_list() == [0, 2, 0]
    assert rows["margin"].to_list() == [-2.0, 2.0, -2.0]


@pytest.mark.parametrize("name", ["pgd-5", "fgsm", "noise", "apgd-ce"])
def test_rows_under_attack_are_the_same_for_any_batch(classifier: ZeroShot, name: str) -> None:
    steady, attack = Steady(classifier).eval(), find_attack(name, eps=2)
    whole, images = attacked_rows(steady, attack, pictures(), seed=3, batch=64)
    for batch in (1, 7):
        rows, worst = attacked_rows(steady, attack, pictures(), seed=3, batch=batch)
        assert rows.equals(whole)
        assert torch.equal(worst, images)
    assert (whole["linf"] <= 2 + 1e-3).all()
    assert set(whole["seed"]) == {3}
    clean = plain_rows(steady, pictures(), 64)
    assert whole["clean_pred"].to_list() == clean["pred"].to_list()
    assert not (whole["correct"] & ~clean["correct"]).any()


def test_a_least_perturbation_that_was_not_found_is_null() -> None:
    class Linear(nn.Module):
        """No change of pixels tells the classes apart."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)

        def forward(self, images: Tensor) -> Tensor:
            first = images.mean(dim=(1, 2, 3)) * 1e-4 + self.weight
            return torch.stack([first + 1, first], dim=1)

    given = pictures(4, classes=1)
    rows, _ = attacked_rows(Linear().eval(), find_attack("deepfool", eps=4), given, seed=0, batch=4)
    assert rows["linf"].null_count() == 4
    assert rows["correct"].all()


def test_flips_are_counted_against_the_first_or_the_frame_before() -> None:
    class Bright(nn.Module):
        """Class 1 for bright images."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("zero", torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            light = images.mean(dim=(1, 2, 3))
            return torch.stack([1 - light, light], dim=1)

    def count(kind: str, levels: list[int]) -> list[int]:
        def frames(_id: str) -> Pixels:
            return np.stack([np.full((3, 4, 4), level, np.uint8) for level in levels])

        rows = sequence_rows(Bright(), kind, frames, pictures(3, 4, classes=2))
        assert set(rows["comparisons"]) == {len(levels) - 1}
        assert set(rows["pred"]) == {0}
        return rows["flips"].to_list()

    assert count("gaussian_noise", [10, 200, 20, 30, 40]) == [1, 1, 1]
    assert count("translate", [10, 200, 20, 30, 40]) == [2, 2, 2]
    assert count("gaussian_noise", [10, 200, 210, 220]) == [3, 3, 3]
    assert count("translate", [10, 200, 210, 220]) == [1, 1, 1]


def test_a_sequence_that_cannot_be_read_is_told_with_its_id() -> None:
    def frames(_id: str) -> Pixels:
        return video_frames(b"nothing")

    with pytest.raises(CurateError, match=r"^0:0 is no sequence that can be used \(.*no video"):
        sequence_rows(Fixed([0.0, 1.0]), "tilt", frames, pictures(2, 4, classes=2))


def test_short_memory_halves_the_batch_and_nothing_is_lost() -> None:
    asked: list[tuple[int, int]] = []

    def work(rows: slice) -> list[int]:
        asked.append((rows.start, rows.stop))
        if rows.stop - rows.start > 3:
            raise torch.OutOfMemoryError("too many")
        return list(range(rows.start, rows.stop))

    parts = in_batches(10, 8, work)
    assert [number for part in parts for number in part] == list(range(10))
    assert asked[:3] == [(0, 8), (0, 4), (0, 2)]


def test_one_image_too_many_is_an_error() -> None:
    def work(_rows: slice) -> None:
        raise torch.OutOfMemoryError("too many")

    with pytest.raises(torch.OutOfMemoryError):
        in_batches(4, 2, work)


def test_logits_that_are_not_finite_stop_it() -> None:
    with pytest.raises(NotFiniteError):
        plain_rows(Fixed([0.0, math.nan]), pictures(2, classes=2), 2)
