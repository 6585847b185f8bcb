"""Verdicts of those who look again: right where there is no doubt, and the same every time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pictures import picture
from PIL import Image, ImageDraw, ImageOps

from curate.copies import plant
from curate.demo.pictures import SCENES, paint
from curate.encoders import EncoderSpec, cached_encoder
from curate.encoders.fit_layout import draw_leaves, draw_scene
from curate.errors import CurateError
from curate.verification.verifiers import (
    AT_ONCE,
    PIXELS,
    PIXELS_THRESHOLD,
    DetectorVerifier,
    PixelVerifier,
    Verifier,
    VerifierSpec,
    cached_verifier,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAMES = (PIXELS, "builtin:layout", "phash:phash")


def load(name: str) -> Verifier:
    return cached_verifier(VerifierSpec(EncoderSpec(name)))


def described(verifier: Verifier, images: Sequence[Image.Image]) -> NDArray[Any]:
    return verifier.describe(np.stack([verifier.preprocess(image) for image in images]))


def compared(
    verifier: Verifier, queries: Sequence[Image.Image], items: Sequence[Image.Image]
) -> tuple[NDArray[np.float32], list[str | None]]:
    """Scores, and why pairs are refused; the first search gave 0.9 to each."""
    first = np.full(len(queries), 0.9, np.float32)
    sides = described(verifier, queries), described(verifier, items)
    score, value = verifier.score(*sides, first)
    assert score.dtype == value.dtype == np.float32
    return score, [verifier.refusal(float(each)) for each in value]


def drawn(count: int) -> list[Image.Image]:
    return [
        (draw_scene, draw_leaves)[n % 2](np.random.default_rng(n)).convert("RGB")
        for n in range(count)
    ]


def blank(*colours: str) -> list[Image.Image]:
    return [Image.new("RGB", (90, 60), colour) for colour in colours]


def written(words: str) -> Image.Image:
    page = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(page).text((16, 110), words, fill="black", font_size=32)
    return page


# --- pixels --------------------------------------------------------------------------------------


def test_equal_pictures_score_one_blank_ones_too() -> None:
    images = [*drawn(4), *blank("white", "black", "teal"), written("hello")]
    score, refused = compared(load(PIXELS), images, images)
    assert score.tolist() == [1.0] * len(images)
    assert refused == [None] * len(images)


def test_a_resized_picture_is_equal_but_for_noise() -> None:
    images = [image.resize((200, 160)) for image in drawn(3)]
    smaller = [image.resize((128, 96)) for image in images]
    score, _ = compared(load(PIXELS), images, smaller)
    assert score.min() >= PIXELS_THRESHOLD


def test_other_words_on_white_are_not_equal() -> None:
    words = ["receipt 4711", "receipt 4712", "thank you", ""]
    pages = [written(word) for word in words]
    score, _ = compared(load(PIXELS), pages, pages[1:] + pages[:1])
    assert score.max() < 1


def test_blank_pictures_of_other_colours_are_not_equal() -> None:
    score, _ = compared(load(PIXELS), blank("white", "teal"), blank("black", "navy"))
    assert score.max() < 1


def test_cut_and_turned_copies_are_told_from_other_pictures() -> None:
    images = drawn(12)
    cut = [image.crop((10, 16, image.width - 12, image.height - 4)) for image in images]
    turned = [image.rotate(4, Image.Resampling.BILINEAR) for image in images]
    copies = np.concatenate([compared(load(PIXELS), each, images)[0] for each in (cut, turned)])
    others = compared(load(PIXELS), images[1:] + images[:1], images)[0]
    assert np.median(copies) > others.max()
    assert (copies >= PIXELS_THRESHOLD).mean() > 0.8
    assert (others < PIXELS_THRESHOLD).mean() > 0.8


@pytest.mark.parametrize("seed", [77, 78])
def test_drawn_skylines_are_told_from_copies_of_each_other(seed: int) -> None:
    """Two takes of each of four plans, painted with seeds that nothing was fitted to."""
    skyline = [scene.name for scene in SCENES].index("night skyline")
    images = [paint(seed, skyline, n // 2, n % 2).image for n in range(8)]
    others = np.concatenate(
        [compared(load(PIXELS), images[:-by], images[by:])[0] for by in range(1, 8)]
    )
    rng = np.random.default_rng(seed)
    edits = (("jpeg", 3), ("crop_centre", 1), ("greyscale", 3), ("text", 2))
    copies = np.concatenate([
        compared(load(PIXELS), [plant(image, *edit, rng) for image in images], images)[0]
        for edit in edits
    ])  # fmt: skip
    assert len(others) == 28
    assert (others >= PIXELS_THRESHOLD).sum() <= 1
    assert copies.min() >= PIXELS_THRESHOLD


def test_scores_are_shares_and_those_below_the_floor_are_refused() -> None:
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(4)]
    images = [*drawn(4), *noise, *blank("white", "black"), written("hello")]
    verifier = load(PIXELS)
    for by in (1, 4, 5):
        score, refused = compared(verifier, images, images[by:] + images[:by])
        assert ((score >= 0) & (score <= 1)).all()
        floor = verifier.floor
        assert floor is not None
        assert [reason is not None for reason in refused] == (score < floor).tolist()
    assert verifier.refusal(floor) is None
    assert verifier.refusal(0.0123) == "pixels do not agree once aligned (0.012 < 0.02)"
    assert verifier.refusal(float("nan")) is not None


# --- detectors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["builtin:layout", "phash:phash"])
def test_a_detector_confirms_or_refuses_by_its_own_threshold(name: str) -> None:
    verifier = load(name)
    assert isinstance(verifier, DetectorVerifier)
    images = [picture(n) for n in range(4)]
    queries = [images[0].resize((40, 44)), images[1], images[2]]
    score, refused = compared(verifier, queries, [images[0], images[1], images[3]])
    assert score.tolist() == [np.float32(0.9)] * 3
    assert refused[:2] == [None, None]
    assert refused[2] is not None
    assert re.fullmatch(rf"{name}: -?0\.\d{{3}} < {verifier.threshold:g}", refused[2])


def test_the_threshold_itself_is_no_refusal_and_no_number_is_one() -> None:
    verifier = DetectorVerifier(cached_encoder(EncoderSpec("phash:phash")), 0.1)
    assert verifier.refusal(float(np.float32(0.1))) is None
    assert verifier.refusal(0.0999) == "phash:phash: 0.100 < 0.1"
    assert verifier.refusal(float("nan")) == "phash:phash: nan < 0.1"


def test_a_detector_says_the_cosine_of_its_vectors() -> None:
    verifier, encoder = load("builtin:layout"), cached_encoder(EncoderSpec("builtin:layout"))
    images = [picture(n) for n in range(6)]
    vectors = encoder.encode(np.stack([encoder.preprocess(image) for image in images]))
    sides = described(verifier, images), described(verifier, images[::-1])
    _, value = verifier.score(*sides, np.zeros(6, np.float32))
    wanted = (vectors.astype(np.float64) * vectors[::-1]).sum(axis=1)
    assert value.tolist() == pytest.approx(wanted.tolist(), abs=1e-7)


# --- all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_has_the_same_bits_in_any_company(name: str) -> None:
    verifier = load(name)
    images = [*drawn(6), *(picture(n) for n in range(AT_ONCE - 8)), *blank("white", "black")]
    queries = [ImageOps.mirror(image).rotate(3) for image in images]
    sides = described(verifier, queries), described(verifier, images)
    cosine = np.linspace(0.5, 1, len(images), dtype=np.float32)

    def bits(rows: NDArray[np.int64]) -> list[bytes]:
        found = verifier.score(*(side[rows] for side in sides), cosine[rows])
        return [np.array(pair).tobytes() for pair in zip(*found, strict=True)]

    whole = bits(np.arange(len(images)))
    order = np.random.default_rng(0).permutation(len(images))
    assert bits(order) == [whole[n] for n in order]
    for rows in (order[:1], order[1:8], np.resize(order, AT_ONCE)):
        assert bits(rows) == [whole[n] for n in rows]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_of_an_image_is_as_stated(name: str) -> None:
    verifier = load(name)
    images = [picture(n, 30 + n) for n in range(3)]
    kept = described(verifier, images)
    assert kept.shape == (3, *verifier.shape)
    assert kept.dtype == verifier.dtype
    alone = np.concatenate([described(verifier, [image]) for image in images])
    assert alone.tobytes() == kept.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_statement_is_json_and_names_who_looks(name: str) -> None:
    spec = VerifierSpec(EncoderSpec(name), top=7)
    stated = spec.config()
    assert json.loads(json.dumps(stated)) == stated
    assert (stated["name"], stated["top"]) == (name, 7)


def test_all_that_decides_on_pixels_is_stated() -> None:
    stated = load(PIXELS).config()
    network = cached_encoder(EncoderSpec("builtin:copy"))
    assert stated["network"] == network.weights_digest()
    assert len(stated["weights"]["weights"]) == 22
    assert stated["alignment"]["side"] == 64
    assert re.fullmatch(r"[0-9a-f]{64}", stated["probe"])
    assert PixelVerifier(network, floor=0.1).config() == stated | {"floor": 0.1}


def test_all_that_decides_on_vectors_is_stated() -> None:
    stated = load("builtin:layout").config()
    assert stated["threshold"] == 0.82
    assert {"name", "dim", "weights", "preprocessing", "probe"} <= set(stated)


def test_an_unknown_verifier_is_refused() -> None:
    with pytest.raises(CurateError, match="was expected"):
        load("pixel")
