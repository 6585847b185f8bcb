"""A FAISS index over an embeddings folder as an artifact: `index.faiss`, `ids.parquet`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate import artifacts, tables
from curate.artifacts import Manifest
from curate.errors import CurateError
from curate.files import write_json
from curate.parts import Embeddings
from indices import faiss_index
from indices.faiss_index import Kind

INDEX_FILE = "index.faiss"
IDS_FILE = "ids.parquet"
_SEEDS = 2**31
_SOURCE = f"{artifacts.FACTS}/source.json"


@dataclass(frozen=True)
class Index:
    """A finished index folder."""

    root: Path
    manifest: Manifest

    @property
    def embeddings_id(self) -> str:
        """Id of the embeddings it was built from."""
        return str(self.manifest.inputs[0]["sha256"])

    def load(self) -> Any:
        """The `faiss.Index`, as a plain `faiss.read_index` would give it.

        Raises:
            CurateError: faiss is not installed or cannot read the file.
        """
        require_faiss()
        try:
            return faiss_index.load(self.root / INDEX_FILE)
        except ValueError as error:
            raise CurateError(f"{error}; build the index again.") from error


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
    manifest = artifacts.read_manifest(root)
    if manifest.kind != "index":
        raise CurateError(f"{root}: holds {manifest.kind}, not an index.")
    return Index(root, manifest)


def build_index(
    train: Embeddings,
    out: Path,
    *,
    kind: Kind | None = None,
    seed: int = 0,
    on_part: Callable[[int], None] | None = None,
) -> Index:
    """Build an index over all vectors of an embeddings folder into the folder `out`.

    Args:
        train: what to index.
        out: the artifact's folder.
        kind: Flat or IVF-Flat; None chooses by size.
        seed: of the training sample and k-means.
        on_part: called with the number of vectors of each part that was added.

    Raises:
        CurateError: faiss is missing, there is no vector, or the seed is none for faiss.
    """
    require_faiss()
    if not 0 <= seed < _SEEDS:
        raise CurateError(f"--seed {seed}: a number from 0 to {_SEEDS - 1} was expected.")
    if train.count == 0:
        raise CurateError(f"{train.root}: there is no vector to index.")
    plan = faiss_index.choose(train.count, train.dim, kind)
    manifest = Manifest(
        "index",
        {**asdict(plan), "seed": seed, "encoder": train.manifest.config["encoder"]},
        [{"name": "embeddings", "sha256": train.manifest.id}],
        counts={"vectors": train.count},
        versions={"faiss": _faiss_version()},
    )
    if artifacts.finished(out, manifest.key):
        return open_index(out)
    work = artifacts.work_folder(out, manifest.key)
    index = faiss_index.build(plan, train.iter_vectors, train.dim, seed=seed, on_part=on_part)
    try:
        faiss_index.save(index, work / INDEX_FILE)
    except OSError as error:
        raise CurateError(f"{out}: could not be written ({error}). Free space.") from error
    tables.write_table(work / IDS_FILE, _ids(train), tables.IDS)
    write_json(work / _SOURCE, {"embeddings": str(train.root.resolve())})
    artifacts.commit(work, out, manifest)
    return open_index(out)


def _faiss_version() -> str:
    import faiss

    return str(faiss.__version__)


def _ids(train: Embeddings) -> pl.DataFrame:
    parts = np.repeat(np.arange(len(train.sizes)), train.sizes)
    rows = np.concatenate([np.arange(size) for size in train.sizes])
    ids = train.all_metadata(pl.Schema({"id": pl.String}))["id"]
    return pl.DataFrame({"item": np.arange(train.count), "id": ids, "part": parts, "row": rows})
