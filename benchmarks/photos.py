"""How many edited photographs each detector finds again, at a fixed rate of false alarms.

All photographs are the index. Some of them are edited in every way that `curate.copies` knows, at
three strengths, and looked for. A detector's threshold is the score that 0.5 % of the photographs,
as they are, reach with any *other* photograph; a copy is found when its own original reaches it.
How many edited queries reach it with another photograph is told as well, and the recall at the
threshold that the detector has by default.

    python benchmarks/photos.py --data photos --out benchmarks/results/photos.json
"""

import argparse
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from record import write_result

from curate.copies import STRENGTHS, TRANSFORMATIONS, plant
from curate.detectors import find_detector
from curate.discover import open_dataset
from curate.encoders import Encoder, EncoderSpec, load_encoder
from curate.images import decode
from curate.samples import Member, image_member
from curate.shards import ShardReader
from curate.verification.verifiers import (
    AT_ONCE,
    PIXELS,
    PIXELS_THRESHOLD,
    VerifierSpec,
    cached_verifier,
)
from curate.views import VIEWS

FLAGGED = 0.005
CANDIDATES = 4
"""Photographs that the second look compares with each query, the most similar ones."""
ALL_VIEWS = ("identity", "mirror", "rot90", "rot180", "rot270", "trim")
DETECTORS = {
    "phash": ("phash:phash", ("identity", "mirror"), False),
    "builtin:layout": ("builtin:layout", ("identity", "mirror"), False),
    "builtin:layout, all views": ("builtin:layout", ALL_VIEWS, False),
    "builtin:copy, all views": ("builtin:copy", ALL_VIEWS, False),
    "builtin:copy, all views, pixels": ("builtin:copy", ALL_VIEWS, True),
}
Scores = tuple[NDArray[np.float64], NDArray[np.float64]]


def main() -> None:
    """Read, edit, look for, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tars of photographs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=100, help="photographs that are edited")
    parser.add_argument("--detector", action="append", choices=DETECTORS, help="some only")
    arguments = parser.parse_args()
    names, photos = read(arguments.data)
    chosen = sorted(range(len(photos)), key=lambda i: hashlib.sha256(names[i].encode()).hexdigest())
    result = {
        "photos": len(photos), "edited": arguments.queries,
        "flagged": FLAGGED, "texts": {
            name: [edit.text(s) for s in STRENGTHS] for name, edit in TRANSFORMATIONS.items()
        },
        "detectors": {
            name: evaluate(name, photos, chosen[: arguments.queries])
            for name in arguments.detector or DETECTORS
        },
    }  # fmt: skip
    write_result(arguments.out, result)


def read(folder: Path) -> tuple[list[str], list[Image.Image]]:
    """Ids and RGB pictures of all photographs, the long side at most 512 pixels."""
    names, photos = [], []
    dataset = open_dataset((str(folder),))
    for shard in dataset.shards:
        for sample in ShardReader(dataset, shard):
            member = image_member(sample)
            assert isinstance(member, Member)
            photo = decode(member.data or b"")
            photo.thumbnail((512, 512))
            names.append(f"{shard.name}:{sample.key}")
            photos.append(photo)
    return names, photos


class Finder:
    """One way of looking: every picture scored against the whole index."""

    def __init__(self, name: str, photos: list[Image.Image]) -> None:
        encoder, self.views, self.verifies = DETECTORS[name]
        self.encoder: Encoder = load_encoder(EncoderSpec(encoder))
        self.default = PIXELS_THRESHOLD if self.verifies else find_detector(encoder).threshold
        self.items = self._encode(photos)
        self.verifier = cached_verifier(VerifierSpec(EncoderSpec(PIXELS)))
        if self.verifies:
            self.seen = np.stack([self.verifier.preprocess(photo) for photo in photos])

    def _encode(self, pictures: list[Image.Image]) -> NDArray[np.float32]:
        return self.encoder.encode(np.stack([self.encoder.preprocess(p) for p in pictures]))

    def scores(self, pictures: list[Image.Image], own: list[int]) -> Scores:
        """Score of each picture with its original, and its best with any other photograph."""
        views = [[VIEWS[view](p) for p in pictures] for view in self.views]
        table = np.stack([self._encode(view) @ self.items.T for view in views])
        best, by = table.max(axis=0).astype(np.float64), table.argmax(axis=0)
        rows = np.arange(len(pictures))
        if self.verifies:
            best = self._verified(best, by, views)
        mine = best[rows, own].copy()
        best[rows, own] = -1
        return mine, best.max(axis=1)

    def _verified(
        self, best: NDArray[np.float64], by: NDArray[np.int64], views: list[list[Image.Image]]
    ) -> NDArray[np.float64]:
        """The pixels' scores of the nearest few; the others score nothing."""
        out = np.full(best.shape, -1.0)
        nearest = np.argsort(-best, axis=1)[:, :CANDIDATES]
        asked = [(i, int(j)) for i in range(len(best)) for j in nearest[i]]
        for start in range(0, len(asked), AT_ONCE):
            at = asked[start : start + AT_ONCE]
            queries = np.stack([self.verifier.preprocess(views[by[i, j]][i]) for i, j in at])
            items = self.seen[[j for _, j in at]]
            score, _ = self.verifier.score(queries, items, np.zeros(len(at), np.float32))
            for (i, j), value in zip(at, score, strict=True):
                out[i, j] = value
        return out


def evaluate(name: str, photos: list[Image.Image], chosen: list[int]) -> dict[str, Any]:
    """Recall and false alarms of a detector for every edit."""
    start = time.perf_counter()
    finder = Finder(name, photos)
    others = [finder.scores(photos[i : i + 50], list(range(i, min(i + 50, len(photos)))))[1]
              for i in range(0, len(photos), 50)]  # fmt: skip
    threshold = float(np.quantile(np.concatenate(others), 1 - FLAGGED, method="higher"))
    rows = {}
    for edit, strength, pictures in edited(photos, chosen):
        mine, other = finder.scores(pictures, chosen)
        found = rows.setdefault(edit, {"recall": [], "others": [], "recall_at_default": []})
        found["recall"].append(round(float((mine >= threshold).mean()), 4))
        found["others"].append(round(float((other >= threshold).mean()), 4))
        found["recall_at_default"].append(round(float((mine >= finder.default).mean()), 4))
        print(name, edit, strength, found["recall"][-1], found["others"][-1], flush=True)
    return {
        "threshold": threshold, "default": finder.default,
        "seconds": round(time.perf_counter() - start), "edits": rows,
    }  # fmt: skip


def edited(
    photos: list[Image.Image], chosen: list[int]
) -> Iterator[tuple[str, int, list[Image.Image]]]:
    """Every edit at every strength, the same pictures for every detector."""
    for number, name in enumerate(TRANSFORMATIONS):
        for strength in STRENGTHS:
            yield (
                name,
                strength,
                [
                    plant(photos[i], name, strength, np.random.default_rng([number, strength, i]))
                    for i in chosen
                ],
            )


if __name__ == "__main__":
    main()
