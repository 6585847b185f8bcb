"""Looking at what a store has without bringing it: digests, and what manifests say."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.artifacts import MANIFEST, stale_artifacts
from curate.errors import CurateError
from curate.files import write_bytes
from curate.storage.names import is_published, joined, output_digests
from curate.storage.objects import Objects, side_by_side
from curate.storage.snapshot import Snapshot, snapshot

_NOTES = (".json", ".txt")
"""Ends of the names of what commands note: which splits a run has, how the steps of a flow went."""


def verify_stored(url: str) -> tuple[list[str], list[str]]:
    """Read every object of a run in a store, and compare it with the manifests.

    Args:
        url: of a run, or of one artifact.

    Returns:
        The addresses of its artifacts, and a sentence for each difference.

    Raises:
        CurateError: no artifact is there, or the store refuses or fails.
    """
    objects, store = _seen(url)
    places = {folder: _place(objects, folder) for folder in sorted(store.manifests)}
    problems = [problem for folder in places for problem in _differences(objects, folder, store)]
    stale = stale_artifacts({places[name]: one for name, one in store.manifests.items()})
    half = [f"{_place(objects, name)}: half sent" for name in sorted(store.unfinished)]
    return list(places.values()), [*problems, *stale, *half]


def _seen(url: str) -> tuple[Objects, Snapshot]:
    objects = Objects(url)
    store = snapshot(objects)
    if not store.manifests:
        raise CurateError(f"{url}: no artifact of curate is there.")
    return objects, store


def _place(objects: Objects, folder: str) -> str:
    return objects.url if folder == "." else objects.place(folder)


def _differences(objects: Objects, folder: str, store: Snapshot) -> list[str]:
    manifest = store.manifests[folder]
    known = output_digests(manifest, _place(objects, folder))
    sizes = {output["path"]: output["bytes"] for output in manifest.outputs}

    def compare(name: str) -> str | None:
        place, found = objects.place(joined(folder, name)), store.found.get(joined(folder, name))
        if found is None:
            return f"{place}: missing"
        if found.size != sizes[name]:
            return f"{place}: {found.size} bytes, {sizes[name]} were written"
        if objects.digest(joined(folder, name)).sha256 != known[name]:
            return f"{place}: altered (its SHA-256 is not the one that was written)"
        return None

    problems = [problem for problem in side_by_side(compare, known) if problem]
    wanted = {*store.outputs_of(folder), *store.facts_of(folder), joined(folder, MANIFEST)}
    extra = [] if folder == "." else [n for n in store.files_of(folder) if n not in wanted]
    return problems + [
        f"{objects.place(name)}: not written by curate" for name in extra if is_published(name)
    ]


@contextmanager
def outline(url: str) -> Iterator[Path]:
    """A folder with the manifests of what is at an address, and the notes beside the artifacts.

    Enough to say what is there, for little; gone at the end. Other files of no artifact stay where
    they are: an address may hold a whole data set beside a run.

    Raises:
        CurateError: no artifact is there, or the store refuses or fails.
    """
    objects, store = _seen(url)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        notes = [name for name in store.loose() if name.endswith(_NOTES)]
        names = [joined(folder, MANIFEST) for folder in store.manifests] + notes

        def fetch(name: str) -> None:
            write_bytes(root / name, objects.read(name) or b"")

        side_by_side(fetch, names)
        yield root
