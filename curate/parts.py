"""Embedding parts on disk: clip-retrieval's layout, read and written one shard at a time."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import tables
from curate.artifacts import MANIFEST, Manifest, output_entry, read_manifest
from curate.errors import CurateError
from curate.files import write_bytes

IMAGES = "img_emb"
TEXTS = "text_emb"


def vectors_path(root: Path, part: int, kind: str = IMAGES) -> Path:
    """Where the vectors of a part are; `kind` is a folder such as `img_emb` or `img_emb_mirror`."""
    return root / kind / f"{kind}_{part:06d}.npy"


def metadata_path(root: Path, part: int) -> Path:
    """Where the table is that has one row per vector of a part."""
    return root / "metadata" / f"metadata_{part:06d}.parquet"


def status_path(root: Path, part: int) -> Path:
    """Where the table is that has one row per sample of a part."""
    return root / "status" / f"status_{part:06d}.parquet"


def view_folder(view: str) -> str:
    """The folder of a view's vectors."""
    return IMAGES if view == "identity" else f"{IMAGES}_{view}"


def write_part(
    root: Path,
    part: int,
    vectors: dict[str, NDArray[np.floating]],
    metadata: pl.DataFrame,
    status: pl.DataFrame,
) -> list[dict[str, Any]]:
    """Write the files of one part, each whole or absent; returns their manifest entries.

    Args:
        root: the embeddings folder.
        part: number of the part.
        vectors: arrays (n, d) by folder name.
        metadata: n rows, in the order of the vectors.
        status: one row per sample.
    """
    paths = []
    for kind, array in vectors.items():
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        paths.append(vectors_path(root, part, kind))
        write_bytes(paths[-1], buffer.getvalue())
    tables.write_table(metadata_path(root, part), metadata, tables.METADATA)
    tables.write_table(status_path(root, part), status, tables.STATUS)
    paths += [metadata_path(root, part), status_path(root, part)]
    return [output_entry(root, path) for path in paths]


@dataclass(frozen=True)
class Embeddings:
    """A finished embeddings folder; nothing of it is in memory until it is asked for.

    Attributes:
        sizes: vectors per part.
    """

    root: Path
    manifest: Manifest
    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The data set's name."""
        return str(self.manifest.counts["dataset"])

    @property
    def count(self) -> int:
        """How many vectors there are."""
        return sum(self.sizes)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.manifest.config["encoder"]["dim"])

    def vectors(self, part: int, view: str = "identity") -> NDArray[np.floating]:
        """The vectors of one part, memory-mapped: (n, d) float16 or float32.

        Raises:
            CurateError: the file is damaged or has another shape than the manifest says.
        """
        path = vectors_path(self.root, part, view_folder(view))
        try:
            array = np.load(path, mmap_mode="r" if self.sizes[part] else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CurateError(f"{path}: not readable ({error}); embed this shard again.") from error
        if array.shape != (self.sizes[part], self.dim):
            raise CurateError(f"{path}: shape {array.shape}, {self.sizes[part], self.dim} expected.")
        return array

    def iter_vectors(self, view: str = "identity") -> Iterator[NDArray[np.floating]]:
        """The parts one after the other."""
        for part in range(len(self.sizes)):
            yield self.vectors(part, view)

    def metadata(self, part: int) -> pl.DataFrame:
        """One row per vector of a part."""
        return tables.read_table(metadata_path(self.root, part), tables.METADATA)

    def all_metadata(self) -> pl.DataFrame:
        """One row per vector of the whole set, in order."""
        frames = [self.metadata(part) for part in range(len(self.sizes))]
        return pl.concat([pl.DataFrame(schema=tables.METADATA), *frames])

    def all_status(self) -> pl.DataFrame:
        """One row per sample of the whole set, in order."""
        frames = [
            tables.read_table(status_path(self.root, part), tables.STATUS)
            for part in range(len(self.sizes))
        ]
        return pl.concat([pl.DataFrame(schema=tables.STATUS), *frames])

    def lookup(self, items: Sequence[int] | NDArray[np.int64]) -> pl.DataFrame:
        """Metadata rows of items (numbered through all parts), in the order given.

        Only the parts that hold one of them are read.
        """
        wanted = np.asarray(items, dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        parts = np.searchsorted(starts, wanted, side="right") - 1
        frames = [pl.DataFrame(schema={"at": pl.Int64, **tables.METADATA})]
        for part in np.unique(parts):
            at = np.flatnonzero(parts == part)
            rows = self.metadata(int(part))[(wanted[at] - starts[part]).tolist()]
            frames.append(rows.select(pl.Series("at", at, dtype=pl.Int64), pl.all()))
        return pl.concat(frames).sort("at").drop("at")


def open_embeddings(root: Path) -> Embeddings:
    """Open an embeddings folder that `curate embed` wrote.

    Raises:
        CurateError: it is not one.
    """
    if not (root / MANIFEST).is_file():
        raise CurateError(f"{root}: not an embeddings folder (no {MANIFEST}); run `curate embed`.")
    manifest = read_manifest(root)
    if manifest.kind != "embeddings":
        raise CurateError(f"{root}: holds {manifest.kind}, not embeddings.")
    return Embeddings(root, manifest, tuple(manifest.counts["vectors_per_part"]))
