"""What an address holds: finished artifacts, those that are half sent, and other files of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from curate.artifacts import FACTS, MANIFEST, Manifest, parse_manifest
from curate.remote import Stamp
from curate.storage.names import is_below, is_published, joined
from curate.storage.objects import Objects, side_by_side

UNFINISHED = ".curate-unfinished"
"""Marks a folder to which an artifact is being sent."""


@dataclass(frozen=True)
class Snapshot:
    """Everything below an address.

    Attributes:
        found: the version of each object, by name.
        manifests: of finished artifacts, by folder; "." is the address itself.
        unfinished: folders of artifacts that are half sent; nothing in them counts.
    """

    found: Mapping[str, Stamp]
    manifests: Mapping[str, Manifest]
    unfinished: frozenset[str]

    def folder_of(self, name: str) -> str | None:
        """The innermost artifact, finished or not, that an object lies in."""
        around = [*map(str, PurePosixPath(name).parents)]
        return next((f for f in around if f in self.manifests or f in self.unfinished), None)

    def files_of(self, folder: str) -> list[str]:
        """Objects of an artifact, without those of artifacts within it."""
        return [
            name for name in self.found if is_below(name, folder) and self.folder_of(name) == folder
        ]

    def outputs_of(self, folder: str) -> list[str]:
        """The names of an artifact's outputs."""
        return [joined(folder, str(o["path"])) for o in self.manifests[folder].outputs]

    def facts_of(self, folder: str) -> list[str]:
        """The facts that lie beside an artifact's outputs."""
        facts = joined(folder, FACTS)
        return [name for name in self.found if is_below(name, facts) and is_published(name)]

    def loose(self) -> list[str]:
        """Files that belong to no artifact, such as `run.json`."""
        of_artifacts = {
            name
            for folder in self.manifests
            for name in (*self.outputs_of(folder), *self.facts_of(folder))
        }
        return [
            name
            for name in self.found
            if is_published(name)
            and name not in of_artifacts
            and self.folder_of(name) not in self.unfinished
            and PurePosixPath(name).name != MANIFEST
        ]


def snapshot(objects: Objects) -> Snapshot:
    """List an address and read the manifests in it.

    Raises:
        CurateError: a manifest is none or was altered, a name can be no file's, or the store
            refuses or fails.
    """
    found = objects.list()
    named = [name for name in found if PurePosixPath(name).name == MANIFEST and is_published(name)]
    read = side_by_side(objects.read, named)
    manifests = {
        str(PurePosixPath(name).parent): parse_manifest(data, objects.place(name))
        for name, data in zip(named, read, strict=True)
        if data is not None
    }
    marked = {str(PurePosixPath(n).parent) for n in found if PurePosixPath(n).name == UNFINISHED}
    return Snapshot(found, manifests, frozenset(marked - manifests.keys()))
