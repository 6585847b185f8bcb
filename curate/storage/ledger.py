"""What a working folder and its address had in common last, so that the newer of two is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from curate.errors import CurateError
from curate.files import read_json, write_json


@dataclass
class Ledger:
    """Kept beside a working folder.

    Attributes:
        artifacts: the id of each artifact that was equal in both, by folder.
        files: of each other file that was equal in both, by name: the tag of the object, and size
            and time of the file.
    """

    artifacts: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[str | int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The ledger in a file; an empty one, where there is none or it cannot be read."""
        try:
            stored = read_json(path)
        except CurateError:
            return cls()
        if not isinstance(stored, Mapping):
            return cls()
        return cls(dict(stored.get("artifacts", {})), dict(stored.get("files", {})))

    def write(self, path: Path) -> None:
        """Store it."""
        write_json(path, {"artifacts": self.artifacts, "files": self.files})

    def note(self, name: str, tag: str, path: Path) -> None:
        """Note that a file is what the object is."""
        self.files[name] = [tag, *_state(path)]

    def same_object(self, name: str, tag: str) -> bool:
        """Whether an object is still what the file was equal to."""
        return bool(tag) and self.files.get(name, [None])[0] == tag

    def same_file(self, name: str, path: Path) -> bool:
        """Whether a file is still what the object was equal to."""
        return self.files.get(name, [])[1:] == _state(path)


def _state(path: Path) -> list[str | int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
