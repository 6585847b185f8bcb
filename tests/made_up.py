"""Embeddings folders without an encoder: any vectors, ids and failures a test asks for."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import artifacts, parts, tables
from curate.artifacts import Manifest
from curate.parts import Embeddings

ENCODER: dict[str, Any] = {"name": "builtin:layout", "dim": 4, "weights": "w"}


def digest_of(id_: str) -> str:
    return hashlib.sha256(id_.encode()).hexdigest()


def part_tables(
    shard: str, count: int, failed: Sequence[int] = (), labels: Sequence[str | None] = ()
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Metadata and status of a shard with `count` vectors, and failures at these positions."""
    status, row = [], 0
    for position in range(count + len(failed)):
        word, key = "zero_bytes" if position in failed else "success", f"k{position}"
        status.append({
            "id": f"{shard}:{key}", "shard": shard, "key": key, "position": position,
            "status": word, "row": row if word == "success" else None,
            "label": labels[position] if labels else None,
        })  # fmt: skip
        row += word == "success"
    usable = [line for line in status if line["status"] == "success"]
    metadata = [
        {name: line[name] for name in ("id", "shard", "key", "label")}
        | {"member": "png", "sha256": digest_of(str(line["id"])), "width": 2, "height": 3}
        for line in usable
    ]
    return tables.rows(metadata, tables.METADATA), tables.rows(status, tables.STATUS)


def embeddings(
    root: Path,
    arrays: Sequence[NDArray[np.floating]],
    *,
    mirrors: Sequence[NDArray[np.floating]] = (),
    name: str | None = None,
    encoder: Mapping[str, Any] = ENCODER,
    failed: Mapping[int, Sequence[int]] | None = None,
) -> Embeddings:
    """A finished folder with one part per array, named by the folder unless told."""
    name = name or root.name
    root.parent.mkdir(parents=True, exist_ok=True)
    work = artifacts.work_folder(root, "made up by a test")
    for number, array in enumerate(arrays):
        vectors = {parts.IMAGES: array}
        if mirrors:
            vectors[parts.view_folder("mirror")] = mirrors[number]
        metadata, status = part_tables(
            f"{name}-{number}", len(array), (failed or {}).get(number, ())
        )
        parts.write_part(work, number, vectors, metadata, status)
    views = ["identity", "mirror"] if mirrors else ["identity"]
    width = arrays[0].shape[1] if arrays else encoder["dim"]
    config = {"encoder": {**encoder, "dim": width}, "views": views, "dtype": "float16"}
    counts = {
        "dataset": name, "samples": 0, "vectors_per_part": [len(a) for a in arrays],
        "vectors": sum(map(len, arrays)), "damaged_shards": {},
    }  # fmt: skip
    inputs = [{"name": f"{name}-{n}", "sha256": f"{n}", "bytes": 1} for n in range(len(arrays))]
    artifacts.commit(work, root, Manifest("embeddings", config, inputs, counts=counts))
    return parts.open_embeddings(root)


def random_parts(seed: int, sizes: Sequence[int], dim: int = 4) -> list[NDArray[np.floating]]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((size, dim)).astype(np.float16) for size in sizes]
