"""A small study with every stage, run as a command, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from evalset_trees import write_texts
from pictures import copies, encoded, picture, sample, write_set, write_shard

from curate import artifacts

ROOT = Path(__file__).parents[2]
COPIED = (11, 22, 33, 44, 15)
FAST = {"epochs": None, "updates": 2, "batch": 8, "held_out": 4, "warmup": 1}
FLOW: dict[str, Any] = {
    "name": "faults",
    "out": "run",
    "sets": {"pictures-train": {"shards": "train"}, "pictures-test": {"shards": "set/test"}},
    "dedup": {
        "copies": {
            "test": "pictures-test", "train": "pictures-train", "detector": "builtin:layout",
            "search": "flat", "verify": "pixels", "threshold": [None, 0.9],
            "write": ["clean", "overlap", "control"], "calibrate": {"images": 2},
        },
        "leaks": {
            "test": "pictures-test", "train": "pictures-train", "detector": "builtin:layout",
            "threshold": 0.8, "strip": "train",
        },
    },
    "train": {
        "tuned": {
            "data": "pictures-train", "ids": "leaks", "classes": "classes.txt", "workers": 0,
            "set": {**FAST, "measure_every": 1, "save_every": 1},
        },
    },
    "eval": {
        "main": {
            "models": ["builtin:tiny-clip", "tuned"], "data": {"mine": "pictures-test"},
            "splits": {"mine": "copies"}, "settings": ["mine", "mine@fgsm.eps4.input"],
            "limit": 12,
        },
    },
}  # fmt: skip
"""Every stage but ingest, in seconds; two thresholds, a second look, and two models."""

CURATION: dict[str, Any] = {key: FLOW[key] for key in ("name", "out", "sets", "dedup")}
"""The same without training and evaluation, which load torch."""

INGEST: dict[str, Any] = {
    **CURATION,
    "sets": {
        "pictures-train": {"download": {
            "urls": "urls.txt", "url": "url",
            "options": {"samples_per_shard": 10, "processes": 2, "threads": 2, "host_rate": 10},
        }},
        "drawn-test": {"demo": "test"},
    },
    "dedup": {
        "copies": {
            "test": "drawn-test", "train": "pictures-train", "detector": "builtin:layout",
            "write": ["overlap"],
        },
    },
}  # fmt: skip
"""What comes before: a URL list that is fetched, and pictures that are generated."""

BRIEF: dict[str, Any] = {
    **CURATION,
    "dedup": {
        "copies": {
            "test": "pictures-test", "train": "pictures-train", "detector": "builtin:layout",
            "threshold": [0.8, 0.9], "write": ["clean", "overlap"],
        },
    },
}  # fmt: skip
"""Embedding, a search, two splits, pages: a few seconds, also on a slow machine."""


@dataclass(frozen=True)
class Study:
    """A flow in a folder with its sets, and the words of its command.

    Attributes:
        folder: in which the command runs.
    """

    folder: Path

    def words(self, out: Path, *settings: str) -> list[str]:
        """`curate run` into a folder, with changed settings."""
        changes = [word for one in settings for word in ("--set", one)]
        flow = str(self.folder / "flow.yaml")
        return [sys.executable, "-m", "pipelines", "run", flow, "--out", str(out), *changes]

    def start(
        self, words: list[str], log: Path, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own; what it prints goes to a file."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                words,
                cwd=self.folder,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment_of(environment),
            )

    def run(
        self, out: Path, *settings: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the flow to its end."""
        return self.call(self.words(out, *settings), environment)

    def retry(self, out: Path) -> subprocess.CompletedProcess[str]:
        """Run `curate retry` to its end."""
        return self.call([sys.executable, "-m", "pipelines", "retry", str(out)])

    def call(
        self, words: list[str], environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run any command to its end."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env=environment_of(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


def environment_of(more: dict[str, str] | None = None) -> dict[str, str]:
    """Of a command: this source tree, and one thread in each library."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **(more or {})}


def write_study(folder: Path, flow: dict[str, Any] | None = None) -> Study:
    """Forty train pictures in four shards, 21 test pictures in three, five of which are copies."""
    write_set(folder / "train", [range(first, first + 10) for first in (10, 20, 30, 40)])
    kinds = zip(COPIED, copies(picture(0)), strict=True)
    rows = [
        [sample(f"{n:06}", encoded(picture(n)), n % 3) for n in range(100, 110)],
        [sample(f"copy-{kind}", copies(picture(n))[kind], n % 3) for n, kind in kinds],
        [sample(f"{n:06}", encoded(picture(n)), n % 3) for n in range(110, 116)],
    ]
    for number, shard in enumerate(rows):
        write_shard(folder / "set" / "test" / f"{number}.tar", shard)
    write_texts(folder, {
        "set/test/nshards.txt": "3\n", "set/classnames.txt": "cat\ndog\nhorse\n",
        "classes.txt": "0\n1\n2\n", "flow.yaml": yaml.safe_dump(flow or FLOW),
    })  # fmt: skip
    return Study(folder)


# --- what a run leaves ----------------------------------------------------------------------------


def left_by(run: Path) -> dict[str, str]:
    """Digest of every file that a run left, remains of what was begun included.

    Left away is what is no result: the ledger, facts, locks, logs, and times in run.json.
    """
    found = {}
    for path in sorted(run.rglob("*")):
        place = path.relative_to(run)
        is_result = place.parts[0] != "flow" and "facts" not in place.parts
        is_result = is_result and path.name != "run.json"
        is_result = is_result and not path.name.endswith(("lock", ".log"))
        if path.is_file() and is_result:
            found[place.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Files that are missing, altered or too many."""
    return [
        *(f"{name}: missing" for name in sorted(expected.keys() - found.keys())),
        *(f"{name}: extra" for name in sorted(found.keys() - expected.keys())),
        *(
            f"{name}: other"
            for name in sorted(found)
            if expected.get(name, found[name]) != found[name]
        ),
    ]


def problems_of(run: Path) -> list[str]:
    """What `curate verify` says of a run."""
    return artifacts.verify_all(list(artifacts.artifacts(run)))


def records(run: Path) -> dict[str, dict[str, Any]]:
    """What the ledger says of each step that ran."""
    steps = run / "flow" / "steps"
    return {
        path.parent.relative_to(steps).as_posix(): json.loads(path.read_bytes())
        for path in sorted(steps.rglob("step.json"))
    }


def running(run: Path) -> list[str]:
    """The steps that are being done, or were when all was killed."""
    return [name for name, one in records(run).items() if one["state"] == "running"]


def failures(run: Path) -> dict[str, list[str]]:
    """The units that failed, by step."""
    steps = run / "flow" / "steps"
    found = {
        path.parent.relative_to(steps).as_posix(): json.loads(path.read_bytes())
        for path in sorted(steps.rglob("failed.json"))
    }
    return {name: [one["unit"] for one in units] for name, units in found.items()}


def seconds_of(run: Path) -> dict[str, float]:
    """How long each step of a run took, in the order in which they ended."""
    steps = run / "flow" / "steps"
    found = sorted(steps.rglob("step.json"), key=lambda path: path.stat().st_mtime_ns)
    known = records(run)
    names = [path.parent.relative_to(steps).as_posix() for path in found]
    return {name: known[name]["seconds"] for name in names}


def note(name: str, value: Any) -> None:
    """Keep a figure of the campaign in the file that CURATE_FAULTS_RESULTS names, if it does."""
    place = os.environ.get("CURATE_FAULTS_RESULTS")
    if place is None:
        return
    path = Path(place)
    known = json.loads(path.read_bytes()) if path.is_file() else {}
    text = json.dumps({**known, name: value}, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
