"""Filling an index part by part: one part of the embeddings is one unit of work and one file.

A unit is complete when its note is there, which is written last. What a finished index holds stands
in its `parts.json`, so that a set that grew is filled where it grew.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from curate.artifacts import Manifest
from curate.errors import CurateError
from curate.files import atomic_write, read_json, write_json
from curate.parts import Embeddings, vectors_path
from curate.published import Published
from curate.units import RunUnits, results
from indices import faiss_fill
from indices.faiss_fill import Filler
from indices.stored import Numbers

PARTS_FILE = "parts.json"


@dataclass(frozen=True)
class Part:
    """What an index holds of one part.

    Attributes:
        vectors: how many.
        sha256: of the file of vectors; None where the embeddings do not tell it.
        error: largest distance of a row from what the index holds of it.
    """

    vectors: int
    sha256: str | None
    error: float


@dataclass(frozen=True)
class FillUnit:
    """One part to fill for the index that is trained in `trained`."""

    train: Embeddings
    part: int
    sha256: str | None
    trained: str
    out: str

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"fill part {self.part} of {self.train.name}"


def runs_path(out: Path, part: int) -> Path:
    """Where the filled rows of a part are."""
    return out / f"part_{part:06d}.runs"


def _note_path(out: Path, part: int) -> Path:
    return out / f"part_{part:06d}.json"


def fill_unit(unit: FillUnit) -> dict[str, Any]:
    """Fill one part; returns what `Part` says of it.

    Raises:
        CurateError: the vectors are damaged or of another width, or the file cannot be written.
    """
    vectors = unit.train.vectors(unit.part)
    path = runs_path(Path(unit.out), unit.part)
    with atomic_write(path) as stream:
        error = faiss_fill.write_runs(stream, _filler(unit.trained).runs(vectors))
    part = asdict(Part(len(vectors), unit.sha256, error))
    write_json(_note_path(Path(unit.out), unit.part), part)
    return part


@lru_cache(maxsize=1)
def _filler(trained: str) -> Filler:
    """The trained index, read once per worker."""
    import faiss

    return Filler(faiss.read_index(trained))


def fill(
    train: Embeddings,
    wanted: Sequence[int],
    trained: Path,
    out: Path,
    *,
    run_units: RunUnits,
    on_part: Callable[[int], None],
) -> dict[int, Part]:
    """Fill these parts into the folder `out`, but for those that an interrupted run has filled.

    Raises:
        PartialRunError: some parts failed; the others are kept.
    """
    digests = vector_digests(train)
    entries = replace(train.manifest, inputs=[], outputs=[])  # thousands of them, sent to workers
    bare = replace(train, manifest=entries)
    done = {part: note for part in wanted if (note := _finished(out, part, digests[part]))}
    for note in done.values():
        on_part(note.vectors)
    units = [
        FillUnit(bare, part, digests[part], str(trained), str(out))
        for part in wanted
        if part not in done
    ]

    def watched() -> Any:
        for outcome in run_units(fill_unit, units):
            if outcome.error is None:
                done[outcome.unit.part] = Part(**outcome.result)
                on_part(outcome.result["vectors"])
            yield outcome

    results(watched(), f"index {train.name}")
    return done


def _finished(out: Path, part: int, sha256: str | None) -> Part | None:
    if not (_note_path(out, part).is_file() and runs_path(out, part).is_file()):
        return None
    note = Part(**read_json(_note_path(out, part)))
    return note if note.sha256 == sha256 else None


def vector_digests(train: Embeddings) -> list[str | None]:
    """SHA-256 of the file of vectors of every part, where the manifest tells them.

    Of published vectors, it is what tells one version of a file from another.
    """
    if isinstance(train, Published):
        entries = [entry for entry in train.manifest.inputs if not entry["name"].endswith(" table")]
        return [str(entry["sha256"]) for entry in entries]
    known = {entry["path"]: str(entry["sha256"]) for entry in train.manifest.outputs}
    paths = (vectors_path(Path(), part).as_posix() for part in range(len(train.sizes)))
    return [known.get(path) for path in paths]


# --- what an index holds -------------------------------------------------------------------------


def write_parts(root: Path, parts: Sequence[Part]) -> None:
    """Say what an index holds."""
    write_json(root / PARTS_FILE, {"parts": [asdict(part) for part in parts]})


def read_parts(root: Path, manifest: Manifest) -> list[Part]:
    """What an index holds, by part.

    Raises:
        CurateError: the file is damaged or of another index.
    """
    path = root / PARTS_FILE
    try:
        parts = [Part(**entry) for entry in read_json(path)["parts"]]
        count = sum(part.vectors for part in parts)
    except (TypeError, KeyError) as error:
        raise CurateError(f"{path}: damaged ({error}); build the index anew.") from error
    if count != manifest.counts["vectors"]:
        raise CurateError(f"{path}: of another index; build it anew.")
    return parts


def match_parts(old: Sequence[Part], train: Embeddings) -> dict[int, int]:
    """Which part of the embeddings (key) each part of an index (value) was filled from."""
    free: dict[tuple[str, int], list[int]] = {}
    for number, part in enumerate(old):
        if part.sha256 is not None:
            free.setdefault((part.sha256, part.vectors), []).append(number)
    found = {}
    for number, (sha256, size) in enumerate(zip(vector_digests(train), train.sizes, strict=True)):
        if sha256 is not None and (same := free.get((sha256, size))):
            found[number] = same.pop(0)
    return found


def starts(sizes: Sequence[int]) -> Numbers:
    """Number of the first item of each part, and of all items: (p + 1,)."""
    return np.cumsum([0, *sizes], dtype=np.int64)
