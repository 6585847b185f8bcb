"""Shards -> embeddings: one shard is one part and one unit of work.

A unit is complete when its facts file is there, which is written last. So any number of workers
gives the same bytes, an interrupted run goes on, and a set that grew is embedded where it grew.
"""

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import artifacts, parts, shards, tables
from curate.artifacts import FACTS, MANIFEST, Manifest
from curate.decode import Decoded, decode_samples
from curate.discover import open_dataset
from curate.encoders import EncoderSpec, TextEncoder, cached_encoder, fingerprint, library_versions
from curate.errors import CurateError
from curate.files import digest, read_json, write_json
from curate.images import ImageLimits
from curate.samples import Failure, Limits, Sample
from curate.shards import Dataset, Shard, ShardReader
from curate.units import RunUnits, results, run_in_process

SOURCE = f"{FACTS}/source.json"
_PART_FILE = re.compile(r"[a-z0-9_-]+_(\d{6,})\.(?:npy|parquet|json)")


def source_of(embeddings: parts.Embeddings) -> Dataset:
    """The data set that embeddings were made from, opened again from where it was then.

    Raises:
        CurateError: it has gone, or the vectors were published without their images.
    """
    if embeddings.manifest.kind != "embeddings":
        raise CurateError(
            f"{embeddings.place}: vectors as published, of which curate has no images."
        )
    source = read_json(embeddings.root / SOURCE)
    return open_dataset(source["specs"], source["name"])


@dataclass(frozen=True)
class EmbedSettings:
    """What decides on the bytes of embeddings, apart from the images.

    Attributes:
        views: keys of `curate.views.VIEWS`; "identity" comes first.
        dtype: how vectors are stored.
        captions: embed captions too (encoders that read text).
    """

    encoder: EncoderSpec
    views: tuple[str, ...] = ("identity",)
    dtype: Literal["float16", "float32"] = "float16"
    captions: bool = False
    limits: Limits = field(default_factory=Limits)
    image_limits: ImageLimits = field(default_factory=ImageLimits)

    def config(self) -> dict[str, Any]:
        """The settings as they stand in a manifest, the encoder by its fingerprint."""
        return {
            "encoder": fingerprint(cached_encoder(self.encoder)),
            "views": list(self.views),
            "dtype": self.dtype,
            "captions": self.captions,
            "limits": {**vars(self.limits), **vars(self.image_limits)},
        }


@dataclass(frozen=True)
class Embedded:
    """A shard that was embedded.

    Attributes:
        vectors: arrays (n, d) by folder name, as they are stored.
        metadata: n rows, in the order of the vectors.
        status: one row per sample.
    """

    vectors: dict[str, NDArray[np.floating]]
    metadata: pl.DataFrame
    status: pl.DataFrame


class Sink(Protocol):
    """What becomes of embedded shards; goes to other processes with the units."""

    def config(self) -> dict[str, Any]:
        """What else the bytes of the artifact depend on."""
        ...

    def write(self, root: Path, part: int, embedded: Embedded) -> list[dict[str, Any]]:
        """Write the files of a part, each whole or absent; returns their manifest entries."""
        ...


@dataclass(frozen=True)
class Kept:
    """Vectors and tables are stored as they are."""

    def config(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def write(self, root: Path, part: int, embedded: Embedded) -> list[dict[str, Any]]:
        """Write vectors and tables."""
        return parts.write_part(root, part, embedded.vectors, embedded.metadata, embedded.status)


@dataclass(frozen=True)
class EmbedUnit:
    """One shard to embed into part number `part` of `out`.

    With more than one of `threads`, as many decode side by side while the encoder runs in another.
    """

    dataset: Dataset
    shard: Shard
    part: int
    settings: EmbedSettings
    out: str
    threads: int = 1
    sink: Sink = field(default_factory=Kept)

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"embed {self.dataset.name}/{self.shard.name}"


# --- one unit ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Encoded:
    """What the encoder makes of a batch.

    Attributes:
        finite: (n,) bool, rows whose vectors are finite in all views.
        views: of these rows only, one array (m, d) per view.
        texts: (m, d) vectors of their captions, if they are asked for.
    """

    finite: NDArray[np.bool_]
    views: list[NDArray[np.float32]]
    texts: NDArray[np.floating] | None


_Row = tuple[dict[str, Any], str | None, Decoded]  # status, caption, image


class _PartBuilder:
    """Collects what a part will hold, and runs the encoder whenever a batch is full.

    With an executor the encoder runs in its thread, and the next batch is collected meanwhile.
    """

    def __init__(self, unit: EmbedUnit, executor: Executor | None = None) -> None:
        self.status: list[dict[str, Any]] = []
        self._unit = unit
        self._executor = executor
        self._running: tuple[list[_Row], Future[_Encoded]] | None = None
        self._encoder = cached_encoder(unit.settings.encoder)
        self._metadata: list[dict[str, Any]] = []
        self._vectors: dict[str, list[NDArray[np.floating]]] = {v: [] for v in unit.settings.views}
        self._texts: list[NDArray[np.floating]] = []
        self._batch: list[_Row] = []

    def add(self, sample: Sample, outcome: Decoded | Failure) -> None:
        """Take the next sample of the shard."""
        name = self._unit.shard.name
        row = {
            "id": f"{name}:{sample.key}", "shard": name, "key": sample.key,
            "position": len(self.status), "label": sample.label, "row": None,
        }  # fmt: skip
        self.status.append(row)
        if isinstance(outcome, Failure):
            row |= {"status": outcome.status, "error": outcome.error}
            return
        self._batch.append((row, sample.caption, outcome))
        if len(self._batch) == self._encoder.batch_size:
            self.flush()

    def flush(self) -> None:
        """Encode what waits, and take what the batch before has become."""
        batch, self._batch = self._batch, []
        before, self._running = self._running, None
        if batch and self._executor:
            self._running = batch, self._executor.submit(self._encode, batch)
        if before:
            self._take(before[0], before[1].result())
        if batch and not self._executor:
            self._take(batch, self._encode(batch))

    def _encode(self, batch: list[_Row]) -> _Encoded:
        """Run the encoder."""
        views = [
            self._encoder.encode(np.stack([decoded.views[i] for _, _, decoded in batch]))
            for i in range(len(self._vectors))
        ]
        finite = np.all([np.isfinite(array).all(axis=1) for array in views], axis=0)
        texts = None
        if self._unit.settings.captions:
            kept = [caption or "" for (_, caption, _), ok in zip(batch, finite, strict=True) if ok]
            texts = self._encode_text(kept)
        return _Encoded(finite, [array[finite] for array in views], texts)

    def _take(self, batch: list[_Row], encoded: _Encoded) -> None:
        """Keep the rows of a batch. A vector that is not finite is a failure, not a row."""
        for (row, caption, decoded), is_finite in zip(batch, encoded.finite, strict=True):
            if not is_finite:
                row |= {
                    "status": "not_finite",
                    "error": "the encoder gave a vector that is not finite",
                }
                continue
            row |= {"status": "success", "row": len(self._metadata)}
            self._metadata.append({**row, **decoded.facts(), "caption": caption})
        for kept, array in zip(self._vectors.values(), encoded.views, strict=True):
            kept.append(array.astype(self._unit.settings.dtype))
        if encoded.texts is not None:
            self._texts.append(encoded.texts)

    def _encode_text(self, texts: list[str]) -> NDArray[np.floating]:
        encoder = cast("TextEncoder", self._encoder)
        if not texts:
            return np.zeros((0, encoder.dim), self._unit.settings.dtype)
        return encoder.encode_text(texts).astype(self._unit.settings.dtype)

    def embedded(self) -> Embedded:
        """All that was taken."""
        self.flush()
        self.flush()  # the one before gave a last batch to the executor
        empty = np.zeros((0, self._encoder.dim), self._unit.settings.dtype)
        vectors = {
            parts.view_folder(view): np.concatenate([empty, *arrays])
            for view, arrays in self._vectors.items()
        }
        if self._unit.settings.captions:
            vectors[parts.TEXTS] = np.concatenate([empty, *self._texts])
        metadata = pl.DataFrame(self._metadata, schema=tables.METADATA)
        status = pl.DataFrame(self.status, schema=tables.STATUS)
        return Embedded(vectors, metadata, status)


def embed_unit(unit: EmbedUnit) -> dict[str, Any]:
    """Embed one shard and write its part; returns the facts that complete it.

    Raises:
        CurateError: the shard cannot be opened, or the part cannot be written.
    """
    signature = shards.signature(unit.dataset, unit.shard)
    reader = ShardReader(unit.dataset, unit.shard, unit.settings.limits)
    encoder = cached_encoder(unit.settings.encoder)
    samples = (sample for sample in reader if not sample.is_loose)
    settings = unit.settings
    with ThreadPoolExecutor(1) if unit.threads > 1 else nullcontext() as executor:
        builder = _PartBuilder(unit, executor)
        for sample, outcome in decode_samples(
            samples, encoder, settings.views, settings.image_limits, unit.threads
        ):
            builder.add(sample, outcome)
        embedded = builder.embedded()
    facts = {
        "shard": unit.shard.name, "part": unit.part, "signature": signature,
        "sha256": reader.sha256, "bytes": reader.size, "damage": reader.error,
        "counts": dict(Counter(row["status"] for row in builder.status)),
        "outputs": unit.sink.write(Path(unit.out), unit.part, embedded),
    }  # fmt: skip
    write_json(_facts_path(Path(unit.out), unit.part), facts)
    return facts


def _facts_path(root: Path, part: int) -> Path:
    return root / FACTS / f"part_{part:06d}.json"


# --- the whole set --------------------------------------------------------------------------------


def embed(
    dataset: Dataset,
    settings: EmbedSettings,
    out: Path,
    *,
    run_units: RunUnits = run_in_process,
    threads: int = 1,
    sink: Sink | None = None,
) -> parts.Embeddings:
    """Embed every shard of a data set into the folder `out`, reusing what holds.

    Args:
        dataset: what to embed.
        settings: how.
        out: the artifact's folder.
        run_units: runs the units, one per shard.
        threads: image decoders per unit; more than one run beside the encoder.
        sink: what becomes of the shards; None keeps their vectors.

    Raises:
        PartialRunError: some shards failed; the others are kept.
        CurateError: captions were asked of an encoder that reads no text.
    """
    if settings.captions and not isinstance(cached_encoder(settings.encoder), TextEncoder):
        raise CurateError(f"{settings.encoder.name}: this encoder reads no captions.")
    sink = sink or Kept()
    config = {**settings.config(), **sink.config()}
    if _is_current(out, config, dataset):
        return parts.open_embeddings(out)
    work = _reopen(out, digest({"kind": "embeddings", "config": config}))
    bare = replace(dataset, shards=(), side_files=())
    todo = [
        EmbedUnit(bare, shard, number, settings, str(work), threads, sink)
        for number, shard in enumerate(dataset.shards)
        if not _is_done(work, dataset, shard, number)
    ]
    write_json(work / SOURCE, {"specs": dataset.specs, "name": dataset.name})
    results(run_units(embed_unit, todo), f"embed {dataset.name}")
    facts = [read_json(_facts_path(work, n)) for n in range(len(dataset.shards))]
    _drop_surplus(work, len(facts))
    versions = library_versions(cached_encoder(settings.encoder))
    manifest = Manifest(
        "embeddings", config, _inputs(facts), counts=_counts(dataset, facts), versions=versions
    )
    artifacts.commit(work, out, manifest, [entry for fact in facts for entry in fact["outputs"]])
    return parts.open_embeddings(out)


def _is_current(out: Path, config: dict[str, Any], dataset: Dataset) -> bool:
    """True when the artifact was made with these settings from shards that have not changed."""
    if not (out / MANIFEST).is_file():
        return False
    manifest = artifacts.read_manifest(out)
    return (
        manifest.config == config
        and [entry["name"] for entry in manifest.inputs] == [s.name for s in dataset.shards]
        and manifest.counts["dataset"] == dataset.name
        and all(_is_done(out, dataset, shard, n) for n, shard in enumerate(dataset.shards))
        and not artifacts.missing_outputs(out, manifest)
    )


def _is_done(root: Path, dataset: Dataset, shard: Shard, part: int) -> bool:
    path = _facts_path(root, part)
    if not path.is_file():
        return False
    facts = read_json(path)
    return (
        facts["shard"] == shard.name
        and facts["signature"] == shards.signature(dataset, shard)
        and all(
            (file := root / entry["path"]).is_file() and file.stat().st_size == entry["bytes"]
            for entry in facts["outputs"]
        )
    )


def _reopen(out: Path, resume_key: str) -> Path:
    """The work folder; a finished artifact of the same settings is taken back into work."""
    if (out / MANIFEST).is_file():
        manifest = artifacts.read_manifest(out)
        if digest({"kind": "embeddings", "config": manifest.config}) == resume_key:
            work = artifacts.work_path(out, resume_key)
            if not work.exists():
                out.rename(work)
                (work / MANIFEST).unlink()
    return artifacts.work_folder(out, resume_key)


def _drop_surplus(work: Path, count: int) -> None:
    """Remove parts of shards that the data set no longer has."""
    for path in work.rglob("*"):
        match = _PART_FILE.fullmatch(path.name)
        if match and int(match[1]) >= count:
            path.unlink()


def _inputs(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": fact["shard"], "sha256": fact["sha256"], "bytes": fact["bytes"]} for fact in facts
    ]


def _counts(dataset: Dataset, facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    status: Counter[str] = Counter()
    for fact in facts:
        status.update(fact["counts"])
    sizes = [fact["counts"].get("success", 0) for fact in facts]
    return {
        "dataset": dataset.name,
        "layout": dataset.layout,
        "samples": sum(status.values()),
        "vectors": sum(sizes),
        "vectors_per_part": sizes,
        "status": dict(status),
        "damaged_shards": {f["shard"]: f["damage"] for f in facts if f["damage"]},
    }
