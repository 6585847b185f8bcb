"""Files that are whole or absent: temporary name, flush, rename; digests; canonical JSON."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from curate.errors import CurateError

_CHUNK = 1 << 20
_RANDOM = 8  # bytes


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing so that it appears whole or not at all, also after a power cut.

    Raises:
        CurateError: the disk is full or the folder is not writable; nothing is left behind.
    """
    # Two workers may write the same file, on machines where their process ids are the same; and a
    # name may be as long as the file system allows.
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(_RANDOM)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CurateError(
            f"{path}: could not be written ({error}). Free space or change --out."
        ) from error
    finally:
        with suppress(OSError):  # the error that led here is the one to tell
            temporary.unlink()


def remove_remains(folder: Path, name: str = "*", *, below: bool = False) -> None:
    """Remove what writers that were killed left half written in a folder.

    Args:
        folder: the caller keeps all others from writing there.
        name: of the file that they wrote; all, if the folder is nobody else's.
        below: in all folders below it, too.

    Raises:
        CurateError: the folder is not writable.
    """
    try:
        pattern = f".{name}.{'[0-9a-f]' * 2 * _RANDOM}.tmp"
        for left in folder.rglob(pattern) if below else folder.glob(pattern):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise CurateError(f"{folder}: cannot be written ({error.strerror}).") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_write(path) as stream:
        stream.write(data)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk: a new file's name is, only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and fixed separators: equal values give equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return _encoded(text)


def _encoded(text: str) -> bytes:
    """UTF-8; bytes of a file name that are no UTF-8 pass, as `json.loads` reads them back."""
    return text.encode("utf-8", "surrogatepass")


def write_json(path: Path, value: Any) -> None:
    """Write `value` for people to read (indented, keys sorted), atomically."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, _encoded(text) + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CurateError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CurateError(f"{path}: no such file.") from error
    except (ValueError, RecursionError, OSError) as error:
        raise CurateError(f"{path}: not readable as JSON ({error}).") from error


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value in canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Readable(Protocol):
    """All that is asked of a stream of bytes; it need not seek."""

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes; none only at the end."""
        ...


class HashingReader:
    """A read-only stream that hashes whatever passes, so that a shard is read once."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        data = self._stream.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    def finish(self) -> str:
        """Read what is left and return the SHA-256 (hex) of the whole stream."""
        while self.read(_CHUNK):
            pass
        return self._hash.hexdigest()
