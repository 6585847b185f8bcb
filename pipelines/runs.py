"""A run folder: what in it belongs together, and how it was asked for."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import artifacts
from curate.config import DedupConfig
from curate.errors import CurateError
from curate.files import read_json, remove_remains, write_json
from curate.matches import Matches, open_matches
from curate.parts import Embeddings
from curate.published import open_vectors
from curate.storage import absolute, address, local_path, url_of

RUN_FILE = "run.json"
SETTINGS_FILE = f"{artifacts.FACTS}/settings.json"


def note_run(run: Path, matches: Matches, test: Embeddings, train: Embeddings, split: Path) -> None:
    """Note what belongs together, for `curate split`, `report` and `info`."""
    places = {"matches": matches.root, "test": test.root, "train": train.root, "split": split}
    note = {name: _place_from(run, path) for name, path in places.items()}
    remove_remains(run, RUN_FILE)
    write_json(run / RUN_FILE, note)


def _place_from(run: Path, path: Path) -> str:
    """Where something is as seen from a run; its URL, if it was fetched from there."""
    is_inside = path.absolute().is_relative_to(run.absolute())
    return (None if is_inside else address(path)) or os.path.relpath(path, run)


def note_settings(config: DedupConfig) -> None:
    """Note how the run was asked for, so that `curate calibrate` embeds as it did."""
    here = {name: path and absolute(path) for name, path in
            (("weights", config.weights), ("background", config.background),
             ("verify_weights", config.verify_weights))}  # fmt: skip
    note = {**config.model_dump(mode="json", exclude_unset=True), **here}
    path = config.out / SETTINGS_FILE
    if not path.is_file() or read_json(path) != note:
        write_json(path, note)


def read_settings(run: Path) -> dict[str, Any]:
    """The settings with which a run was made last.

    Raises:
        CurateError: they were not noted.
    """
    return dict(read_json(run / SETTINGS_FILE))


@dataclass(frozen=True)
class RunParts:
    """What `run.json` says belongs together, opened."""

    matches: Matches
    test: Embeddings
    train: Embeddings
    split: Path


def open_run(run: Path) -> RunParts:
    """Open the parts of a finished run.

    Raises:
        CurateError: it is not a run of `curate dedup`, or parts of it have gone.
    """
    if not (run / RUN_FILE).is_file():
        raise CurateError(f"{run}: no finished run of `curate dedup` (no {RUN_FILE}).")
    places = {
        name: local_path(place) if url_of(place) else run / place
        for name, place in read_json(run / RUN_FILE).items()
    }
    return RunParts(
        open_matches(places["matches"]),
        open_vectors(places["test"]),
        open_vectors(places["train"]),
        places["split"],
    )
