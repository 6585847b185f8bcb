"""A working folder and its address.

An artifact counts where its manifest is. In the store, as there is no rename, its files come first
and the manifest last; when it is replaced, the manifest goes first. So a reader finds it whole or
not at all, whenever a writer dies. The working folder is filled by the same rule.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from curate import artifacts
from curate.artifacts import FACTS, MANIFEST, Manifest
from curate.errors import CurateError
from curate.remote import Stamp
from curate.storage.ledger import Ledger
from curate.storage.names import is_published, joined
from curate.storage.objects import Objects

MARKER = ".curate-store.json"
"""Tells that an address was written by curate, so that nothing else is ever removed from it."""


@dataclass(frozen=True)
class Mirror:
    """Both sides, and what is known of them.

    Attributes:
        objects: below the address.
        folder: the working folder.
        ledger_file: where `ledger` is kept.
        ledger: what both had in common last.
    """

    objects: Objects
    folder: Path
    ledger_file: Path
    ledger: Ledger

    def manifest(self, folder: str) -> Manifest | None:
        """The manifest of an artifact in the working folder; None: it is missing or damaged."""
        path = self.folder / folder
        if not (path / MANIFEST).is_file():
            return None
        try:
            return artifacts.read_manifest(path)
        except CurateError:
            return None

    def manifests(self) -> dict[str, Manifest]:
        """The manifests of all finished artifacts in the working folder, by folder.

        Raises:
            CurateError: one is damaged.
        """
        if not self.folder.is_dir():
            return {}
        return {
            path.relative_to(self.folder).as_posix(): artifacts.read_manifest(path)
            for path in artifacts.artifacts(self.folder)
        }

    def facts(self, folder: str) -> list[str]:
        """Names of the facts beside an artifact's outputs."""
        return [name for name in self._names(self.folder / folder / FACTS) if is_published(name)]

    def loose(self, here: dict[str, Manifest]) -> list[str]:
        """Names of files of no artifact, JSON last: it says that what is beside it is there."""
        of_artifacts = {joined(folder, MANIFEST) for folder in here} | {
            joined(folder, output["path"]) for folder, one in here.items() for output in one.outputs
        }
        names = [
            name
            for name in self._names(self.folder)
            if is_published(name) and name not in of_artifacts
        ]
        return sorted(names, key=lambda name: (name.endswith(".json"), name))

    def _names(self, root: Path) -> list[str]:
        files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    def send(self, name: str) -> None:
        """Send a file, and note that both sides are equal."""
        path = self.folder / name
        stamp = self.objects.send(path, name)
        self.ledger.note(name, stamp.tag, path)

    def send_changed(self, names: Iterable[str], found: Mapping[str, Stamp]) -> None:
        """Send files in their order, unless the store has them as they are.

        Args:
            names: of the files.
            found: what the store has.
        """
        for name in names:
            tag = found[name].tag if name in found else ""
            is_there = self.ledger.same_object(name, tag)
            if not (is_there and self.ledger.same_file(name, self.folder / name)):
                self.send(name)
