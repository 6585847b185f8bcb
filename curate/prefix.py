"""A prefix store as an artifact: by it, vectors are joined with again and again, exactly.

The folder holds `sketch.npz`, how vectors become short codes; `codes/part_NNNNNN.npy`, the codes of
every part; `plan.json`, what the sketch was chosen for and what it is expected to gain; and
`parts.json`, which tells the parts by their digests. A join reads the codes, and of the vectors
those of candidates, which decide; so the store is of use only beside its vectors.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from curate import artifacts, index_parts
from curate.artifacts import Manifest
from curate.detectors import find_detector
from curate.errors import CurateError
from curate.files import atomic_write, file_digest, read_json, remove_remains, write_json
from curate.hardware import one_thread
from curate.index import PREFIX, SOURCE, Build, Hashing, Index, base_of, open_index, source_note
from curate.index_parts import Part
from curate.parts import Embeddings
from curate.units import RunUnits, results, run_in_process
from indices import planning, prefix
from indices.faiss_check import Items
from indices.prefix import CodedItems
from indices.sketch import Sketcher
from indices.stored import Stored

SKETCH_FILE = "sketch.npz"
PLAN_FILE = "plan.json"
_CODES = "codes"
_NOTES = ".notes"
_REMEDY = "build the store again"


def codes_path(root: Path, part: int) -> Path:
    """Where the codes of a part are."""
    return root / _CODES / f"part_{part:06d}.npy"


@contextmanager
def _told(root: Path | str) -> Iterator[None]:
    """What is wrong with a file of a store, as an error with its remedy."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        place = "" if text.startswith(str(root)) else f"{root}: "
        raise CurateError(f"{place}{text}; {_REMEDY}.") from error


# --- building ------------------------------------------------------------------------------------


def build_prefix(
    train: Embeddings,
    out: Path,
    *,
    threshold: float | None = None,
    extend: bool = False,
    run_units: RunUnits = run_in_process,
    on_part: Callable[[int], None] | None = None,
) -> Index:
    """Build a prefix store of all vectors of an embeddings folder into the folder `out`.

    Args:
        train: what is to be joined with.
        out: the artifact's folder.
        threshold: lowest cosine that joins will ask for, which chooses the width of the codes;
            None takes the floor of the detector. Less may be asked for, and takes longer.
        extend: keep the sketch of the store in `out` and the codes of parts that it holds.
        run_units: runs the units, one per part.
        on_part: called with the number of vectors of each part that is coded.

    Raises:
        PartialRunError: some parts failed; the others are kept.
        CurateError: there is no vector, a threshold is no cosine, or there is nothing to extend.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise CurateError(f"--threshold {threshold:g}: a cosine above 0, at most 1, was expected.")
    if train.count == 0:
        raise CurateError(f"{train.place}: there is no vector to code.")
    base = base_of(train, out, PREFIX, None) if extend else None
    if base:
        _check_files(base)
    config = base.manifest.config if base else _config(train, threshold)
    if threshold not in (None, config["threshold"]):
        raise CurateError(
            f"{out}: --extend keeps the sketch, made for {config['threshold']:g}; leave "
            "--threshold away, or --extend."
        )
    inputs = [{"name": "embeddings", "sha256": train.manifest.id}]
    manifest = Manifest("index", config, inputs)
    if artifacts.finished(out, manifest.key):
        return open_index(out)
    work = artifacts.work_folder(out, manifest.key)
    build = _PrefixBuild(train, work, config, base, run_units, on_part or (lambda _vectors: None))
    known, counts = build.write()
    write_json(work / SOURCE, source_note(train))
    shutil.rmtree(work / _NOTES, ignore_errors=True)
    artifacts.commit(work, out, replace(manifest, counts=counts), known)
    return open_index(out)


def _config(train: Embeddings, threshold: float | None) -> dict[str, Any]:
    encoder = train.manifest.config["encoder"]
    return {
        "kind": PREFIX,
        "threshold": find_detector(encoder["name"]).floor if threshold is None else threshold,
        "encoder": encoder,
        "planned_on": {"embeddings": train.manifest.id, "vectors": train.count},
    }


class _PrefixBuild(Build):
    """The making of a store."""

    def write(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Write all files; returns manifest entries of the codes, and counts."""
        remove_remains(self.work, below=True)
        self._write_sketch()
        old, kept = self.take_over()
        known = [self._keep(part, number) for part, number in sorted(kept.items())]
        coded = self._code([n for n in range(len(self.train.sizes)) if n not in kept])
        known += [entry for _, entry in coded.values()]
        held = {part: old[number] for part, number in kept.items()}
        held |= {part: note for part, (note, _) in coded.items()}
        parts = self.write_parts(held)
        counts = {
            "vectors": self.train.count,
            "parts": len(parts),
            "largest_error": max(part.error for part in parts),
            "bytes_per_item": prefix.record_type(read_sketch(self.work)).itemsize,
        }
        return known, counts

    def _write_sketch(self) -> None:
        """The sketch of the store that is extended, or one that is chosen now."""
        if (self.work / SKETCH_FILE).is_file():  # written last
            return
        if self.base:
            sketcher, note = _verified_sketch(self.base), read_json(self.base.root / PLAN_FILE)
        else:
            stored = Stored(self.train.view_parts(), self.train.sizes)
            plan = planning.plan_codes(stored, self.config["threshold"])
            size = self.train.dim * stored.rows(np.zeros(1, np.int64)).itemsize
            note = _note(plan, planning.rescan(plan, self.train.count, size))
            sketcher = plan.sketcher
        write_json(self.work / PLAN_FILE, note)
        with atomic_write(self.work / SKETCH_FILE) as stream:
            prefix.write_sketcher(stream, sketcher)

    def _keep(self, part: int, was: int) -> dict[str, Any]:
        """Take over codes from the store that is extended; returns their manifest entry."""
        assert self.base is not None
        source, path = codes_path(self.base.root, was), codes_path(self.work, part)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, path)
            except OSError:  # not every file system has links
                with atomic_write(path) as stream, source.open("rb") as codes:
                    shutil.copyfileobj(codes, stream)
        name = source.relative_to(self.base.root).as_posix()
        entry = next(one for one in self.base.manifest.outputs if one["path"] == name)
        return {**entry, "path": path.relative_to(self.work).as_posix()}

    def _code(self, wanted: Sequence[int]) -> dict[int, tuple[Part, dict[str, Any]]]:
        """Code these parts, but for those that an interrupted run has coded."""
        digests = index_parts.vector_digests(self.train)
        bare = replace(self.train, manifest=replace(self.train.manifest, inputs=[], outputs=[]))
        sketch = file_digest(self.work / SKETCH_FILE)
        units = [CodeUnit(bare, part, digests[part], str(self.work), sketch) for part in wanted]
        done = {unit.part: note for unit in units if (note := _finished(unit))}
        for found, _ in done.values():
            self.on_part(found.vectors)

        def watched() -> Any:
            for outcome in self.run_units(
                code_unit, [unit for unit in units if unit.part not in done]
            ):
                if outcome.error is None:
                    done[outcome.unit.part] = _read_note(outcome.result)
                    self.on_part(outcome.result["part"]["vectors"])
                yield outcome

        results(watched(), f"code {self.train.name}")
        return done


def _note(plan: planning.Plan, gain: planning.Rescan) -> dict[str, Any]:
    """What the sketch is expected to do, rounded to what can be known of it."""
    return {
        "reason": plan.reason,
        "candidates": float(f"{plan.candidates:.3g}"),
        "rescan": {
            "queries": gain.queries, "vector_bytes": gain.vector_bytes,
            "code_bytes": gain.code_bytes, "ratio": float(f"{gain.ratio:.3g}"),
        },
    }  # fmt: skip


@dataclass(frozen=True)
class CodeUnit:
    """One part to code by the sketch in `out`, whose file has the digest `sketch`."""

    train: Embeddings
    part: int
    sha256: str | None
    out: str
    sketch: str


def code_unit(unit: CodeUnit) -> dict[str, Any]:
    """Code one part; returns what `Part` says of it, and the manifest entry of the file.

    Raises:
        CurateError: the vectors are damaged or of another width, or the file cannot be written.
    """
    out, vectors = Path(unit.out), unit.train.vectors(unit.part)
    path, sketcher = codes_path(out, unit.part), _sketch(unit.out, unit.sketch)
    if vectors.shape[1] != sketcher.dim:
        raise CurateError(
            f"{unit.train.place}: part {unit.part} has vectors of width {vectors.shape[1]}, "
            f"{sketcher.dim} expected."
        )
    with atomic_write(path) as stream, one_thread():
        hashed = Hashing(stream)
        error = prefix.write_codes(hashed, vectors, sketcher)
    name = path.relative_to(out).as_posix()
    entry = {"path": name, "bytes": path.stat().st_size, "sha256": hashed.hexdigest()}
    note = {"part": asdict(Part(len(vectors), unit.sha256, error)), "entry": entry}
    write_json(_note_path(unit), note)
    return note


def _note_path(unit: CodeUnit) -> Path:
    return Path(unit.out) / _NOTES / f"part_{unit.part:06d}.json"


def _read_note(note: Mapping[str, Any]) -> tuple[Part, dict[str, Any]]:
    return Part(**note["part"]), note["entry"]


def _finished(unit: CodeUnit) -> tuple[Part, dict[str, Any]] | None:
    if not (_note_path(unit).is_file() and codes_path(Path(unit.out), unit.part).is_file()):
        return None
    part, entry = _read_note(read_json(_note_path(unit)))
    return (part, entry) if part.sha256 == unit.sha256 else None


def read_sketch(root: Path) -> Sketcher:
    """The sketch of a store.

    Raises:
        CurateError: its file is missing or damaged.
    """
    with _told(root):
        return prefix.read_sketcher(root / SKETCH_FILE)


@lru_cache(maxsize=1)
def _sketch(root: str, _digest: str) -> Sketcher:
    """The sketch, read once per worker."""
    return read_sketch(Path(root))


# --- using ---------------------------------------------------------------------------------------


def coded_items(index: Index, train: Embeddings) -> CodedItems:
    """What joins exactly with `train`, reading codes.

    Raises:
        CurateError: the store is damaged or of other vectors.
    """
    if index.embeddings_id != train.manifest.id:
        raise CurateError(
            f"{index.root}: built from other vectors than {train.place}; {_REMEDY}, or extend it."
        )
    _check_files(index)
    files = [codes_path(index.root, part) for part in range(len(train.sizes))]
    sketcher = _verified_sketch(index)
    return CodedItems(sketcher, files, train.view_parts(), train.sizes)


def _check_files(index: Index) -> None:
    missing = artifacts.missing_outputs(index.root, index.manifest)
    if missing:
        raise CurateError(f"{index.root / missing[0]}: missing or of another size; {_REMEDY}.")


def _verified_sketch(index: Index) -> Sketcher:
    """The sketch, compared with its digest: another basis of norm 1 would miss pairs in silence."""
    path = index.root / SKETCH_FILE
    entry = artifacts.output_entry(index.root, path)
    if entry not in index.manifest.outputs:
        raise CurateError(f"{path}: altered (its SHA-256 is not what was written); {_REMEDY}.")
    return read_sketch(index.root)


@contextmanager
def damage_told(index: Index) -> Iterator[None]:
    """Turn what a join by a damaged store raises into an error with its remedy."""
    with _told(index.root):
        yield


def slowed(index: Index, items: CodedItems, queries: Stored, floor: float) -> str | None:
    """A sentence on what a join below the floor that the store was made for is expected to take."""
    made_for = index.manifest.config["threshold"]
    if floor >= made_for or not (queries.count and items.count):
        return None
    plan = planning.expected(items.plan().sketcher, queries, items.stored, floor)
    return (
        f"{index.root}: made for cosines from {made_for:g} on; at {floor:g} still exact, but 1 "
        f"pair in {1 / plan.candidates:.2g} is scored exactly: about {plan.seconds:.2g} s on two "
        "cores."
    )


def describe_prefix(index: Index) -> dict[str, Any]:
    """What a store is and what it is expected to gain, for people and machines."""
    config, counts, note = index.manifest.config, index.manifest.counts, read_plan(index)
    sketcher, rescan = read_sketch(index.root), note["rescan"]
    return {
        "kind": PREFIX,
        "reason": note["reason"],
        "vectors": counts["vectors"],
        "width": sketcher.width,
        "precision": sketcher.precision,
        "bytes_per_item": rescan["code_bytes"],
        "vector_bytes_per_item": rescan["vector_bytes"],
        "bytes": sum(entry["bytes"] for entry in index.manifest.outputs),
        "threshold": config["threshold"],
        "predicted_ratio": rescan["ratio"],
        "predicted_for_queries": rescan["queries"],
        "encoder": config["encoder"]["name"],
        "largest_error": counts["largest_error"],
        "added_since": counts["vectors"] - config["planned_on"]["vectors"],
    }


def read_plan(index: Index) -> dict[str, Any]:
    """What the sketch was chosen for.

    Raises:
        CurateError: the file is missing or damaged.
    """
    path = index.root / PLAN_FILE
    note = read_json(path)
    try:
        return {"reason": note["reason"], "rescan": {**note["rescan"]}}
    except (KeyError, TypeError) as error:
        raise CurateError(f"{path}: altered by hand ({error!r}); {_REMEDY}.") from error


def check_prefix(
    index: Index, train: Embeddings, on_rows: Callable[[int], None] | None = None
) -> Items:
    """Compare every code with its vector; returns the items whose code does not bound it.

    Raises:
        CurateError: the store cannot be opened or compared.
    """
    sketcher, altered, start = _verified_sketch(index), Items(), 0
    for part, size in enumerate(train.sizes):
        with _told(index.root), one_thread():
            records = prefix.open_codes(codes_path(index.root, part), size, sketcher)
            for rows in prefix.unfounded(records, train.vectors(part), sketcher):
                altered.add(rows + start)
        start += size
        if on_rows:
            on_rows(size)
    return altered
