"""Perturbation sequences and how often predictions flip along them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture
from PIL import Image

from curate.errors import CurateError
from eval.shifts import chance, sequences
from eval.shifts.registry import NOISES, PERTURBATIONS
from eval.shifts.sequences import VideoError, count_flips, sequence, video_frames

if TYPE_CHECKING:
    from pathlib import Path


def made(kind: str, size: int = 32, seed: int = 0) -> np.ndarray:
    return sequence(kind, picture(1, size), chance.generator(seed, "a", kind))


@pytest.mark.parametrize("size", [32, 300])
@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_frames_are_as_many_and_as_large_as_published(kind: str, size: int) -> None:
    odd = {32: {"translate": 16, "motion_blur": 21}, 300: {"translate": 41}}
    side = 32 if size == 32 else 224
    frames = made(kind, size)
    assert frames.shape == (odd[size].get(kind, 31), 3, side, side)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, made(kind, size))


@pytest.mark.parametrize("kind", [*NOISES, "zoom_blur"])
def test_the_first_frame_is_the_image(kind: str) -> None:
    assert np.array_equal(made(kind)[0].transpose(1, 2, 0), np.asarray(picture(1, 32)))


@pytest.mark.parametrize("kind", [*NOISES, "snow"])
def test_what_is_drawn_depends_on_the_seed(kind: str) -> None:
    assert not np.array_equal(made(kind)[1], made(kind, seed=1)[1])


@pytest.mark.parametrize(
    ("kind", "middle"), [("brightness", 15), ("rotate", 15), ("translate", 7), ("scale", 15)]
)
def test_in_the_middle_the_image_is_whole(kind: str, middle: int) -> None:
    shown = made(kind)[middle].transpose(1, 2, 0).astype(float)
    assert np.abs(shown - np.asarray(picture(1, 32))).max() <= 2


def test_tilt_stands_upright_in_the_middle() -> None:
    shown = made("tilt", 300)[15].transpose(1, 2, 0).astype(float)
    middle = made("brightness", 300)[15].transpose(1, 2, 0)
    assert np.abs(shown - middle).mean() < 2  # the published projection shrinks by 1 in 360


def test_noise_has_the_published_strength() -> None:
    grey = Image.new("RGB", (32, 32), (128, 128, 128))
    frames = sequence("gaussian_noise", grey, chance.generator(0, "a"))[1:]
    assert frames.astype(float).std() / 255 == pytest.approx(0.02, rel=0.05)
    large = sequence("gaussian_noise", grey.resize((256, 256)), chance.generator(0, "a"))[1:]
    assert large.astype(float).std() / 255 == pytest.approx(0.03, rel=0.05)


def test_translation_moves_one_pixel_a_frame() -> None:
    frames = made("translate")
    for one, other in pairwise(frames[:8]):
        assert np.array_equal(one[:, :, :20], other[:, :, 1:21])


def test_brightness_rises_along_the_sequence() -> None:
    means = made("brightness", 300).mean(axis=(1, 2, 3))
    assert (np.diff(means) >= 0).all()
    assert means[-1] - means[0] > 60


@given(st.lists(st.integers(0, 3), min_size=2, max_size=20))
def test_flips_against_the_obvious_count(predictions: list[int]) -> None:
    before = sum(one != other for one, other in pairwise(predictions))
    first = sum(other != predictions[0] for other in predictions[1:])
    assert count_flips("rotate", predictions) == (before, len(predictions) - 1)
    assert count_flips("shot_noise", predictions) == (first, len(predictions) - 1)


def test_a_prediction_that_comes_back_flips_twice_but_for_noise() -> None:
    assert count_flips("tilt", [1, 1, 2, 1]) == (2, 3)
    assert count_flips("gaussian_noise", [1, 1, 2, 1]) == (1, 3)


def test_an_unknown_kind_suggests_the_nearest() -> None:
    with pytest.raises(CurateError, match="did you mean 'rotate'"):
        made("rotation")


def video(folder: Path, shades: tuple[int, ...]) -> bytes:
    """Blue frames of 64 pixels."""
    path = folder / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 1.0, (64, 64))
    for shade in shades:
        writer.write(np.full((64, 64, 3), (shade, 0, 0), np.uint8))  # blue comes first here
    writer.release()
    return path.read_bytes()


def test_stored_sequences_are_read_frame_by_frame(tmp_path: Path) -> None:
    frames = video_frames(video(tmp_path, (10, 120, 240)))
    assert frames.shape == (3, 3, 64, 64)
    blues = frames[:, 2].mean(axis=(1, 2))
    assert np.abs(blues - [10, 120, 240]).max() < 12
    assert frames[:, 0].mean() < 12


def test_bytes_that_are_no_video_are_an_error() -> None:
    with pytest.raises(VideoError, match="no video"):
        video_frames(b"nothing")


@pytest.mark.parametrize(("limit", "most"), [("MOST_FRAMES", 3), ("MOST_BYTES", 3 * 3 * 64 * 64)])
def test_a_video_beyond_a_limit_is_not_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(sequences, limit, most)
    assert len(video_frames(video(tmp_path, (10, 20, 30)))) == 3
    with pytest.raises(VideoError, match="frames of 64 x 64, and at least 4 of them"):
        video_frames(video(tmp_path, (10, 20, 30, 40, 50, 60)))
