"""Packages that bring parts, laid where Python finds them as an installer would."""

import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from curate import extensions

Installs = Callable[[str, dict[str, str]], Path]


@contextmanager
def installing(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installs]:
    """A function that lays a package: its pyproject.toml and its modules by file name."""
    before = set(sys.modules)

    def install(project: str, modules: dict[str, str]) -> Path:
        told = tomllib.loads(project)["project"]
        site = root / f"site-{told['name']}"
        facts = site / f"{told['name'].replace('-', '_')}-{told['version']}.dist-info"
        facts.mkdir(parents=True)
        names = f"Name: {told['name']}\nVersion: {told['version']}\n"
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\n{names}")
        lines = [
            line
            for group, points in told["entry-points"].items()
            for line in (f"[{group}]", *(f"{name} = {where}" for name, where in points.items()))
        ]
        (facts / "entry_points.txt").write_text("\n".join(lines))
        for name, text in modules.items():
            (site / name).write_text(text)
        monkeypatch.syspath_prepend(str(site))
        forget()
        return site

    try:
        yield install
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("my_"):
                del sys.modules[name]
        monkeypatch.undo()
        forget()


def forget() -> None:
    """What is remembered of installed packages in a process."""
    extensions._entries.cache_clear()
    extensions.origins.cache_clear()


def project(name: str, group: str, point: str, version: str = "1") -> str:
    """The pyproject.toml of a package with one entry point."""
    about = f'[project]\nname = "{name}"\nversion = "{version}"\n'
    return f'{about}[project.entry-points."curate.{group}"]\n{point}\n'
