"""Samples -> preprocessed views, decoded by threads side by side and yielded in order."""

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.encoders import Encoder, least_side
from curate.images import ImageError, ImageLimits, read_picture
from curate.samples import Failure, Sample, image_member, printable
from curate.views import VIEWS

_PENDING_PER_THREAD = 4
_MAX_PENDING_BYTES = 256 << 20


@dataclass(frozen=True)
class Decoded:
    """An image ready for the encoder, and what is known of it.

    Attributes:
        views: one array of the encoder's input shape per view.
        sha256: of the image's bytes as they are stored.
        pixels_sha256: of its size and its RGB pixels as they are decoded; None where it was decoded
            at a reduced size, as the whole picture's are not known then.
        width: of the whole picture.
        height: likewise.
    """

    views: list[NDArray[Any]]
    member: str
    sha256: str
    pixels_sha256: str | None
    width: int
    height: int

    def facts(self) -> dict[str, Any]:
        """The columns of the metadata table that come from the image."""
        names = ("member", "sha256", "pixels_sha256", "width", "height")
        return {name: getattr(self, name) for name in names}


def decode_sample(
    sample: Sample, encoder: Encoder, views: tuple[str, ...], limits: ImageLimits
) -> Decoded | Failure:
    """Decode and preprocess the image of one sample, or say why it cannot be used."""
    member = image_member(sample)
    if isinstance(member, Failure):
        return member
    data = member.data or b""
    try:
        picture = read_picture(data, limits, least_side(encoder))
    except ImageError as error:
        return Failure(error.status, str(error))
    return Decoded(
        [np.asarray(encoder.preprocess(VIEWS[view](picture.image))) for view in views],
        printable(member.name),
        hashlib.sha256(data).hexdigest(),
        pixels_digest(picture.image) if picture.divisor == 1 else None,
        picture.width,
        picture.height,
    )


def pixels_digest(image: Image.Image) -> str:
    """Sha256 (hex) of an RGB image's width, height and pixels, row by row.

    Equal for files that decode to the same picture: a PNG and its lossless WebP, a JPEG whose
    metadata were stripped. JPEG decoders may differ in single levels, so only digests that one
    version of the libraries computed can be compared.
    """
    digest = hashlib.sha256(f"{image.width} {image.height}\0".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def decode_samples(
    samples: Iterable[Sample],
    encoder: Encoder,
    views: tuple[str, ...],
    limits: ImageLimits,
    threads: int,
) -> Iterator[tuple[Sample, Decoded | Failure]]:
    """Yield every sample with its decoded image or failure, in the order given.

    So that a batch is ready when the encoder is done with the one before, up to a batch is decoded
    ahead; what waits in memory is bounded by bytes as well.
    """
    work = partial(decode_sample, encoder=encoder, views=views, limits=limits)
    if threads <= 1:
        for sample in samples:
            yield sample, work(sample)
        return
    most = max(_PENDING_PER_THREAD * threads, encoder.batch_size)
    prepared = len(views) * math.prod(encoder.input_shape) * encoder.input_dtype.itemsize
    pool = ThreadPoolExecutor(threads)
    try:
        pending: deque[tuple[Sample, int, Future[Decoded | Failure]]] = deque()
        held = 0
        for sample in samples:
            size = prepared + sum(len(member.data or b"") for member in sample.members)
            pending.append((sample, size, pool.submit(work, sample)))
            held += size
            while len(pending) > most or (held > _MAX_PENDING_BYTES and pending):
                done, freed, future = pending.popleft()
                held -= freed
                yield done, future.result()
        for done, _, future in pending:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
