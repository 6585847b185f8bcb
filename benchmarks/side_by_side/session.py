"""One session: where its data, environments and scratch are, and how it runs a contestant."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .costs import Cost, run
from .environments import ENVIRONMENTS

ROOT = Path(__file__).parents[2]
WORKERS = Path(__file__).parent / "workers"


@dataclass(frozen=True)
class Session:
    """What all contestants share.

    Attributes:
        data: the folder with `cifar10` and `photos` in it.
        work: scratch.
        environments: the folder of the peers' environments.
        base: an environment whose packages they see, or None.
        images: test images of a quick look, or None for all.
    """

    data: Path
    work: Path
    environments: Path
    base: Path | None
    images: int | None

    @property
    def cores(self) -> int:
        """Cores that this process, and so every contestant, may use."""
        return len(os.sched_getaffinity(0))

    @property
    def own_python(self) -> Path:
        """The Python of this process."""
        return Path(sys.executable)

    def run(self, python: Path, words: Sequence[str], *, offline: bool = True) -> Cost:
        """Run a Python program in the scratch folder; see `costs.run`."""
        own = {"PYTHONPATH": str(ROOT)} if not offline else {}
        return run([str(python), *words], self.work, offline=offline, extra=own)

    def shown(self, python: Path, words: Sequence[str]) -> str:
        """The command as it can be told to others: without the folders of this machine."""
        places = [
            (str(python), "python"),
            (str(self.work), "WORK"),
            (str(self.data.absolute()), "DATA"),
            (f"{ROOT}{os.sep}", ""),
        ]
        text = shlex.join([str(python), *words])
        for place, name in places:
            text = text.replace(place, name)
        return text


@dataclass(frozen=True)
class Finding:
    """What is known of a contestant after its run.

    Attributes:
        figures: how good it was, of any shape that JSON has.
        cost: what it took.
        command: what ran.
        settings: in words.
    """

    figures: dict[str, Any]
    cost: Cost
    command: str
    settings: str


@dataclass(frozen=True)
class Contestant:
    """One row of the comparison.

    Attributes:
        task: what is compared.
        environment: a key of `ENVIRONMENTS`, or None for this project's own.
        measure: runs it under the Python of its environment.
    """

    task: str
    environment: str | None
    measure: Callable[[Session, Path], Finding]


def own_versions() -> dict[str, str]:
    """Versions of this project and of what its figures hang on."""
    return versions(Path(sys.executable), ("curate", "numpy", "pillow", "torch", "open_clip_torch"))


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages as another Python sees them."""
    words = [str(python), str(WORKERS / "versions.py"), *packages]
    done = subprocess.run(words, check=True, capture_output=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def versions_of(environment: str | None, python: Path) -> dict[str, str]:
    """Versions that a row states."""
    if environment is None:
        return own_versions()
    return versions(python, ENVIRONMENTS[environment].packages)
