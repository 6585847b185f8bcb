"""Objects on the network, read by ranges: what comes is whole, and of one version of the object.

Every range is checked: a body that is short, a server that ignores ranges, and an object that was
replaced since it was opened are errors that name the URL. What may pass by itself (a refused or
broken connection, a 5xx, a body that ends early) is tried again.
"""

import io
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from curate.errors import CurateError
from curate.formats.npy import HEAD_BYTES

WAITS = (0.2, 0.5, 1.5, 4.0)
"""Seconds before each further attempt; so a range is tried five times."""

_PIECE = 16 << 20  # a longer range is asked for in pieces, so that a broken one costs little
_CHUNK = 1 << 20
_OK, _PARTIAL, _NO_SUCH_RANGE = 200, 206, 416
_ABSENT = (404, 410)
_REFUSALS = (400, 401, 403, 405, 451)  # anything else that is no success may pass by itself
_STALL = 60  # seconds without a byte after which a connection is given up
_TAGS = (
    *("ETag", "etag", "blob_id", "md5Hash", "Content-MD5", "generation"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created"),
)
T = TypeVar("T")


class AbsentError(CurateError):
    """Nothing is there, or it may not be read: many servers do not tell which."""


@dataclass(frozen=True)
class Stamp:
    """What tells one version of a file from another, without reading it.

    Attributes:
        size: in bytes.
        tag: what else is known of the version: an ETag, else a time, else "".
    """

    size: int
    tag: str


def open_filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Args:
        url: for fsspec.
        options: of the file system.

    Raises:
        CurateError: nothing that is installed speaks this protocol.
    """
    import fsspec

    protocol = url.partition("://")[0]
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = "pip install 'curate[s3]'" if protocol in ("s3", "s3a") else str(error)
        raise CurateError(f"{url}: {protocol}:// needs another package: {extra}.") from error
    except Exception as error:  # fsspec's file systems share no base class
        raise CurateError(f"{url}: cannot be opened ({error}).") from error
    return filesystem, str(path)


def is_http(url: str) -> bool:
    """True for a web server, which lists no folders."""
    return url.startswith(("http://", "https://"))


class _Ranges(Protocol):
    """One attempt to read a range; both methods raise whatever goes wrong."""

    def get(self, start: int, stop: int, stamp: Stamp | None) -> tuple[bytes, Stamp]:
        """The bytes from `start` to `stop` or the end, and the version they are of."""


class _HttpRanges:
    """Ranges of a web server; each answer states size and version, so nothing is asked twice."""

    def __init__(self, filesystem: Any, url: str) -> None:
        self._fs = filesystem
        self._url = url

    def get(self, start: int, stop: int, stamp: Stamp | None) -> tuple[bytes, Stamp]:
        from fsspec.asyn import sync

        answer: tuple[bytes, Stamp] = sync(self._fs.loop, self._get, start, stop, stamp)
        return answer

    async def _get(self, start: int, stop: int, stamp: Stamp | None) -> tuple[bytes, Stamp]:
        import aiohttp

        session = await self._fs.set_session()
        given = self._fs.kwargs
        headers = {
            **given.get("headers", {}),
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_STALL, sock_read=_STALL)
        options = {"timeout": timeout, **given, "headers": headers}
        async with session.get(self._fs.encode_url(self._url), **options) as response:
            found = self._stamp(response, start)
            _check_version(self._url, stamp, found)
            return await self._body(response, min(stop, found.size) - start), found

    def _stamp(self, response: Any, start: int) -> Stamp:
        status = response.status
        if status in _ABSENT:
            raise FileNotFoundError(self._url)
        if status == _OK:
            raise CurateError(
                f"{self._url}: the server ignores the range that was asked for, so that every "
                "block would cost the whole file; download the files, or use another server."
            )
        if status in _REFUSALS:
            raise PermissionError(f"{status} {response.reason}")
        if status not in (_PARTIAL, _NO_SUCH_RANGE):
            raise OSError(f"{status} {response.reason}")
        span, _, total = response.headers.get("Content-Range", "").rpartition("/")
        if not total.isdecimal() or not span.startswith((f"bytes {start}-", "bytes *")):
            raise CurateError(f"{self._url}: the server does not say which bytes it sends.")
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        return Stamp(int(total), tag.removeprefix("W/"))

    async def _body(self, response: Any, size: int) -> bytes:
        data = bytearray()
        if response.status == _NO_SUCH_RANGE:
            return b""
        async for chunk in response.content.iter_chunked(_CHUNK):
            data += chunk
            if len(data) > size:
                raise CurateError(f"{self._url}: the server sends more than was asked for.")
        _check_length(data, size)
        return bytes(data)


class _AnyRanges:
    """Ranges of any other file system; it is asked for the version after every range.

    As the version was the same before and after, the bytes between are of it too.
    """

    def __init__(self, filesystem: Any, url: str, path: str) -> None:
        self._fs = filesystem
        self._url = url
        self._path = path

    def get(self, start: int, stop: int, stamp: Stamp | None) -> tuple[bytes, Stamp]:
        before = stamp or self._stamp()
        stop = min(stop, before.size)
        try:
            data = self._fs.cat_file(self._path, start=start, end=stop) if start < stop else b""
        finally:  # that it was replaced explains a range that is refused
            _check_version(self._url, before, self._stamp())
        _check_length(data, max(0, stop - start))
        return data, before

    def _stamp(self) -> Stamp:
        self._fs.invalidate_cache(self._path)
        info = self._fs.info(self._path)
        if info.get("type") == "directory" or info.get("size") is None:
            raise FileNotFoundError(self._url)
        return stamp_of(info)


def stamp_of(info: Mapping[str, Any]) -> Stamp:
    """The version of an object, from what a file system says of it; a size of -1 is unknown."""
    tags = (str(info[name]) for name in _TAGS if info.get(name))
    size = info.get("size")
    return Stamp(-1 if size is None else int(size), next(tags, ""))


def _check_length(data: Sized, expected: int) -> None:
    if len(data) != expected:
        raise OSError(f"only {len(data)} of {expected} bytes came")


def _check_version(url: str, expected: Stamp | None, found: Stamp) -> None:
    if expected not in (None, found):
        raise CurateError(
            f"{url}: replaced since it was opened (then {expected}, now {found}); "
            "run the same command again."
        )


class RemoteFile:
    """One version of an object on the network.

    Attributes:
        stamp: the version that all ranges are of.
        head: its first bytes, where they were read to learn the version.
    """

    def __init__(
        self, url: str, stamp: Stamp | None = None, *, waits: Sequence[float] = WAITS
    ) -> None:
        """Take a version that is known, of which the first range will show whether it is there.

        Args:
            url: for fsspec.
            stamp: the version; None asks for it, and reads up to `HEAD_BYTES` with it.
            waits: seconds before each further attempt.

        Raises:
            AbsentError: nothing is there, or it may not be read.
            CurateError: it is empty, or cannot be read by ranges.
        """
        filesystem, path = open_filesystem(url)
        self.url = url
        self.head = b""
        self._waits = waits
        self._ranges: _Ranges = (
            _HttpRanges(filesystem, url) if is_http(url) else _AnyRanges(filesystem, url, path)
        )
        if stamp is None:
            self.head, stamp = self._retry(partial(self._ranges.get, 0, HEAD_BYTES, None))
            if stamp.size == 0:
                raise CurateError(f"{url}: the file is empty; fetch it again.")
        self.stamp = stamp

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, all of them.

        Raises:
            CurateError: the object was replaced, or they could not be had in five attempts.
        """
        pieces = []
        for at in range(start, stop, _PIECE):
            end = min(at + _PIECE, stop)
            pieces.append(self._retry(partial(self._ranges.get, at, end, self.stamp))[0])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _retry(self, attempt: Callable[[], T]) -> T:
        attempts = len(self._waits) + 1
        for number in range(attempts):
            try:
                return attempt()
            except CurateError:
                raise
            except FileNotFoundError as error:
                raise AbsentError(f"{self.url}: nothing is there.") from error
            except PermissionError as error:
                raise AbsentError(f"{self.url}: may not be read ({error}).") from error
            except Exception as error:  # fsspec's file systems share no base class
                if number == attempts - 1:
                    reason = str(error) or type(error).__name__
                    raise CurateError(
                        f"{self.url}: could not be read in {attempts} attempts ({reason}). "
                        "Run the same command again."
                    ) from error
            time.sleep(self._waits[number])
        raise AssertionError(attempts)


def exists(url: str) -> bool:
    """Tell whether there is an object that may be read.

    Raises:
        CurateError: the server cannot be reached, or the object cannot be read by ranges.
    """
    try:
        RemoteFile(url)
    except AbsentError:
        return False
    return True


class RangeStream(io.RawIOBase):
    """An object as a seekable stream, for readers such as pyarrow's; each read is a range."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """Reading is all that it can do."""
        return True

    def seekable(self) -> bool:
        """It seeks without reading."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; returns where that is."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.stamp.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes."""
        stop = min(self._at + len(buffer), self._file.stamp.size)
        data = self._file.read(self._at, stop) if self._at < stop else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
