"""Bringing what a store has into a working folder."""

from collections.abc import Iterable

from curate import artifacts
from curate.artifacts import MANIFEST, Manifest
from curate.errors import CurateError
from curate.files import file_digest
from curate.remote import Stamp
from curate.storage.cache import need_room
from curate.storage.mirror import MARKER, Mirror
from curate.storage.names import is_published, joined, output_digests
from curate.storage.objects import side_by_side
from curate.storage.snapshot import Snapshot, snapshot

_RUN_FILE = "run.json"


def bring(mirror: Mirror) -> Snapshot:
    """Fetch what the store has and the working folder lacks; returns what the store has.

    What was made here since and is not yet published stays; what others made since replaces it.

    Raises:
        CurateError: other things than a run are there, something there was altered, the disk is
            too small, or the store refuses or fails.
    """
    store = snapshot(mirror.objects)
    _require_ours(store, mirror.objects.url)
    folders = [f for f, one in sorted(store.manifests.items()) if _is_wanted(mirror, f, one)]
    files = [name for name in store.loose() if _is_wanted_file(mirror, name, store.found[name])]
    _need_room(mirror, store, folders, files)
    for folder in folders:
        _bring_artifact(mirror, folder, store)
    _bring_files(mirror, store, files)
    mirror.ledger.artifacts = {name: one.id for name, one in store.manifests.items()}
    mirror.ledger.write(mirror.ledger_file)
    return store


def _require_ours(store: Snapshot, url: str) -> None:
    others = [name for name in store.found if is_published(name)]
    if others and not {MARKER, MANIFEST, _RUN_FILE} & store.found.keys():
        raise CurateError(
            f"{url}: holds other things than a run of curate (such as {others[0]}); give an "
            "address where nothing is."
        )


def _is_wanted(mirror: Mirror, folder: str, there: Manifest) -> bool:
    here = mirror.manifest(folder)
    if here is None:
        return True
    if here.id == there.id:
        return bool(artifacts.missing_outputs(mirror.folder / folder, here))
    return mirror.ledger.artifacts.get(folder) != there.id


def _is_wanted_file(mirror: Mirror, name: str, there: Stamp) -> bool:
    is_here = (mirror.folder / name).is_file()
    return not (is_here and mirror.ledger.same_object(name, there.tag))


def _need_room(
    mirror: Mirror, store: Snapshot, folders: Iterable[str], files: Iterable[str]
) -> None:
    names = [*files, *(name for folder in folders for name in store.files_of(folder))]
    size = sum(max(0, store.found[name].size) for name in names)
    mirror.folder.parent.mkdir(parents=True, exist_ok=True)
    need_room(mirror.folder.parent, mirror.objects.url, size)


def _bring_artifact(mirror: Mirror, folder: str, store: Snapshot) -> None:
    root, place = mirror.folder / folder, mirror.objects.place
    old = mirror.manifest(folder)
    (root / MANIFEST).unlink(missing_ok=True)
    for output in old.outputs if old else ():
        (root / output["path"]).unlink(missing_ok=True)
    known = output_digests(store.manifests[folder], place(folder))
    remedy = f"Remove {place(joined(folder, MANIFEST))}; the artifact is then made again."
    lost = [name for name in known if joined(folder, name) not in store.found]
    if lost:
        raise CurateError(f"{place(joined(folder, lost[0]))}: is missing. {remedy}")
    _bring_files(mirror, store, [joined(folder, n) for n in known] + store.facts_of(folder))
    for name, sha256 in known.items():
        if file_digest(root / name) != sha256:
            raise CurateError(
                f"{place(joined(folder, name))}: altered (its SHA-256 is not the one that was "
                f"written). {remedy}"
            )
    _bring_files(mirror, store, [joined(folder, MANIFEST)])


def _bring_files(mirror: Mirror, store: Snapshot, names: Iterable[str]) -> None:
    def fetch(name: str) -> None:
        path, stamp = mirror.folder / name, store.found[name]
        mirror.objects.fetch(name, path, stamp)
        mirror.ledger.note(name, stamp.tag, path)

    side_by_side(fetch, names)
