"""Parts that other packages bring, found by the entry points of what is installed.

A package says in its `pyproject.toml` what it brings, under which name, and where that is:

    [project.entry-points."curate.attacks"]
    corners = "my_parts:CORNERS"

| kind | names | an object of |
| --- | --- | --- |
| encoders | a prefix, `mine` for `mine:anything` | a function, `EncoderSpec` -> `Encoder` |
| detectors | the same prefix | `curate.detectors.Detector` |
| attacks | an attack; `-N` at the end stands for a number | `eval.attacks.registry.Entry` |
| losses | a loss | `train.objectives.Objective` |
| datasets | a test set | `eval.datasets.registry.Entry` |

Entry points are known in every process of an environment, so workers and torchrun find the same
parts. A name that is shipped is never looked for elsewhere. What is made with a part depends on its
package's version and on the file that the entry point names (`origin`), so changed code makes
results anew.

Source: https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Collection

Kind = Literal["encoders", "detectors", "attacks", "losses", "datasets"]
KINDS: tuple[Kind, ...] = get_args(Kind)
T = TypeVar("T")


def extension(kind: Kind, name: str, expected: type[T]) -> T | None:
    """What an installed package brings under a name; None: none does.

    Args:
        kind: of part.
        name: of the part.
        expected: its type.

    Raises:
        CurateError: two packages bring it, it cannot be imported, or it is something else; names
            the package and the entry point.
    """
    found = _entry(kind, name)
    if found is None:
        return None
    try:
        part = found.load()
    except Exception as error:
        raise CurateError(
            f"{_said(found)}: cannot be imported ({type(error).__name__}: {error}). Mend or "
            "uninstall the package."
        ) from error
    if not isinstance(part, expected):
        raise CurateError(
            f"{_said(found)}: is of type {type(part).__name__}, but {kind} are {expected.__name__}."
        )
    return part


def extensions(kind: Kind, expected: type[T], shipped: Collection[str]) -> dict[str, T]:
    """All parts of a kind that installed packages bring, by name.

    Raises:
        CurateError: see `extension`; or one has a name of `shipped`.
    """
    found = {}
    for name in sorted({entry.name for entry in _entries(kind)}):
        part = extension(kind, name, expected)
        assert part is not None
        if name in shipped:
            raise CurateError(
                f"{_said(_entries(kind)[name])}: the name is one of those that are shipped, which "
                "cannot be replaced; choose another."
            )
        found[name] = part
    return found


def origin(kind: Kind, name: str) -> dict[str, dict[str, str]]:
    """Where a part comes from, for manifests: package, version, and sha256 of the file it is in.

    Empty where no installed package brings it.
    """
    found = _entry(kind, name)
    return {} if found is None else {"extension": _origin(found)}


@functools.cache
def origins() -> dict[str, dict[str, str]]:
    """Where all parts of installed packages come from, by `kind:name`."""
    return {
        f"{kind}:{entry.name}": _origin(entry)
        for kind in KINDS
        for entry in sorted(_entries(kind), key=lambda one: one.name)
    }


def package(kind: Kind, name: str) -> str | None:
    """The distribution that brings a part; None: none does."""
    found = _entry(kind, name)
    return None if found is None else _origin(found)["package"]


def _origin(entry: metadata.EntryPoint) -> dict[str, str]:
    assert entry.dist is not None
    try:
        spec = importlib.util.find_spec(entry.module)
    except ModuleNotFoundError:  # of the package around it; `extension` says so
        spec = None
    file = spec.origin if spec else None
    code = Path(file).read_bytes() if file and Path(file).is_file() else b""
    return {
        "package": entry.dist.name,
        "version": entry.dist.version,
        "code": hashlib.sha256(code).hexdigest(),
    }


def _entry(kind: Kind, name: str) -> metadata.EntryPoint | None:
    found = list(dict.fromkeys(entry for entry in _entries(kind) if entry.name == name))
    if len(found) > 1:
        raise CurateError(
            f"{' and '.join(map(_said, found))}: both bring {name!r}; uninstall one of the two."
        )
    return found[0] if found else None


@functools.cache
def _entries(kind: Kind) -> metadata.EntryPoints:
    return metadata.entry_points(group=f"curate.{kind}")


def _said(entry: metadata.EntryPoint) -> str:
    where = "a package" if entry.dist is None else f"package {entry.dist.name}"
    return f"{where}, entry point {entry.group} {entry.name} = {entry.value}"
