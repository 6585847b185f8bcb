"""An output folder is whole or absent, says what it was made from, and is reused while that holds.

Every artifact has a `manifest.json`. Its `key` digests what the artifact depends on (configuration
and inputs), its `id` the whole manifest, output digests included; so equal ids mean equal bytes.
Facts that change from run to run (places, file times) stand in `facts/` and are part of neither.
"""

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from curate import __version__
from curate.errors import CurateError
from curate.files import digest, file_digest, read_json, sync_folder, write_json

MANIFEST = "manifest.json"
FACTS = "facts"
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What an artifact is: its kind, what it was made from, and the digests of its files.

    Attributes:
        kind: "embeddings", "index", "matches", "split" or "report".
        config: the resolved settings that its bytes depend on.
        inputs: `{"name", "sha256", ...}` of every shard or artifact it was made from.
        outputs: `{"path", "bytes", "sha256"}` of every file in it, sorted by path.
        counts: numbers worth knowing without opening a table.
        versions: of the libraries its bytes may depend on.
    """

    kind: str
    config: dict[str, Any]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    format: int = _FORMAT

    @property
    def key(self) -> str:
        """Digest of what the artifact depends on."""
        return digest({"kind": self.kind, "config": self.config, "inputs": self.inputs})

    @property
    def id(self) -> str:
        """Digest of all that the manifest says."""
        return digest(self._content())

    def _content(self) -> dict[str, Any]:
        names = ("kind", "config", "inputs", "outputs", "counts", "versions", "format")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """The manifest as it is stored."""
        return {**self._content(), "key": self.key, "id": self.id}


def read_manifest(folder: Path) -> Manifest:
    """Read an artifact's manifest.

    Raises:
        CurateError: it is missing, of another format, or was altered by hand.
    """
    path = folder / MANIFEST
    return _manifest_of(read_json(path), str(path))


def parse_manifest(data: bytes, place: str) -> Manifest:
    """The manifest that some bytes are, such as those of an object in a store.

    Args:
        data: JSON.
        place: where it was found, for messages.

    Raises:
        CurateError: it is none, of another format, or was altered by hand.
    """
    try:
        stored = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CurateError(f"{place}: not readable as JSON ({error}).") from error
    return _manifest_of(stored, place)


def _manifest_of(stored: Any, place: str) -> Manifest:
    if not isinstance(stored, dict) or stored.get("format") != _FORMAT:
        raise CurateError(f"{place}: not a manifest of format {_FORMAT}; write the artifact again.")
    given = {name: value for name, value in stored.items() if name not in ("key", "id")}
    try:
        manifest = Manifest(**given)
    except TypeError as error:
        raise CurateError(
            f"{place}: not a manifest ({error}); write the artifact again."
        ) from error
    if manifest.id != stored.get("id"):
        raise CurateError(f"{place}: altered by hand; its id does not match its content.")
    return manifest


def finished(folder: Path, key: str) -> Manifest | None:
    """The manifest of a finished artifact that depends on just what `key` digests, else None."""
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    return manifest if manifest.key == key and not missing_outputs(folder, manifest) else None


def missing_outputs(folder: Path, manifest: Manifest) -> list[str]:
    """Files of the manifest that are absent or of another size (digests are not computed)."""
    return [
        output["path"]
        for output in manifest.outputs
        if not (path := folder / output["path"]).is_file() or path.stat().st_size != output["bytes"]
    ]


def work_path(folder: Path, resume_key: str) -> Path:
    """Where `work_folder` grows an artifact."""
    return folder.with_name(f".{folder.name}.{resume_key[:12]}.partial")


def work_folder(folder: Path, resume_key: str) -> Path:
    """The folder in which an artifact grows; equal keys find what an interrupted run has done.

    Remains of runs with other keys are removed: nothing will ever finish them.
    """
    work = work_path(folder, resume_key)
    for stale in folder.parent.glob(f".{folder.name}.*.partial"):
        if stale != work:
            shutil.rmtree(stale)
    work.mkdir(parents=True, exist_ok=True)
    return work


def commit(
    work: Path, folder: Path, manifest: Manifest, known: Sequence[Mapping[str, Any]] = ()
) -> Manifest:
    """Complete the manifest with the outputs in `work` and rename `work` to `folder`.

    Args:
        work: the folder that holds all outputs.
        folder: the artifact's place; an artifact that is there is replaced.
        manifest: all but outputs and versions.
        known: output entries whose digests were computed when they were written.
    """
    digests = {entry["path"]: dict(entry) for entry in known}
    outputs = [digests.get(name) or output_entry(work, work / name) for name in _files(work)]
    versions = {"curate": __version__, **library_versions(), **manifest.versions}
    whole = Manifest(
        manifest.kind, manifest.config, manifest.inputs, outputs, manifest.counts, versions
    )
    write_json(work / MANIFEST, whole.to_json())
    sync_folder(work)
    old = folder.with_name(f".{folder.name}.old")  # there already, if this was killed before
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    work.rename(folder)
    if old.exists():
        shutil.rmtree(old)
    sync_folder(folder.parent)
    return whole


def output_entry(root: Path, path: Path) -> dict[str, Any]:
    """A manifest's line on one output file."""
    name = path.relative_to(root).as_posix()
    return {"path": name, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def _files(folder: Path) -> list[str]:
    """Output files below a folder; facts, manifest and remains of interrupted writes are none."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(place, name) != folder / FACTS]
        for name in names:
            path = Path(place, name)
            if name.startswith(".") and name.endswith(".tmp"):
                path.unlink()
            elif path != folder / MANIFEST:
                found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide on the bytes of every artifact."""
    names = ("numpy", "pillow", "polars")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


# --- the run as a whole ------------------------------------------------------------------------


def artifacts(root: Path) -> Iterator[Path]:
    """The finished artifact folders at or below `root`, sorted."""
    for path in sorted(root.rglob(MANIFEST)):
        if not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path.parent


def verify(folder: Path) -> list[str]:
    """Compare one artifact with its manifest, byte for byte; returns a sentence per difference."""
    try:
        manifest = read_manifest(folder)
    except CurateError as error:
        return [str(error)]
    problems = []
    expected = {output["path"]: output for output in manifest.outputs}
    for name, output in expected.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.stat().st_size != output["bytes"]:
            problems.append(f"{path}: {path.stat().st_size} bytes, {output['bytes']} were written")
        elif file_digest(path) != output["sha256"]:
            problems.append(f"{path}: altered (its SHA-256 is not the one that was written)")
    problems += [f"{folder / name}: not written by curate" for name in _extra(folder, expected)]
    return problems


def verify_all(folders: Sequence[Path]) -> list[str]:
    """Compare artifacts with their manifests, and with the artifacts that they were made from."""
    problems = [problem for folder in folders for problem in verify(folder)]
    present = {}
    for folder in folders:
        with suppress(CurateError):  # a broken manifest is already among the problems
            present[folder] = read_manifest(folder)
    return problems + stale_artifacts({str(folder): one for folder, one in present.items()})


_OF_IMAGES = ("embeddings", "eval")
"""Kinds that are also made from shards or images, whose digests are those of no artifact."""


def stale_artifacts(present: Mapping[str, Manifest]) -> list[str]:
    """A sentence for each artifact, by its place, whose source was made again since."""
    ids = {manifest.id for manifest in present.values()}
    problems = []
    for place, manifest in present.items():
        sources = {entry["sha256"] for entry in manifest.inputs}
        if manifest.kind not in _OF_IMAGES and not sources <= ids and sources & ids:
            problems.append(f"{place}: stale, its source is no more; make it again or remove it")
    return problems


def _extra(folder: Path, expected: Mapping[str, Any]) -> list[str]:
    nested = [path.relative_to(folder) for path in artifacts(folder) if path != folder]
    present = [
        path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    ]
    return [
        path.as_posix()
        for path in present
        if path.as_posix() not in expected
        and path.parts[0] != FACTS
        and not any(path.is_relative_to(inner) for inner in nested)
    ]


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Keep other processes from writing the same run."""
    with file_lock(run / ".lock"):
        yield


@contextmanager
def artifact_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from writing one artifact that stands outside of a run."""
    with file_lock(folder.with_name(f".{folder.name}.lock")):
        yield


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, which the kernel frees when we die.

    Raises:
        CurateError: another process holds it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CurateError(
            f"{path.parent}: cannot be written ({error.strerror}). Give another --out."
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CurateError(f"{path.parent}: another curate process is working there.") from error
        except OSError as error:
            raise CurateError(
                f"{path}: cannot be locked ({error.strerror}), so nothing keeps two processes "
                "apart there. Give an --out on a file system with locks."
            ) from error
        yield
    finally:
        os.close(handle)
