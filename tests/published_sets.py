"""Vectors on disk as clip-retrieval and LAION publish them, written with numpy and pyarrow."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Columns = Mapping[str, Sequence[Any]]


def laion_columns(first: int, count: int) -> dict[str, list[Any]]:
    """The columns of LAION's tables for items from number `first` on."""
    numbers = range(first, first + count)
    return {
        "image_path": [f"{n:09d}" for n in numbers],
        "caption": [f"picture {n}" for n in numbers],
        "NSFW": ["UNLIKELY"] * count,
        "similarity": [0.3] * count,
        "LICENSE": ["?"] * count,
        "url": [f"https://example.org/{n}.jpg" for n in numbers],
        "key": [f"{n:09d}" for n in numbers],
        "status": ["success"] * count,
        "error_message": pa.nulls(count),
        "width": [256] * count,
        "height": [192] * count,
        "original_width": [640] * count,
        "exif": ["{}"] * count,
        "sha256": [hashlib.sha256(b"%d" % n).hexdigest() for n in numbers],
    }


def write_table(path: Path, columns: Columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)
    return path


def publish(
    root: Path,
    arrays: Sequence[NDArray[np.floating]],
    *,
    width: int = 1,
    tables: Sequence[Columns] | None = None,
    flat: bool = False,
) -> Path:
    """Write one part per array; numbers have `width` digits at least, `tables` defaults to LAION's.

    An empty list of tables leaves them away.
    """
    vectors, others = (root, root) if flat else (root / "img_emb", root / "metadata")
    vectors.mkdir(parents=True, exist_ok=True)
    starts = np.cumsum([0, *map(len, arrays)]).tolist()
    for number, array in enumerate(arrays):
        np.save(vectors / f"img_emb_{number:0{width}d}.npy", array)
        if tables is None or tables:
            columns = tables[number] if tables else laion_columns(starts[number], len(array))
            write_table(others / f"metadata_{number:0{width}d}.parquet", columns)
    return root
