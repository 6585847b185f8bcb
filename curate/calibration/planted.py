"""Copies planted on purpose: which kinds of copy a threshold finds, and how many of each.

Images of the user's own train set are changed in known ways and treated as test images are: same
preprocessing, same encoder, all views, stored numbers of the same type, same score. A copy is
found at a threshold when the score of its own original reaches it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from curate import tables
from curate.copies import STRENGTHS, plant
from curate.embed import EmbedSettings
from curate.encoders import Encoder, cached_encoder, least_side
from curate.errors import CurateError
from curate.images import decode, read_picture
from curate.normalisation import Normalisation
from curate.parts import Embeddings
from curate.samples import Failure, Sample, image_member
from curate.shards import Dataset, Shard, ShardReader
from curate.units import RunUnits, results
from curate.verification.verifiers import AT_ONCE, VerifierSpec, cached_verifier
from curate.views import VIEWS
from indices.scores import pair_scores
from indices.stored import Stored

PLANTED = pl.Schema(
    {
        "train_id": pl.String,
        "transformation": pl.String,
        "strength": pl.Int8,
        "score": pl.Float32,
        "view": pl.String,
        "rejected": pl.String,
    }
)
"""One row per planted copy: its original, what was done, its score and the view that had it.

`score` is null where the encoder gave a vector that is not finite. `rejected` says why a second
look refuses the copy, whatever its score; it is null without one, and where that agrees.
"""

_SHARDS = 16  # at most so many are read, unless they hold fewer images than are wanted
_CHOICE = pl.Schema({"id": pl.String, "key": pl.String, "sha256": pl.String})


@dataclass(frozen=True)
class Planting:
    """What is planted.

    Attributes:
        images: how many originals, at most.
        transformations: names in `curate.copies`, each planted in all strengths.
        seed: of the choice of images, and of every edit.
    """

    images: int
    transformations: tuple[str, ...]
    seed: int = 0


@dataclass(frozen=True)
class SecondLook:
    """Who looks again at candidates, and from which first score on a pair is one.

    It is taken that an original is among the candidates of its copy that are looked at.
    """

    spec: VerifierSpec
    floor: float


@dataclass(frozen=True)
class PlantUnit:
    """The chosen images of one shard, with all their copies.

    Attributes:
        dataset: the train set, without its list of shards.
        chosen: id, key and sha256 of the originals.
        embedding: how a test image is embedded; the original is by the first view.
        original: type in which train vectors are stored.
        normalisation: of scores.
        second: None: nobody looks again.
        out: gets the table of the unit.
    """

    dataset: Dataset
    shard: Shard
    part: int
    chosen: tuple[tuple[str, str, str], ...]
    planting: Planting
    embedding: EmbedSettings
    original: str
    normalisation: Normalisation | None
    second: SecondLook | None
    out: str

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"plant copies of {self.dataset.name}/{self.shard.name}"

    @property
    def path(self) -> Path:
        """Its table."""
        return Path(self.out) / f"planted_{self.part:06d}.parquet"


# --- which images --------------------------------------------------------------------------------


def choose(train: Embeddings, planting: Planting) -> dict[int, tuple[tuple[str, str, str], ...]]:
    """The originals by part: those of least digest of seed and id, in shards chosen likewise.

    Few shards are read, so that a set of any size costs the same; the choice depends on names
    alone.
    """
    order = sorted(range(len(train.sizes)), key=lambda part: _digest(planting.seed, "part", part))
    taken: list[int] = []
    held = 0
    for part in order:
        if len(taken) >= _SHARDS and held >= planting.images:
            break
        taken.append(part)
        held += train.sizes[part]
    rows = [(part, *row) for part in taken for row in train.metadata(part, _CHOICE).iter_rows()]
    rows.sort(key=lambda row: _digest(planting.seed, "image", row[1]))
    chosen = rows[: planting.images]
    return {
        part: tuple(tuple(row[1:]) for row in chosen if row[0] == part)
        for part in sorted({row[0] for row in chosen})
    }


def _digest(*words: object) -> str:
    return hashlib.sha256(":".join(map(str, words)).encode()).hexdigest()


# --- one shard -----------------------------------------------------------------------------------


def plant_unit(unit: PlantUnit) -> dict[str, Any]:
    """Plant copies of the chosen images of a shard and score them; writes the unit's table.

    Raises:
        CurateError: the shard cannot be read, or has changed since it was embedded.
    """
    wanted = {key: (id_, sha256) for id_, key, sha256 in unit.chosen}
    rows: list[dict[str, object]] = []
    reader = ShardReader(unit.dataset, unit.shard, unit.embedding.limits)
    with closing(iter(reader)) as samples:  # type: ignore[type-var]  # it is a generator
        for sample in samples:
            if not sample.is_loose and sample.key in wanted:
                id_, sha256 = wanted.pop(sample.key)
                rows += _copies_of(unit, id_, _stored(unit, sample, sha256))
            if not wanted:
                break
    if wanted:
        raise CurateError(
            f"{unit.shard.url}: changed since it was embedded ({min(wanted)} has gone); "
            "run `curate dedup` again."
        )
    tables.write_table(unit.path, tables.rows(rows, PLANTED), PLANTED)
    return {"counts": {"planted": len(rows)}}


def _stored(unit: PlantUnit, sample: Sample, sha256: str) -> bytes:
    member = image_member(sample)
    data = b"" if isinstance(member, Failure) else member.data or b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CurateError(
            f"{unit.shard.url}: {sample.key} has changed since it was embedded; "
            "run `curate dedup` again."
        )
    return data


def _copies_of(unit: PlantUnit, id_: str, data: bytes) -> list[dict[str, object]]:
    """The rows of one original. Copies are made as they are encoded, a batch at a time.

    The original is decoded as the run decoded it, its copies are made of the whole picture.
    """
    limits = unit.embedding.image_limits
    image = decode(data, limits)
    kinds = list(product(unit.planting.transformations, STRENGTHS))
    views = unit.embedding.views
    encoder = cached_encoder(unit.embedding.encoder)

    def pictures() -> Iterator[Image.Image]:
        yield read_picture(data, limits, least_side(encoder)).image
        for kind in kinds:
            copy = _copy(unit, id_, image, kind)
            yield from (VIEWS[view](copy) for view in views)

    vectors = _encode(encoder, pictures())
    original = vectors[:1].astype(unit.original)
    asked = vectors[1:].astype(unit.embedding.dtype)
    scores = _scores(asked, original, unit.normalisation).reshape(len(kinds), len(views))
    best = scores.argmax(axis=1)
    rows: list[dict[str, object]] = [
        {
            "train_id": id_, "transformation": name, "strength": strength, "rejected": None,
            "score": float(row[at]) if np.isfinite(row[at]) else None,
            "view": views[at] if np.isfinite(row[at]) else None,
        }
        for (name, strength), row, at in zip(kinds, scores, best, strict=True)
    ]  # fmt: skip
    return rows if unit.second is None else _look_again(unit, unit.second, image, rows)


def _copy(unit: PlantUnit, id_: str, image: Image.Image, kind: tuple[str, int]) -> Image.Image:
    """A copy that depends on nothing but the seed, the image's id and what is done to it."""
    chance = _digest(unit.planting.seed, id_, *kind)
    return plant(image, *kind, np.random.default_rng(int(chance, 16)))


def _look_again(
    unit: PlantUnit, second: SecondLook, image: Image.Image, rows: list[dict[str, Any]]
) -> list[dict[str, object]]:
    """The rows after the second look at those that are candidates; copies are made once more."""
    verifier = cached_verifier(second.spec)
    item = verifier.describe(verifier.preprocess(image)[None])
    least = np.float32(second.floor)
    candidates = [r for r in rows if r["score"] is not None and np.float32(r["score"]) >= least]
    for row in rows:
        if row["score"] is not None and np.float32(row["score"]) < least:
            row["rejected"] = f"below the floor {second.floor:g} of the first search"
    for at in range(0, len(candidates), AT_ONCE):
        block = candidates[at : at + AT_ONCE]
        copies = (
            _copy(unit, r["train_id"], image, (r["transformation"], r["strength"])) for r in block
        )
        seen = [
            verifier.preprocess(VIEWS[r["view"]](copy))
            for r, copy in zip(block, copies, strict=True)
        ]
        first = np.array([r["score"] for r in block], np.float32)
        items = np.repeat(item, len(block), axis=0)
        scores, values = verifier.score(verifier.describe(np.stack(seen)), items, first)
        for row, score, value in zip(block, scores, values, strict=True):
            row |= {"score": float(score), "rejected": verifier.refusal(float(value))}
    return rows


def _encode(encoder: Encoder, images: Iterable[Image.Image]) -> NDArray[np.float32]:
    arrays = (np.asarray(encoder.preprocess(image)) for image in images)
    found = []
    while batch := list(islice(arrays, encoder.batch_size)):
        found.append(encoder.encode(np.stack(batch)))
    return np.concatenate(found)


def _scores(
    asked: NDArray[np.floating],
    original: NDArray[np.floating],
    normalisation: Normalisation | None,
) -> NDArray[np.float32]:
    """Scores of vectors with one original as a run has them: (n,); -inf for odd vectors."""
    numbers = np.arange(len(asked))
    cosines = pair_scores(asked, original, numbers, np.zeros_like(numbers))
    usable = np.isfinite(cosines)
    if normalisation is not None and usable.any():
        terms = normalisation.terms(Stored([asked[usable]]))
        cosines[usable] = (cosines[usable] - terms).astype(np.float32)
    return cosines


# --- all of them ---------------------------------------------------------------------------------


def plant_all(
    dataset: Dataset,
    chosen: dict[int, tuple[tuple[str, str, str], ...]],
    base: PlantUnit,
    run_units: RunUnits,
) -> pl.DataFrame:
    """Plant in all shards; tables of units that are there are not made again.

    Args:
        dataset: the train set.
        chosen: from `choose`.
        base: a unit of which shard, part and choice are replaced.
        run_units: runs the units, one per shard.

    Returns:
        `PLANTED`, sorted.

    Raises:
        PartialRunError: some shards failed; the others are kept.
    """
    bare = replace(dataset, shards=(), side_files=())
    units = [
        replace(base, dataset=bare, shard=dataset.shards[part], part=part, chosen=rows)
        for part, rows in chosen.items()
    ]
    todo = [unit for unit in units if not unit.path.is_file()]
    results(run_units(plant_unit, todo), f"plant copies of {dataset.name}")
    frames = [tables.read_table(unit.path, PLANTED) for unit in units]
    whole = pl.concat([pl.DataFrame(schema=PLANTED), *frames])
    return whole.sort("train_id", "transformation", "strength")
