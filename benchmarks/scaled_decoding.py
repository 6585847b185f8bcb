"""What decoding JPEGs at a reduced size does to vectors and to decisions.

Photographs, and edited copies of some of them, are embedded twice: decoded whole and at a reduced
size (`--decode scaled`). Told are the cosines of the two vectors of an image, and what becomes of
decisions at the detector's threshold: an edited copy, saved as a JPEG, is looked for in the
detector's usual views among all photographs. It is found if its original scores at or above the
threshold, and flagged wrongly if another photograph does.

    OMP_NUM_THREADS=1 python benchmarks/scaled_decoding.py --data photos \
        --out benchmarks/results/scaled-decoding.json
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedding import read
from numpy.typing import NDArray
from PIL import Image
from record import write_result

from curate.copies import TRANSFORMATIONS, plant
from curate.detectors import find_detector
from curate.encoders import Encoder, EncoderSpec, least_side, load_encoder
from curate.images import ImageLimits, decode, read_picture
from curate.views import VIEWS

DETECTORS = ("builtin:layout", "builtin:copy", "builtin:tiny-clip")
STRENGTH = 2
QUALITY = 90
_TOLD = (0.0, 0.01, 0.05, 0.5)


def main() -> None:
    """Edit, embed twice, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tars of photographs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--edited", type=int, default=40, help="photographs that are edited")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    photos = read(arguments.data)
    copies = list(edited(photos[: arguments.edited]))
    rows = {name: compare(name, photos, copies) for name in DETECTORS}
    figures = {
        "photos": len(photos), "edited": arguments.edited, "edits": len(TRANSFORMATIONS),
        "strength": STRENGTH, "quality": QUALITY,
    }  # fmt: skip
    write_result(arguments.out, {**figures, "detectors": rows})


def edited(photos: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """The number of the original, and a copy of it as a JPEG, for every edit."""
    for number, photo in enumerate(photos):
        whole = decode(photo)
        for kind, name in enumerate(TRANSFORMATIONS):
            copy = plant(whole, name, STRENGTH, np.random.default_rng([kind, number]))
            stored = io.BytesIO()
            copy.save(stored, "JPEG", quality=QUALITY)
            yield number, stored.getvalue()


def compare(name: str, photos: list[bytes], copies: list[tuple[int, bytes]]) -> dict[str, Any]:
    """Cosines and decisions of one detector."""
    detector = find_detector(name)
    exact, scaled = (
        load_encoder(EncoderSpec(name, device="cpu", decode=one)) for one in ("exact", "scaled")
    )
    stored = [photo for _, photo in copies]
    own = np.array([number for number, _ in copies])
    sides = []
    for encoder in (exact, scaled):
        items = vectors(encoder, photos, "identity")
        views = [vectors(encoder, stored, view) for view in detector.views]
        sides.append((items, views))
    (items, views), (other_items, other_views) = sides
    decided = [decisions(*side, own, detector.threshold) for side in sides]
    found = {
        "threshold": detector.threshold, "least_side": least_side(scaled),
        "photos": cosines(items, other_items), "copies": cosines(views[0], other_views[0]),
        "reduced": float(np.mean([is_reduced(scaled, one) for one in photos + stored])),
    }  # fmt: skip
    for word, whole, reduced in zip(("found", "wrongly_flagged"), *decided, strict=True):
        found[word] = {
            "of": len(copies), "exact": int(whole.sum()), "scaled": int(reduced.sum()),
            "only_exact": int((whole & ~reduced).sum()),
            "only_scaled": int((reduced & ~whole).sum()),
        }  # fmt: skip
    print(name, found, flush=True)
    return found


def vectors(encoder: Encoder, stored: list[bytes], view: str) -> NDArray[np.float32]:
    ready = (encoder.preprocess(VIEWS[view](picture(encoder, one))) for one in stored)
    return encoder.encode(np.stack(list(ready)))


def picture(encoder: Encoder, stored: bytes) -> Image.Image:
    return read_picture(stored, ImageLimits(), least_side(encoder)).image


def is_reduced(encoder: Encoder, stored: bytes) -> bool:
    return read_picture(stored, ImageLimits(), least_side(encoder)).divisor > 1


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, float]:
    """Of the two vectors of each image: some quantiles and the mean."""
    found = (one.astype(np.float64) * other).sum(axis=1)
    low = {f"q{share:g}": float(np.quantile(found, share)) for share in _TOLD}
    return {**low, "mean": float(found.mean())}


def decisions(
    items: NDArray[np.float32],
    views: list[NDArray[np.float32]],
    own: NDArray[np.int64],
    threshold: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which copies find their original, and which another photograph."""
    scores = np.max([view @ items.T for view in views], axis=0)
    rows = np.arange(len(own))
    found = scores[rows, own] >= threshold
    scores[rows, own] = -1
    return found, scores.max(axis=1) >= threshold


if __name__ == "__main__":
    main()
