"""A FAISS index over embeddings as an artifact.

The folder holds `index.faiss`, which plain `faiss.read_index` opens; `trained.faiss`, the same
without rows, by which it can be extended; `ids.parquet` and `parts.json`, which say what it holds;
and `recall.json` once its recall was measured. While it grows it takes the room of two: the filled
parts are removed when the merged file is whole.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import polars as pl

from curate import artifacts, index_parts, tables
from curate.artifacts import MANIFEST, Manifest
from curate.errors import CurateError
from curate.files import atomic_write, remove_remains, write_bytes, write_json
from curate.index_parts import Part
from curate.parts import Embeddings
from curate.recall import read_recall
from curate.storage import local_path
from curate.units import RunUnits, run_in_process
from indices import faiss_fill, faiss_index, faiss_merge, faiss_plan
from indices.faiss_plan import Kind, Plan
from indices.faiss_rows import code_size, list_count
from indices.stored import Stored

INDEX_FILE = "index.faiss"
TRAINED_FILE = "trained.faiss"
IDS_FILE = "ids.parquet"
PREFIX: Literal["prefix"] = "prefix"
"""The kind that is no FAISS index but a store of codes; see `curate.prefix`."""
SOURCE = f"{artifacts.FACTS}/source.json"
_PARTS = "parts"
_SEEDS = 2**31
_ID_ROWS = 1 << 18
Finish = Callable[[Path, Any], None]


@dataclass(frozen=True)
class Index:
    """A finished index folder."""

    root: Path
    manifest: Manifest

    @property
    def embeddings_id(self) -> str:
        """Id of the embeddings it holds."""
        return str(self.manifest.inputs[0]["sha256"])

    @property
    def is_prefix(self) -> bool:
        """Whether it is a store of codes, by which is joined exactly."""
        return bool(self.manifest.config["kind"] == PREFIX)

    @property
    def probes(self) -> int:
        """Lists that a search visits: as many as passed the recall gate, else as planned."""
        report = read_recall(self.root)
        chosen = report.probes if report else None
        return int(self.manifest.config["probes"] if chosen is None else chosen)

    def load(self) -> Any:
        """The `faiss.Index`, mapped into memory; it visits `probes` lists unless told otherwise.

        Raises:
            CurateError: faiss is not installed or cannot read the file.
        """
        require_faiss()
        try:
            index = faiss_index.load(self.root / INDEX_FILE)
        except ValueError as error:
            raise CurateError(f"{error}; build the index again.") from error
        if hasattr(index, "nprobe"):
            index.nprobe = self.probes
        return index


def require_faiss() -> None:
    """Check that faiss can be imported.

    Raises:
        CurateError: it cannot, with the ways to get it.
    """
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        raise CurateError(
            "faiss is not installed: pip install 'curate[cpu]', or 'curate[gpu]' on a CUDA machine."
        ) from error


def open_index(root: Path) -> Index:
    """Open an index folder.

    Raises:
        CurateError: it is not one.
    """
    root = local_path(root)
    manifest = artifacts.read_manifest(root)
    if manifest.kind != "index":
        raise CurateError(f"{root}: holds {manifest.kind}, not an index.")
    return Index(root, manifest)


# --- building ------------------------------------------------------------------------------------


def build_index(
    train: Embeddings,
    out: Path,
    *,
    kind: Kind | None = None,
    memory: int | None = None,
    seed: int = 0,
    extend: bool = False,
    run_units: RunUnits = run_in_process,
    finish: Finish | None = None,
    finish_config: Mapping[str, Any] | None = None,
    on_part: Callable[[int], None] | None = None,
) -> Index:
    """Build an index over all vectors of an embeddings folder into the folder `out`.

    Args:
        train: what to index.
        out: the artifact's folder.
        kind: None chooses by size and memory.
        memory: bytes that the searched index may take.
        seed: of the training sample and k-means.
        extend: keep what the index in `out` was trained to and the parts that it holds; fill the
            others.
        run_units: runs the units, one per part.
        finish: called with the folder of the whole index and the open index, before it is
            committed; may add files, such as `recall.json`.
        finish_config: what else `finish` depends on.
        on_part: called with the number of vectors of each part that is filled.

    Raises:
        PartialRunError: some parts failed; the others are kept.
        CurateError: faiss is missing, there is no vector, nothing fits into the memory, or there is
            nothing to extend.
    """
    require_faiss()
    if not 0 <= seed < _SEEDS:
        raise CurateError(f"--seed {seed}: a number from 0 to {_SEEDS - 1} was expected.")
    if train.count == 0:
        raise CurateError(f"{train.place}: there is no vector to index.")
    base = base_of(train, out, kind, memory) if extend else None
    if base and base.manifest.config["kind"] == PREFIX:
        raise CurateError(f"{out}: a prefix store, which --kind prefix extends.")
    config = base.manifest.config if base else _config(train, kind, memory, seed)
    config = {**config, "finish": dict(finish_config or {})}
    manifest = Manifest("index", config, [{"name": "embeddings", "sha256": train.manifest.id}])
    if artifacts.finished(out, manifest.key):
        return open_index(out)
    base = base or _same_but_finish(out, manifest)
    work = artifacts.work_folder(out, manifest.key)
    build = _FaissBuild(train, work, config, base, run_units, on_part or (lambda _vectors: None))
    known = [] if (work / INDEX_FILE).is_file() else [build.write_index()]
    shutil.rmtree(work / _PARTS, ignore_errors=True)
    _write_ids(work / IDS_FILE, train)
    write_json(work / SOURCE, source_note(train))
    if finish:
        finish(work, faiss_index.load(work / INDEX_FILE))
    artifacts.commit(work, out, _described(manifest, work, train.count), known)
    return open_index(out)


def source_note(train: Embeddings) -> dict[str, str]:
    """Where the vectors are, so that they can be opened again."""
    is_folder = (train.root / MANIFEST).is_file()
    place = str(train.root.resolve()) if is_folder else train.place
    encoder = train.manifest.config["encoder"]["name"]
    return {"embeddings": place, "detector": str(encoder), "name": train.name}


def _config(train: Embeddings, kind: Kind | None, memory: int | None, seed: int) -> dict[str, Any]:
    try:
        plan = faiss_plan.choose(train.count, train.dim, kind, memory)
    except ValueError as error:
        raise CurateError(
            f"{train.place}: {error}. Allow more with --memory; a search reads only the lists that "
            "it visits, so --kind without --memory may do."
        ) from error
    return {
        **asdict(plan),
        "seed": seed,
        "encoder": train.manifest.config["encoder"],
        "trained_on": {
            "embeddings": train.manifest.id,
            "vectors": train.count,
            "sample": min(plan.sample, train.count),
        },
    }


def base_of(
    train: Embeddings, out: Path, kind: Kind | Literal["prefix"] | None, memory: int | None
) -> Index:
    """The index that is extended.

    Raises:
        CurateError: there is none, or it is of another kind or of vectors of another encoder.
    """
    # a run that was killed while it put the new index in the place of the old one
    old = out.with_name(f".{out.name}.old")
    if old.is_dir() and not out.exists():
        old.rename(out)
    if not (out / MANIFEST).is_file():
        raise CurateError(f"{out}: no index is there to extend; leave --extend away.")
    base = open_index(out)
    config = base.manifest.config
    if kind not in (None, config["kind"]) or memory is not None:
        raise CurateError(
            f"{out}: --extend keeps the index what it is ({config['kind']}); leave --kind and "
            "--memory away, or --extend."
        )
    if config["encoder"] != train.manifest.config["encoder"]:
        raise CurateError(f"{out}: built from vectors of another encoder; leave --extend away.")
    return base


def _same_but_finish(out: Path, manifest: Manifest) -> Index | None:
    """The index in `out` if it is the one to build, merely finished in another way."""
    if not (out / MANIFEST).is_file():
        return None
    found = artifacts.read_manifest(out)
    config = {**found.config, "finish": manifest.config["finish"]}
    same = Manifest(found.kind, config, found.inputs).key == manifest.key
    whole = same and not artifacts.missing_outputs(out, found)
    return Index(out, found) if whole else None


def _described(manifest: Manifest, work: Path, count: int) -> Manifest:
    """The manifest with what is known once the index is there."""
    import faiss
    import pyarrow as pa

    counts: dict[str, Any] = {"vectors": count}
    parts = index_parts.read_parts(work, Manifest("index", {}, [], counts=counts))
    counts |= {"parts": len(parts), "largest_error": max(part.error for part in parts)}
    versions = {"faiss": str(faiss.__version__), "pyarrow": str(pa.__version__)}
    return Manifest(
        manifest.kind, manifest.config, manifest.inputs, counts=counts, versions=versions
    )


@dataclass(frozen=True)
class Build:
    """The making of an index in a work folder, from `base` where that is extended."""

    train: Embeddings
    work: Path
    config: Mapping[str, Any]
    base: Index | None
    run_units: RunUnits
    on_part: Callable[[int], None]

    def take_over(self) -> tuple[list[Part], dict[int, int]]:
        """The parts of `base`, and which part (key) is held as which of them (value)."""
        old = index_parts.read_parts(self.base.root, self.base.manifest) if self.base else []
        kept = index_parts.match_parts(old, self.train)
        for part in kept:
            self.on_part(self.train.sizes[part])
        return old, kept

    def write_parts(self, held: Mapping[int, Part]) -> list[Part]:
        """Say what is held of every part; returns it in their order."""
        parts = [held[part] for part in range(len(self.train.sizes))]
        index_parts.write_parts(self.work, parts)
        return parts


class _FaissBuild(Build):
    """The making of `index.faiss`."""

    def write_index(self) -> dict[str, Any]:
        """Train, fill and merge; returns the manifest's entry of the file."""
        remove_remains(self.work, below=True)  # which may be as large as an index
        self._write_trained()
        old, kept = self.take_over()
        wanted = [part for part in range(len(self.train.sizes)) if part not in kept]
        folder, trained = self.work / _PARTS, self.work / TRAINED_FILE
        filled = index_parts.fill(
            self.train, wanted, trained, folder, run_units=self.run_units, on_part=self.on_part
        )
        parts = self.write_parts(filled | {part: old[number] for part, number in kept.items()})
        return self._merge(parts, kept, [part.vectors for part in old])

    def _write_trained(self) -> None:
        """The trained index without rows: of the index that is extended, or trained now."""
        import faiss

        path = self.work / TRAINED_FILE
        if path.is_file():
            return
        if self.base:
            write_bytes(path, (self.base.root / TRAINED_FILE).read_bytes())
            return
        plan = Plan(*(self.config[name] for name in ("kind", "lists", "probes", "reason")))
        stored = Stored(self.train.view_parts(), self.train.sizes)
        trained = faiss_fill.train(plan, stored, self.train.dim, seed=self.config["seed"])
        write_bytes(path, faiss.serialize_index(trained).tobytes())

    def _merge(
        self, parts: list[Part], kept: dict[int, int], old_sizes: list[int]
    ) -> dict[str, Any]:
        import faiss

        trained = faiss.read_index(str(self.work / TRAINED_FILE))
        now = index_parts.starts(self.train.sizes)
        sources: list[faiss_merge.Source] = [
            faiss_merge.FilledPart(
                index_parts.runs_path(self.work / _PARTS, number), part.vectors, int(now[number]),
                list_count(trained), code_size(trained),
            )
            for number, part in enumerate(parts) if number not in kept
        ]  # fmt: skip
        if self.base and kept:
            moved = np.full(len(old_sizes), -1, np.int64)
            for number, was in kept.items():
                moved[was] = now[number]
            before = index_parts.starts(old_sizes)
            sources.append(faiss_merge.OldIndex(self.base.load(), before, moved))
        path, error = self.work / INDEX_FILE, max(part.error for part in parts)
        try:
            with atomic_write(path) as stream:
                hashed = Hashing(stream)
                faiss_merge.write_merged(hashed, trained, sources, self.train.count, error)
        except ValueError as problem:
            raise CurateError(
                f"{problem}; remove {self.work} and build the index again."
            ) from problem
        return {"path": INDEX_FILE, "bytes": path.stat().st_size, "sha256": hashed.hexdigest()}


class Hashing:
    """A stream for writing that hashes what passes, so that a large file is not read again."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> None:
        """Take bytes."""
        self._hash.update(data)
        self._stream.write(data)

    def hexdigest(self) -> str:
        """SHA-256 of all that was written."""
        return self._hash.hexdigest()


def _write_ids(path: Path, train: Embeddings) -> None:
    """Say what every item is, part by part: a table of `tables.IDS`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = {pl.Int32: pa.int32(), pl.Int64: pa.int64(), pl.String: pa.string()}
    schema = pa.schema([(name, arrow[type(kind)]) for name, kind in tables.IDS.items()])
    start, held = 0, pl.DataFrame()
    with (
        atomic_write(path) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd", write_statistics=False) as writer,
    ):
        for part, size in enumerate(train.sizes):
            ids = train.metadata(part, pl.Schema({"id": pl.String}))["id"]
            rows = {"item": np.arange(start, start + size), "id": ids, "row": np.arange(size)}
            frame = pl.DataFrame(rows).with_columns(part=pl.lit(part)).select(list(tables.IDS))
            held, start = pl.concat([held, frame]) if held.height else frame, start + size
            if held.height >= _ID_ROWS or part == len(train.sizes) - 1:
                writer.write_table(held.to_arrow().cast(schema), row_group_size=_ID_ROWS)
                held = pl.DataFrame()
