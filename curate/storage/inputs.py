"""Inputs at URLs: a file or a small folder, fetched once into the cache, whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from curate.artifacts import FACTS, MANIFEST, Manifest, parse_manifest
from curate.errors import CurateError
from curate.files import digest, file_digest
from curate.remote import AbsentError, Stamp, is_http
from curate.storage.addresses import local_of, url_of
from curate.storage.cache import INPUTS, need_room, place_of
from curate.storage.names import check_object_name, is_below, output_digests
from curate.storage.objects import Objects, StoreError, side_by_side

LIMIT = 64 << 30
"""Bytes of an input, at most; more is read as shards or published vectors, by ranges."""

_LOCK = ".lock"
_PARTIAL = ".partial"


def local_path(given: Path | str, limit: int = LIMIT) -> Path:
    """A place on this machine with what is at a path or URL.

    A URL is fetched into the cache, once for each version of it. An artifact (a folder with a
    manifest) is compared with its digests; of another folder all objects are taken.

    Args:
        given: a path, which is given back, or a URL.
        limit: the most bytes that are fetched.

    Raises:
        CurateError: nothing is there, it may not be read, it is too large or altered, the cache
            cannot be written, or a name in it would lead out of its folder.
    """
    url = url_of(given)
    if url is None:
        return local_of(given)
    objects = Objects(url)
    stamp = objects.stamp("")
    wanted = _folder(objects) if stamp is None else _Wanted(_file_name(url), {"": stamp})
    size = sum(max(0, one.size) for one in wanted.objects.values())
    if size > limit:
        raise _too_large(url, size, limit)
    place = place_of(INPUTS, url)
    with _locked(place):
        target = place / wanted.version / wanted.name
        if wanted.is_known and target.exists():
            return target
        return _fetch(objects, wanted, place, limit)


def local_artifact(spec: str) -> str:
    """The same, but the address of an artifact, such as an embeddings folder, as a local path.

    Raises:
        CurateError: as `local_path`.
    """
    url = url_of(spec)
    last = (url or "").rpartition("/")[2]
    if url is None or is_http(url) or set(last) & set("*{?[."):
        return spec
    return str(local_path(url)) if Objects(url).stamp(MANIFEST) else spec


def first_file(places: Sequence[Path | str]) -> Path | None:
    """The first of some paths or URLs at which there is a file, on this machine; None: no one."""
    for place in places:
        url = url_of(place)
        if url is None and local_of(place).is_file():
            return local_of(place)
        if url is not None and Objects(url).stamp("") is not None:
            return local_path(url)
    return None


@dataclass(frozen=True)
class _Wanted:
    """What is at an address.

    Attributes:
        name: of the file or folder.
        objects: its version by name; "" for a file.
        manifest: of an artifact.
    """

    name: str
    objects: Mapping[str, Stamp]
    manifest: Manifest | None = None

    @property
    def is_known(self) -> bool:
        """Whether the store tells one version from another."""
        return all(stamp.tag for stamp in self.objects.values())

    @property
    def version(self) -> str:
        stated = {name: [stamp.size, stamp.tag] for name, stamp in self.objects.items()}
        return digest(stated)[:24]


def _file_name(url: str) -> str:
    """The last part of an address; a web server's may have a query after it."""
    path = urlsplit(url).path if is_http(url) else url.partition("://")[2]
    name = PurePosixPath(path).name
    return check_object_name(name, url) if name and not name.startswith(".") else "file"


def _folder(objects: Objects) -> _Wanted:
    if is_http(objects.url):
        raise AbsentError(f"{objects.url}: nothing is there. (A web server lists no folders.)")
    found = objects.list()
    if not found:
        raise AbsentError(f"{objects.url}: nothing is there.")
    manifest = None
    if MANIFEST in found:
        data = objects.read(MANIFEST)
        manifest = parse_manifest(data or b"", objects.place(MANIFEST))
        found = _of_artifact(objects, manifest, found)
    return _Wanted(_file_name(objects.url), found, manifest)


def _of_artifact(
    objects: Objects, manifest: Manifest, found: Mapping[str, Stamp]
) -> dict[str, Stamp]:
    """The objects that an artifact consists of, with its facts."""
    names = list(output_digests(manifest, objects.url))
    missing = [name for name in names if name not in found]
    if missing:
        raise CurateError(f"{objects.place(missing[0])}: is missing; write the artifact again.")
    facts = [name for name in found if is_below(name, FACTS)]
    return {name: found[name] for name in (*names, *facts, MANIFEST)}


def _too_large(url: str, size: int, limit: int) -> CurateError:
    return CurateError(
        f"{url}: holds {size / 1e9:.1f} GB, more than the {limit / 1e9:.1f} GB that are fetched of "
        "one input. Copy it to this machine and give the copy; shards and published vectors are "
        "read where they are."
    )


def _fetch(objects: Objects, wanted: _Wanted, place: Path, limit: int) -> Path:
    partial_ = place / _PARTIAL
    shutil.rmtree(partial_, ignore_errors=True)
    need_room(place, objects.url, sum(max(0, stamp.size) for stamp in wanted.objects.values()))
    root = partial_ / wanted.name
    fetch_one = partial(_fetch_one, objects, wanted, root, limit)
    side_by_side(fetch_one, wanted.objects.items())
    version = wanted.version
    if not wanted.is_known:  # what came is the only word on which version it is
        version = file_digest(root)[:24] if root.is_file() else digest(_contents(root))[:24]
    elif not _is_still(objects, wanted):
        raise CurateError(
            f"{objects.url}: was replaced while it was fetched; run the same command again."
        )
    target = place / version
    if target.exists():
        shutil.rmtree(partial_)
    else:
        partial_.rename(target)
    return target / wanted.name


def _contents(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): file_digest(path) for path in files}


def _fetch_one(
    objects: Objects, wanted: _Wanted, root: Path, limit: int, item: tuple[str, Stamp]
) -> None:
    name, stamp = item
    path = root / name if name else root
    try:
        objects.fetch(name, path, stamp, limit)
    except StoreError as error:
        raise StoreError(f"{error} Run the same command again.") from error
    known = output_digests(wanted.manifest, objects.url) if wanted.manifest else {}
    if name in known and file_digest(path) != known[name]:
        raise CurateError(
            f"{objects.place(name)}: altered (its SHA-256 is not the one that was written); "
            "write the artifact again."
        )


def _is_still(objects: Objects, wanted: _Wanted) -> bool:
    if "" in wanted.objects:
        return objects.stamp("") == wanted.objects[""]
    found = objects.list()
    return all(found.get(name) == stamp for name, stamp in wanted.objects.items())


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Let one process at a time fetch from an address; others wait and find it fetched."""
    try:
        handle = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CurateError(f"{place}: cannot be written ({error}). Set CURATE_CACHE.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
