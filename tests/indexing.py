"""FAISS indices of made-up parts as a build makes them: trained, filled part by part, merged."""

import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from indices.faiss_fill import Filler, train, write_runs
from indices.faiss_merge import FilledPart, write_merged
from indices.faiss_plan import Plan
from indices.faiss_rows import code_size, list_count
from indices.stored import Matrix, Stored


def filled(folder: Path, trained: Any, parts: Sequence[Matrix]) -> tuple[list[FilledPart], float]:
    folder.mkdir(exist_ok=True)
    sources, start, error = [], 0, 0.0
    for part in parts:
        path = folder / f"{len(list(folder.iterdir()))}.runs"
        with path.open("wb") as stream:
            error = max(error, write_runs(stream, Filler(trained).runs(part)))
        sources.append(FilledPart(path, len(part), start, list_count(trained), code_size(trained)))
        start += len(part)
    return sources, error


def merged(trained: Any, sources: Sequence[Any], count: int, error: float) -> bytes:
    stream = io.BytesIO()
    write_merged(stream, trained, sources, count, error)
    return stream.getvalue()


def build(plan: Plan, parts: Sequence[Matrix], *, seed: int = 0) -> Any:
    """The `faiss.Index` in memory."""
    import faiss

    trained = train(plan, Stored(parts), parts[0].shape[1], seed=seed)
    with TemporaryDirectory() as folder:
        sources, error = filled(Path(folder), trained, parts)
        data = merged(trained, sources, sum(map(len, parts)), error)
    return faiss.deserialize_index(np.frombuffer(data, np.uint8))
