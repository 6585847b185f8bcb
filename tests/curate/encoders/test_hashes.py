"""Hashes as vectors: a cosine is a Hamming distance, exactly, and copies are found by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture
from PIL import Image

from curate.encoders import EncoderSpec, fingerprint, load_encoder
from curate.encoders.hashes import BITS, KINDS, cosine
from curate.errors import CurateError
from indices.scores import pair_scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from curate.encoders import Encoder


def load(kind: str) -> Encoder:
    return load_encoder(EncoderSpec(f"phash:{kind}"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_are_those_of_the_package(kind: str, image: Image.Image) -> None:
    bits = load(kind).preprocess(image)
    wanted = getattr(imagehash, kind)(image).hash
    assert np.array_equal(bits, wanted.reshape(-1))
    assert bits.dtype == load(kind).input_dtype


@given(st.lists(st.booleans(), min_size=BITS, max_size=BITS), st.sets(st.integers(0, BITS - 1)))
def test_a_cosine_is_a_hamming_distance_in_float16_too(bits: list[bool], turned: set[int]) -> None:
    first = np.array(bits, dtype=np.int8)
    second = first.copy()
    second[list(turned)] ^= 1
    vectors = load("phash").encode(np.stack([first, second]))
    for dtype in (np.float16, np.float32):
        stored = vectors.astype(dtype)
        score = pair_scores(stored[:1], stored[1:], np.array([0]), np.array([0]))[0]
        assert score == np.float32(cosine(len(turned)))


def test_any_batch_gives_the_same_bits(same_bits: Callable[[Encoder], None]) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (19, BITS), dtype=np.int8)
    encoder = load("dhash")
    whole = encoder.encode(bits)
    assert np.array_equal(np.concatenate([encoder.encode(row[None]) for row in bits]), whole)
    assert encoder.encode(bits[:0]).shape == (0, BITS)
    same_bits(encoder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resized_copy_is_near_and_another_picture_is_not(kind: str) -> None:
    encoder = load(kind)
    image = picture(1).resize((120, 90))
    pictures = [image, image.resize((60, 45)), picture(2).resize((120, 90))]
    vectors = encoder.encode(np.stack([encoder.preprocess(each) for each in pictures]))
    assert vectors[0] @ vectors[1] >= cosine(4)
    assert vectors[0] @ vectors[2] < cosine(12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (8, 8), (64, 5)])
def test_images_of_any_size_have_a_hash(kind: str, size: tuple[int, int]) -> None:
    encoder = load(kind)
    for image in (Image.new("RGB", size, (90, 10, 40)), picture(4).resize(size)):
        vector = encoder.encode(encoder.preprocess(image)[None])
        assert np.abs(vector).tolist() == [[0.125] * BITS]


def test_the_fingerprints_of_the_kinds_differ() -> None:
    prints = [fingerprint(load(kind)) for kind in KINDS]
    assert len({str(found["weights"]) for found in prints}) == len(KINDS)
    assert [found["name"] for found in prints] == [f"phash:{kind}" for kind in KINDS]
    assert len({str(found["probe"]) for found in prints}) == len(KINDS)


def test_a_wrong_name_or_weights_are_refused() -> None:
    with pytest.raises(CurateError, match=r"did you mean '.hash'"):
        load("fhash")
    with pytest.raises(CurateError, match=r"weights w\.pt: a hash"):
        load_encoder(EncoderSpec("phash:phash", weights="w.pt"))
