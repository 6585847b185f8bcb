"""What the result of a step depends on, and in words why it is stale."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import __version__, artifacts, shards
from curate.artifacts import MANIFEST
from curate.discover import open_dataset
from curate.extensions import origins
from curate.files import digest
from curate.labels import FOLDER as LABELS
from curate.vector_files import find_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipelines.flow.config import FlowConfig, SetConfig
    from pipelines.flow.ledger import Record
    from pipelines.flow.steps import Step


def signatures_of(flow: FlowConfig) -> Callable[[str], str | None]:
    """What tells one state of a set from another, by its name; each set is looked at once."""
    return functools.cache(lambda name: _signature(flow.sets[name], name))


def identity_of(
    step: Step,
    flow: FlowConfig,
    ids: Mapping[str, str],
    signature: Callable[[str], str | None] | None = None,
) -> dict[str, Any]:
    """What decides on the result of a step: another identity, another result.

    Args:
        step: the step.
        flow: the flow.
        ids: digests of the results of all steps that are done.
        signature: of a set, by its name; None: it is looked at now.

    Raises:
        CurateError: a set is not there.
    """
    signature = signature or signatures_of(flow)
    sets = {name: signature(name) for name in step.sets}
    return {
        "config": step.config,
        "files": _files(step, Path(flow.out)),
        "inputs": {name: ids.get(name) for name in step.needs},
        "sets": {name: found for name, found in sets.items() if found is not None},
        "curate": __version__,
        "extensions": origins(),
    }


def _signature(source: SetConfig, name: str) -> str | None:
    """What tells one state of a set from another without reading it; None: a step makes it."""
    if source.shards is not None:
        found = open_dataset(source.shards, name)
        return digest([[one.name, shards.signature(found, one)] for one in found.shards])
    if source.embeddings is not None:
        return digest([_state_of_vectors(one) for one in source.embeddings])
    return None


def _state_of_vectors(place: str) -> str | list[str]:
    """What tells one state of given vectors from another; of those in a store, where they are."""
    path = Path(place)
    if path.exists():
        return _stamp(path)
    if shards.is_remote(place):
        return str(path)
    files = (one for part in find_parts([place]) for one in (part.vectors, part.metadata))
    return [_stamp(Path(one)) for one in files if one is not None]


def _files(step: Step, run: Path) -> dict[str, str]:
    """The state of files that settings name, and of what people said meanwhile."""
    found = {name: _stamp(Path(name)) for name in sorted(set(_places_in(step.config)))}
    labels = (run / step.out).with_name(LABELS)
    is_read = step.kind == "calibrate" and step.config["labels"] is None
    return {**found, LABELS: _stamp(labels)} if is_read and labels.is_dir() else found


def _places_in(value: Any) -> Iterator[str]:
    """Texts in a configuration that are files or folders."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _places_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _places_in(inner)
    elif isinstance(value, str):
        name = value.removeprefix("torchscript:")
        if "/" in name and Path(name).exists():
            yield name


def _stamp(path: Path) -> str:
    """What tells one state of a file or folder from another, and of an artifact from another."""
    if (path / MANIFEST).is_file():
        return artifacts.read_manifest(path).id
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    stats = [(one.relative_to(path).as_posix(), one.stat()) for one in files]
    return digest([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])


def why_stale(record: Record, now: Mapping[str, Any], run: Path | None) -> list[str]:
    """Why the result of a step no longer holds, in words; empty: it does.

    Args:
        record: what is known of the step.
        now: its identity as it would be.
        run: the run folder; None: its files cannot be looked at.
    """
    before = record.identity
    reasons = [
        *_changes(before["config"], now["config"]),
        *(f"{name} changed" for name in _differing(before["files"], now["files"])),
        *(f"set {name} changed" for name in _differing(before["sets"], now["sets"])),
        *(
            f"{name} {_what_of(name, before['inputs'], now['inputs'])}"
            for name in _differing(before["inputs"], now["inputs"])
        ),
    ]
    if before["curate"] != now["curate"]:
        reasons.append(f"made by curate {before['curate']}, this is {now['curate']}")
    parts = _differing(before.get("extensions", {}), now["extensions"])
    reasons += [f"extension {name} changed" for name in parts]
    return reasons if run is None else [*reasons, *_missing(record, run)]


def _missing(record: Record, run: Path) -> Iterator[str]:
    """What of a result is not there, in words."""
    for place in record.outputs:
        folder = run / place
        if not (folder / MANIFEST).is_file():
            yield f"{place} is missing"
        else:
            missing = artifacts.missing_outputs(folder, artifacts.read_manifest(folder))
            yield from (f"{place}/{name} is missing or cut" for name in missing[:1])


def _what_of(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What became of a step that is needed, or was."""
    if name not in now:
        return "is needed no more"
    return "was made again" if name in before else "is needed too"


def _changes(before: Any, now: Any, place: str = "") -> list[str]:
    """What differs between two configurations, setting by setting."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in sorted({*before, *now}):
            inner = f"{place}.{key}" if place else str(key)
            found += _changes(before.get(key), now.get(key), inner)
        return found
    same = digest(before) == digest(now)  # a tuple reads back as a list
    return [] if same else [f"{place}: {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    return f"{value!r:.60}"


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
