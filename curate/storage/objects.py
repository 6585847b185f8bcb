"""The objects below one address of a store: listed, fetched whole, sent and checked, tried again.

What may pass by itself (a refused or broken connection, a 5xx, a body that ends early, a store that
asks to slow down) is tried again, for a minute at most.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from curate.errors import CurateError
from curate.files import atomic_write
from curate.remote import WAITS, AbsentError, Stamp, is_http, open_filesystem, stamp_of
from curate.storage.names import check_object_name

PATIENCE = 60.0
"""Seconds after which nothing is tried again."""

THREADS = 8
_CHUNK = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412")
_ABSENT = (404, 410)
_REFUSED = (400, 401, 403, 405, 451)
A = TypeVar("A")
B = TypeVar("B")


class StoreError(CurateError):
    """A store could not be reached, or failed again and again."""


class _BrokenError(Exception):
    """What came is not what was announced; it may be the next time."""


@dataclass(frozen=True)
class Digests:
    """Of a file: its size in bytes, and its SHA-256 and MD5 in hex."""

    size: int
    sha256: str
    md5: str


def digests(path: Path) -> Digests:
    """Read a file once for all of them."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as stream:
        while data := stream.read(_CHUNK):
            sha256.update(data)
            md5.update(data)
            size += len(data)
    return Digests(size, sha256.hexdigest(), md5.hexdigest())


def side_by_side(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Call a function on items, a few at a time; the first error ends it."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)


class Objects:
    """What is below one address; names are relative to it, and "" is the object at the address."""

    def __init__(self, url: str, waits: Sequence[float] = WAITS) -> None:
        """Open nothing yet but the file system.

        Args:
            url: without a slash at its end.
            waits: seconds before each further attempt.

        Raises:
            CurateError: nothing that is installed speaks this protocol.
        """
        self.url = url
        self._waits = waits
        self._fs, path = open_filesystem(url, use_listings_cache=False)
        self._base = path if is_http(url) else path.strip("/")

    def place(self, name: str) -> str:
        """The address of an object."""
        return f"{self.url}/{name}" if name else self.url

    def list(self) -> dict[str, Stamp]:
        """Every object below the address, sorted by name.

        Raises:
            CurateError: a name can be no file's, or the store refuses or fails.
        """
        found = self._try("", lambda: self._fs.find(self._base, detail=True))
        start, stamps = self._base + "/", {}
        for key, info in found.items():
            name = str(key) if str(key).startswith(start) else str(key).lstrip("/")
            if info.get("type") != "directory" and name.startswith(start):
                stamps[check_object_name(name[len(start) :], self.url)] = stamp_of(info)
        return dict(sorted(stamps.items()))

    def stamp(self, name: str) -> Stamp | None:
        """The version of an object; None: there is none."""
        try:
            info = self._try(name, lambda: self._fs.info(self._path(name)))
        except AbsentError:
            return None
        return None if info.get("type") == "directory" else stamp_of(info)

    def read(self, name: str) -> bytes | None:
        """The bytes of a small object; None: there is none."""
        try:
            data: bytes = self._try(name, lambda: self._fs.cat_file(self._path(name)))
        except AbsentError:
            return None
        return data

    def digest(self, name: str) -> Digests:
        """Read an object, without keeping it."""
        return self._try(name, partial(self._digest, name))

    def _digest(self, name: str) -> Digests:
        sha256, size = hashlib.sha256(), 0
        for data in self._stream(name):
            sha256.update(data)
            size += len(data)
        return Digests(size, sha256.hexdigest(), "")

    def fetch(self, name: str, path: Path, stamp: Stamp, limit: int | None = None) -> None:
        """Write an object to a file, whole or not at all.

        Args:
            name: of the object.
            path: of the file.
            stamp: the version that is wanted.
            limit: the most bytes that are taken.

        Raises:
            CurateError: it is larger than `limit`, or the file cannot be written.
            StoreError: the store fails, or the object was replaced meanwhile.
        """
        self._try(name, partial(self._fetch, name, path, stamp, limit))

    def _fetch(self, name: str, path: Path, stamp: Stamp, limit: int | None) -> None:
        size = 0
        with atomic_write(path) as stream:
            for data in self._stream(name):
                size += len(data)
                if limit is not None and size > limit:
                    raise CurateError(f"{self.place(name)}: more than {limit} bytes came.")
                stream.write(data)
            if stamp.size not in (-1, size):
                raise _BrokenError(f"only {size} of {stamp.size} bytes came")

    def _stream(self, name: str) -> Iterator[bytes]:
        """Pieces of an object; what hinders the reading is no `OSError`, as a full disk is one."""
        options: dict[str, Any] = {}
        if is_http(self.url):  # as a stream: not every server knows ranges
            headers = {**self._fs.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
            options = {"block_size": 0, "headers": headers}
        try:
            with self._fs.open(self._path(name), "rb", **options) as stream:
                while data := stream.read(_CHUNK):
                    yield data
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _BrokenError(str(error) or type(error).__name__) from error

    def send(self, path: Path, name: str) -> Stamp:
        """Write a file to an object, and see that it arrived as it is.

        Raises:
            CurateError: the store refuses, or the file changed meanwhile.
            StoreError: the store fails.
        """
        return self._written(name, lambda: self._send(path, name, digests(path)))

    def _send(self, path: Path, name: str, sent: Digests) -> Stamp:
        self._fs.put_file(str(path), self._path(name))
        found = stamp_of(self._fs.info(self._path(name)))
        if found.size != sent.size:
            raise _BrokenError(f"{found.size} of {sent.size} bytes arrived")
        # Where a store encrypts, what looks like an MD5 is none: then only reading tells.
        if is_md5(found) and not has_md5(found, sent.md5):
            there = self._digest(name)
            if there.sha256 != sent.sha256:
                raise _BrokenError("other bytes arrived than were sent")
        return found

    def write(self, name: str, data: bytes) -> None:
        """Write a small object."""
        self._written(name, lambda: self._fs.pipe_file(self._path(name), data))

    def create(self, name: str, data: bytes) -> bool:
        """Write a small object that is not there yet; False: it is, where the store can tell."""
        try:
            self._written(name, lambda: self._fs.pipe_file(self._path(name), data, mode="create"))
        except FileExistsError:
            return False
        return True

    def _written(self, name: str, attempt: Callable[[], A]) -> A:
        try:
            return self._try(name, attempt)
        except AbsentError as error:
            raise CurateError(
                f"{self.url}: cannot be written, as there is no such bucket; create it first."
            ) from error

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are no matter."""
        side_by_side(self._remove, names)

    def _remove(self, name: str) -> None:
        try:
            self._try(name, lambda: self._fs.rm_file(self._path(name)))
        except AbsentError:
            return

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _try(self, name: str, attempt: Callable[[], A]) -> A:
        place, end = self.place(name), time.monotonic() + PATIENCE
        for wait in (*self._waits, None):
            try:
                return attempt()
            except (CurateError, FileExistsError):
                raise
            except Exception as error:  # fsspec's file systems share no base class
                self._judge(place, error)
                if wait is None or time.monotonic() > end:
                    reason = _reason(error)
                    raise StoreError(f"{place}: failed again and again ({reason}).") from error
            time.sleep(wait)
        raise AssertionError(place)

    @staticmethod
    def _judge(place: str, error: Exception) -> None:
        """Raise what will not pass by itself.

        fsspec says of every failure of a web server that nothing is there; its cause says more.
        """
        if _code(error) in _CONFLICTS:
            raise FileExistsError(place) from error
        status = getattr(error.__cause__ or error, "status", None)
        is_absent = isinstance(error, FileNotFoundError) and (
            error.__cause__ is None or not is_http(place)
        )
        if is_absent or status in _ABSENT:
            raise AbsentError(f"{place}: nothing is there.") from error
        is_refused = isinstance(error, PermissionError) or status in _REFUSED
        if is_refused or type(error).__name__.endswith("CredentialsError"):
            raise CurateError(
                f"{place}: the store refuses ({_reason(error)}). Check the credentials, and what "
                "they allow."
            ) from error
        if isinstance(error, NotImplementedError):
            raise CurateError(f"{place}: this kind of store is read-only.") from error


def is_md5(stamp: Stamp) -> bool:
    """True for a version whose tag may be the MD5 of the object."""
    return _MD5.fullmatch(stamp.tag.strip('"')) is not None


def has_md5(stamp: Stamp, md5: str) -> bool:
    """True when the tag of a version is this MD5."""
    return stamp.tag.strip('"') == md5


def _code(error: Exception) -> str:
    """What S3 calls an error."""
    response = getattr(error.__cause__ or error, "response", None)
    found = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return str(found)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
