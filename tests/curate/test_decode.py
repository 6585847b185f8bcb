"""Decoding keeps the order, looks at every view, and turns bad images into failures."""

import hashlib
import time

import numpy as np
import pytest
from pictures import encoded, picture
from PIL import Image, ImageOps

from curate.decode import Decoded, decode_sample, decode_samples, pixels_digest
from curate.encoders import EncoderSpec, least_side, load_encoder
from curate.images import ImageLimits, decode, read_picture
from curate.samples import Failure, Member, Sample

LAYOUT = load_encoder(EncoderSpec("builtin:layout"))


def sample(key: str, data: bytes) -> Sample:
    return Sample(key, (Member(f"{key}.png", data),))


def test_an_image_is_decoded_into_all_views() -> None:
    data = encoded(picture(1))
    done = decode_sample(sample("a", data), LAYOUT, ("identity", "mirror"), ImageLimits())
    assert isinstance(done, Decoded)
    image = decode(data)
    assert np.array_equal(done.views[0], LAYOUT.preprocess(image))
    assert np.array_equal(done.views[1], LAYOUT.preprocess(ImageOps.mirror(image)))
    assert done.facts() == {
        "member": "a.png", "sha256": hashlib.sha256(data).hexdigest(),
        "pixels_sha256": pixels_digest(image), "width": 48, "height": 48,
    }  # fmt: skip


def test_the_digest_of_pixels_is_of_the_picture_and_not_of_its_file() -> None:
    image = picture(1)
    stored = [encoded(image), encoded(image, "BMP"), encoded(image, "WEBP", lossless=True)]
    digests = {pixels_digest(decode(data)) for data in stored}
    assert len({hashlib.sha256(data).digest() for data in stored}) == 3
    assert digests == {pixels_digest(image)}


def test_the_digest_of_pixels_tells_shapes_and_single_levels_apart() -> None:
    wide, high = Image.new("RGB", (6, 2)), Image.new("RGB", (2, 6))
    other = wide.copy()
    other.putpixel((5, 1), (0, 0, 1))
    assert len({pixels_digest(image) for image in (wide, high, other)}) == 3


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (sample("a", b""), "zero_bytes"),
        (sample("a", b"<html>"), "not_an_image"),
        (sample("a", encoded(picture(1))[:-40]), "failed_to_decode"),
        (Sample("a", (Member("a.txt", b"x"),)), "no_image"),
        (Sample("a", (Member("a.png", None, Failure("link", "why")),)), "link"),
    ],
)
def test_a_bad_image_is_a_failure_with_its_status(bad: Sample, status: str) -> None:
    done = decode_sample(bad, LAYOUT, ("identity",), ImageLimits())
    assert isinstance(done, Failure)
    assert done.status == status
    assert done.error


def test_the_pixel_limit_holds() -> None:
    done = decode_sample(
        sample("a", encoded(picture(1))), LAYOUT, ("identity",), ImageLimits(max_pixels=100)
    )
    assert isinstance(done, Failure)
    assert done.status == "too_large"


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_in_the_same_order(threads: int) -> None:
    samples = [sample(str(n), encoded(picture(n)) if n % 7 else b"") for n in range(60)]
    done = list(decode_samples(samples, LAYOUT, ("identity",), ImageLimits(), threads))
    assert [given.key for given, _ in done] == [given.key for given in samples]
    for given, outcome in done:
        alone = decode_sample(given, LAYOUT, ("identity",), ImageLimits())
        if isinstance(alone, Decoded):
            assert isinstance(outcome, Decoded)
            assert np.array_equal(outcome.views[0], alone.views[0])
        else:
            assert outcome == alone


def test_a_reduced_jpeg_keeps_its_size_and_has_no_digest_of_pixels() -> None:
    scaled = load_encoder(EncoderSpec("builtin:layout", decode="scaled"))
    jpeg = encoded(picture(1).resize((520, 390)), "JPEG")
    done = decode_sample(sample("a", jpeg), scaled, ("identity", "mirror"), ImageLimits())
    assert isinstance(done, Decoded)
    assert done.facts() == {
        "member": "a.png", "sha256": hashlib.sha256(jpeg).hexdigest(), "pixels_sha256": None,
        "width": 520, "height": 390,
    }  # fmt: skip
    reduced = read_picture(jpeg, ImageLimits(), least_side(scaled)).image
    assert reduced.size == (130, 98)
    assert np.array_equal(done.views[1], LAYOUT.preprocess(ImageOps.mirror(reduced)))


def test_what_is_not_reduced_has_its_digest_of_pixels() -> None:
    scaled = load_encoder(EncoderSpec("builtin:layout", decode="scaled"))
    for data in (encoded(picture(1).resize((520, 390))), encoded(picture(1), "JPEG")):
        done, exact = (
            decode_sample(sample("a", data), encoder, ("identity",), ImageLimits())
            for encoder in (scaled, LAYOUT)
        )
        assert isinstance(done, Decoded)
        assert isinstance(exact, Decoded)
        assert done.facts() == exact.facts()
        assert np.array_equal(done.views[0], exact.views[0])


def test_who_stops_listening_does_not_wait_for_what_was_to_be_decoded() -> None:
    samples = [sample("a", encoded(picture(1, 900)))] * 600
    done = decode_samples(samples, LAYOUT, ("identity",), ImageLimits(), threads=2)
    next(done)
    start = time.perf_counter()
    done.close()  # type: ignore[attr-defined]  # it is a generator
    assert time.perf_counter() - start < 3


def test_reading_ahead_is_bounded() -> None:
    read = 0

    def slow_samples() -> object:
        nonlocal read
        for number in range(1000):
            read += 1
            yield sample(str(number), encoded(Image.new("RGB", (4, 4))))

    done = decode_samples(slow_samples(), LAYOUT, ("identity",), ImageLimits(), threads=2)  # type: ignore[arg-type]
    next(done)
    time.sleep(0.1)
    assert LAYOUT.batch_size < read <= LAYOUT.batch_size + 1
