"""Embedding parts on disk: clip-retrieval's layout, read and written one shard at a time."""

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import tables
from curate.artifacts import MANIFEST, Manifest, output_entry, read_manifest
from curate.encoders.base import decoding_of
from curate.errors import CurateError
from curate.files import write_bytes
from curate.formats import npy
from curate.shards import check_name
from indices.stored import Matrix

IMAGES = "img_emb"
TEXTS = "text_emb"


def vectors_path(root: Path, part: int, kind: str = IMAGES) -> Path:
    """Where the vectors of a part are; `kind` is a folder such as `img_emb` or `img_emb_mirror`."""
    return root / kind / part_name(part, kind)


def part_name(part: int, kind: str = IMAGES) -> str:
    """The file name of a part's vectors."""
    return f"{kind}_{part:06d}.npy"


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
class Embeddings(ABC):
    """The vectors of a data set, and what stands beside them, by part.

    Nothing of it is in memory until it is asked for. `EmbeddingsFolder` is what `curate embed`
    wrote, `curate.published.Published` what others did.

    Attributes:
        root: the folder; of vectors elsewhere, the one that refers to them, or their address.
        sizes: vectors per part.
    """

    root: Path
    manifest: Manifest
    sizes: tuple[int, ...]

    @property
    @abstractmethod
    def name(self) -> str:
        """The data set's name."""

    @abstractmethod
    def vectors(self, part: int, view: str = "identity") -> Matrix:
        """The vectors of one part, (n, d), of which only the rows asked for are read.

        Raises:
            CurateError: they are damaged, changed, or not of the shape that the manifest says.
        """

    @abstractmethod
    def metadata(self, part: int, schema: pl.Schema = tables.METADATA) -> pl.DataFrame:
        """One row per vector of a part, with all columns or those of `schema`.

        Raises:
            CurateError: the table is damaged or has not one row per vector.
        """

    @abstractmethod
    def all_status(self) -> pl.DataFrame:
        """One row per sample of the whole set, in order."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self.root)

    @property
    def caution(self) -> str | None:
        """What a reader of results must know of these vectors, if anything."""
        return None

    @property
    def count(self) -> int:
        """How many vectors there are."""
        return sum(self.sizes)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.manifest.config["encoder"]["dim"])

    def all_vectors(self, view: str = "identity") -> NDArray[np.floating]:
        """The vectors of the whole set in memory: (n, d).

        Raises:
            CurateError: one is zero or not finite, so that nothing can be said of its item.
        """
        first = self.vectors(0, view) if self.sizes else np.empty((0, self.dim), np.float16)
        whole = np.empty((self.count, self.dim), first.dtype)
        ends = np.cumsum(self.sizes)
        for part, (end, size) in enumerate(zip(ends, self.sizes, strict=True)):
            array = self.vectors(part, view)[0:size]
            whole[end - size : end] = array
            if not (np.isfinite(array).all(axis=1) & array.any(axis=1)).all():
                raise CurateError(
                    f"{self.place}, {part_name(part, view_folder(view))}: a vector is zero or not "
                    "finite; embed again."
                )
        return whole

    def view_parts(self, view: str = "identity") -> Sequence[Matrix]:
        """The parts as a sequence; each is opened when asked for, as thousands cannot be open."""
        return _Parts(self, view)

    def all_metadata(self, schema: pl.Schema = tables.METADATA) -> pl.DataFrame:
        """One row per vector of the whole set, in order, with all columns or those of `schema`."""
        frames = [self.metadata(part, schema) for part in range(len(self.sizes))]
        return pl.concat([pl.DataFrame(schema=schema), *frames])

    def lookup(
        self, items: Sequence[int] | NDArray[np.int64], schema: pl.Schema = tables.METADATA
    ) -> pl.DataFrame:
        """Metadata rows of items (numbered through all parts), in the order given.

        Only the parts that hold one of them are read, and of these the columns of `schema`.
        """
        wanted = np.asarray(items, dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        parts = np.searchsorted(starts, wanted, side="right") - 1
        frames = [pl.DataFrame(schema={"at": pl.Int64, **schema})]
        for part in np.unique(parts):
            at = np.flatnonzero(parts == part)
            rows = self.metadata(int(part), schema)[(wanted[at] - starts[part]).tolist()]
            frames.append(rows.select(pl.Series("at", at, dtype=pl.Int64), pl.all()))
        return pl.concat(frames).sort("at").drop("at")


class EmbeddingsFolder(Embeddings):
    """A finished folder that `curate embed` wrote."""

    @property
    def name(self) -> str:
        """The data set's name."""
        return check_name(str(self.manifest.counts["dataset"]))

    def view_parts(self, view: str = "identity") -> Sequence[Matrix]:
        """The parts as a sequence.

        Raises:
            CurateError: the vectors were not kept.
        """
        self._check_kept()
        return super().view_parts(view)

    def _check_kept(self) -> None:
        if not self.manifest.config.get("kept", True):
            raise CurateError(
                f"{self.root}: has no vectors, as the set was joined while it was embedded "
                "(--fused); run `curate embed` on its images, or `curate dedup` without --fused."
            )

    def vectors(self, part: int, view: str = "identity") -> NDArray[np.floating]:
        """The vectors of one part, memory-mapped: (n, d) float16 or float32.

        Raises:
            CurateError: they were not kept, or the file is damaged or has another shape than the
                manifest says.
        """
        self._check_kept()
        path = vectors_path(self.root, part, view_folder(view))
        array = read_vectors(path)
        if array.shape != (self.sizes[part], self.dim):
            raise CurateError(
                f"{path}: shape {array.shape}, {self.sizes[part], self.dim} expected."
            )
        return array

    def metadata(self, part: int, schema: pl.Schema = tables.METADATA) -> pl.DataFrame:
        """One row per vector of a part, with all columns or those of `schema`.

        Raises:
            CurateError: the table is damaged or has not one row per vector.
        """
        path = metadata_path(self.root, part)
        table = tables.read_table(path, schema)
        if table.height != self.sizes[part]:
            raise CurateError(f"{path}: {table.height} rows for {self.sizes[part]} vectors.")
        return table

    def all_status(self) -> pl.DataFrame:
        """One row per sample of the whole set, in order."""
        frames = [
            tables.read_table(status_path(self.root, part), tables.STATUS)
            for part in range(len(self.sizes))
        ]
        return pl.concat([pl.DataFrame(schema=tables.STATUS), *frames])


class _Parts(Sequence[Matrix]):
    """Vectors of one view by part; holds none open."""

    def __init__(self, embeddings: Embeddings, view: str) -> None:
        self._embeddings = embeddings
        self._view = view

    def __len__(self) -> int:
        return len(self._embeddings.sizes)

    def __getitem__(self, part: Any) -> Any:
        if not 0 <= part < len(self):
            raise IndexError(part)
        return self._embeddings.vectors(part, self._view)


def read_vectors(path: Path, *, remedy: str = "embed again") -> NDArray[np.floating]:
    """A `.npy` matrix of floats, memory-mapped: (n, d).

    Raises:
        CurateError: the file is no such matrix; it names the remedy.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except npy.DAMAGE as error:
        raise CurateError(f"{path}: not readable as vectors ({error}); {remedy}.") from error
    if not isinstance(array, np.ndarray) or (array.dtype.kind, array.ndim) != ("f", 2):
        raise CurateError(f"{path}: holds no matrix of floats; {remedy}.")
    return array


def check_encoders(test: Embeddings, train: Embeddings) -> None:
    """Check that vectors of two sets can be compared.

    Of published vectors only what the user states of their encoder can be compared: name and width.

    Raises:
        CurateError: different encoders made them.
    """
    ours, theirs = (dict(side.manifest.config["encoder"]) for side in (test, train))
    if ours["dim"] != theirs["dim"]:
        raise CurateError(
            f"{test.place}: {ours['name']} gives vectors of width {ours['dim']}, but those of "
            f"{train.place} have {theirs['dim']}; both must be of the same encoder."
        )
    same = ours["name"] == theirs["name"] if "stated" in theirs else ours == theirs
    if not same:
        decoded = [decoding_of(one.get("preprocessing", {})) for one in (ours, theirs)]
        if decoded[0] != decoded[1]:
            raise CurateError(
                f"{test.place} was embedded with --decode {decoded[0]}, {train.place} with "
                f"--decode {decoded[1]}; embed both alike."
            )
        raise CurateError(
            f"{test.place} and {train.place}: embedded by different encoders "
            f"({ours['name']}, {theirs['name']}) or versions of one; embed both again."
        )


def open_embeddings(root: Path) -> EmbeddingsFolder:
    """Open an embeddings folder that `curate embed` wrote.

    Raises:
        CurateError: it is not one.
    """
    if not (root / MANIFEST).is_file():
        raise CurateError(f"{root}: not an embeddings folder (no {MANIFEST}); run `curate embed`.")
    manifest = read_manifest(root)
    if manifest.kind != "embeddings":
        raise CurateError(f"{root}: holds {manifest.kind}, not embeddings.")
    return EmbeddingsFolder(root, manifest, tuple(manifest.counts["vectors_per_part"]))
