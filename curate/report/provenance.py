"""Where the numbers of a report come from, as rows a person can read."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Longer lists of plain values say how many there are instead.
_LISTED = 8


@dataclass(frozen=True)
class Artifact:
    """One manifest of the run.

    Attributes:
        name: what the artifact is to a person.
        kind: the manifest's kind.
        id: the manifest's content address.
        inputs: number of input files.
        input_bytes: their size together.
        input_digest: sha256 over the lines "sha256  name" of all inputs, sorted; empty if none.
        config: the settings it was made with, flattened.
    """

    name: str
    kind: str
    id: str
    inputs: int
    input_bytes: int
    input_digest: str
    config: tuple[tuple[str, str], ...]


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every plain value in nested mappings and lists, in their order."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        plain = all(not isinstance(inner, Mapping | list | tuple) for inner in value)
        if plain and len(value) <= _LISTED:
            yield name, ", ".join(_text(inner) for inner in value)
        elif plain:
            yield name, f"{len(value)} values"
        else:
            for i, inner in enumerate(value):
                yield from flatten(inner, f"{name}.{i}")
    else:
        yield name, _text(value)


def artifacts(manifests: Mapping[str, Mapping[str, Any]]) -> tuple[Artifact, ...]:
    """The manifests in their order, their input lists summarised."""
    return tuple(_artifact(name, manifest) for name, manifest in manifests.items())


def versions(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Library to version; several versions where the artifacts disagree."""
    seen: dict[str, set[str]] = {}
    for manifest in manifests.values():
        for name, version in flatten(manifest.get("versions", {})):
            seen.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(found)) for name, found in sorted(seen.items())}


def _artifact(name: str, manifest: Mapping[str, Any]) -> Artifact:
    inputs: Sequence[Mapping[str, Any]] = manifest.get("inputs", ())
    lines = sorted(f"{item.get('sha256', '')}  {item.get('name', '')}\n" for item in inputs)
    return Artifact(
        name=name,
        kind=str(manifest.get("kind", "")),
        id=str(manifest.get("id", "")),
        inputs=len(inputs),
        input_bytes=sum(int(item.get("bytes") or 0) for item in inputs),
        input_digest=hashlib.sha256("".join(lines).encode()).hexdigest() if lines else "",
        config=tuple(flatten(manifest.get("config", {}))),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
