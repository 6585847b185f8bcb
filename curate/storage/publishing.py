"""Publishing what is finished in a working folder."""

from collections.abc import Callable

from curate.artifacts import MANIFEST, Manifest
from curate.errors import CurateError
from curate.remote import Stamp
from curate.storage.mirror import MARKER, Mirror
from curate.storage.names import is_published, joined, output_digests
from curate.storage.objects import digests, has_md5, side_by_side
from curate.storage.snapshot import UNFINISHED, Snapshot, snapshot


def publish(mirror: Mirror, check: Callable[[], None], brought: Snapshot | None = None) -> None:
    """Send what is finished here and not yet there.

    Args:
        mirror: the working folder and its address.
        check: called before a manifest comes or goes; raises when the address is another's now.
        brought: what the store had, when all is done; what of it is no more here is removed there.

    Raises:
        PartialRunError: another process took the address.
        CurateError: the store refuses or fails, or something here was altered.
    """
    store = snapshot(mirror.objects)
    here = mirror.manifests()
    sent: set[str] = set()
    try:
        if MARKER not in store.found:
            mirror.objects.write(MARKER, b'{"format": 1}\n')
        for folder, manifest in sorted(here.items()):
            mark = joined(folder, UNFINISHED)
            if not _is_there(manifest, folder, store):
                check()
                _publish_artifact(mirror, folder, manifest, store)
                check()
                mirror.send(joined(folder, MANIFEST))
                mirror.objects.remove([mark])
                sent.update(mirror.facts(folder))
            elif mark in store.found:
                mirror.objects.remove([mark])
            mirror.ledger.artifacts[folder] = manifest.id
        loose = [name for name in mirror.loose(here) if name not in sent]
        mirror.send_changed(loose, store.found)
        if brought is not None:
            check()
            _withdraw(mirror, here, brought, store)
    finally:
        mirror.ledger.write(mirror.ledger_file)


def _is_there(manifest: Manifest, folder: str, store: Snapshot) -> bool:
    there = store.manifests.get(folder)
    return (
        there is not None
        and there.id == manifest.id
        and all(
            (found := store.found.get(joined(folder, output["path"]))) is not None
            and found.size == output["bytes"]
            for output in manifest.outputs
        )
    )


def _publish_artifact(mirror: Mirror, folder: str, manifest: Manifest, store: Snapshot) -> None:
    """Send all of an artifact but its manifest, after an older one has gone."""
    objects = mirror.objects
    objects.write(joined(folder, UNFINISHED), b"")
    objects.remove([joined(folder, MANIFEST)])
    there = store.manifests.get(folder)
    objects.remove(_surplus(mirror, folder, manifest, store))
    old = output_digests(there, objects.place(folder)) if there else {}

    def send(item: tuple[str, str]) -> None:
        name, sha256 = item
        target = joined(folder, name)
        _send_output(mirror, target, sha256, store.found.get(target), old.get(name))

    side_by_side(send, output_digests(manifest, str(mirror.folder / folder)).items())
    mirror.send_changed(mirror.facts(folder), store.found)


def _surplus(mirror: Mirror, folder: str, manifest: Manifest, store: Snapshot) -> list[str]:
    """Objects of the artifact that was there, which the new one does not have."""
    wanted = {joined(folder, output["path"]) for output in manifest.outputs}
    old = set(store.outputs_of(folder)) if folder in store.manifests else set()
    return [
        name
        for name in store.files_of(folder)
        if name not in wanted
        and name != joined(folder, MANIFEST)
        and (name in old or is_published(name))
        and not (mirror.folder / name).is_file()
    ]


def _send_output(
    mirror: Mirror, name: str, sha256: str, found: Stamp | None, old: str | None
) -> None:
    """Send an output, unless the store has these bytes."""
    path = mirror.folder / name
    here = digests(path)
    if here.sha256 != sha256:
        raise CurateError(
            f"{path}: altered (its SHA-256 is not the one that was written). Remove its artifact's "
            f"{MANIFEST}; the artifact is then made again."
        )
    is_there = (
        found is not None
        and found.size == here.size
        and (old == sha256 or has_md5(found, here.md5))
    )
    if not is_there:
        mirror.objects.send(path, name)


def _withdraw(
    mirror: Mirror, here: dict[str, Manifest], brought: Snapshot, store: Snapshot
) -> None:
    """Remove from the store what is no more here, and what nobody will ever finish."""
    gone = [folder for folder in brought.manifests if folder not in here]
    for folder in gone:
        mirror.objects.remove([joined(folder, MANIFEST)])
    for folder in (*gone, *(store.unfinished - here.keys())):
        names = [n for n in store.files_of(folder) if not (mirror.folder / n).is_file()]
        mirror.objects.remove(name for name in names if name != joined(folder, UNFINISHED))
        mirror.objects.remove([joined(folder, UNFINISHED)])
    lost = [name for name in brought.loose() if not (mirror.folder / name).is_file()]
    mirror.objects.remove(lost)
