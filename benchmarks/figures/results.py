"""Stored results of benchmarks, and where a figure comes from."""

from pathlib import Path
from typing import Any, Final

from curate.files import read_json

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "benchmarks" / "results"


class Results:
    """The files of a folder of results, each read once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The content of `NAME.json`.

        Raises:
            CurateError: there is no such file, or it is not JSON.
        """
        if name not in self._read:
            self._read[name] = read_json(self._folder / f"{name}.json")
        return self._read[name]

    @property
    def names_read(self) -> set[str]:
        """Of the results that something asked for."""
        return set(self._read)

    def source(self, *names: str) -> str:
        """The lines below a table: command, machine, date and file of each result."""
        return "\n".join(self._source(name) for name in names)

    def _source(self, name: str) -> str:
        result, file = self[name], f"[{name}.json](../benchmarks/results/{name}.json)"
        return f"* `{result['command']}`\n  on {result['machine']}; {result['date']}; {file}"
