"""Where fetched inputs and working folders of stored runs lie on this machine."""

import hashlib
import os
import shutil
from pathlib import Path

from curate.errors import CurateError
from curate.files import write_bytes

_ADDRESS = ".url"
INPUTS, RUNS = "inputs", "runs"


def cache_folder() -> Path:
    """`CURATE_CACHE`, or `curate` in the user's cache folder. It may be removed between runs.

    Raises:
        CurateError: nobody says where the user's files are.
    """
    given = os.environ.get("CURATE_CACHE")
    if given:
        return Path(given).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or "~/.cache").expanduser().absolute() / "curate"
    except RuntimeError as error:
        raise CurateError("No home folder is known here; set CURATE_CACHE.") from error


def work_folder() -> Path:
    """`CURATE_WORK`, or the cache: what workers on other machines have to see too."""
    given = os.environ.get("CURATE_WORK")
    return Path(given).absolute() if given else cache_folder()


def place_of(kind: str, url: str) -> Path:
    """The folder for one address, which notes the address.

    Args:
        kind: `INPUTS` or `RUNS`.
        url: the address.

    Raises:
        CurateError: it cannot be written.
    """
    root = work_folder() if kind == RUNS else cache_folder()
    place = root / kind / hashlib.sha256(url.encode()).hexdigest()[:24]
    note = place / _ADDRESS
    try:
        if not note.is_file() or note.read_text("utf-8") != url:
            write_bytes(note, url.encode())
    except (OSError, UnicodeDecodeError, CurateError) as error:
        raise CurateError(
            f"{place}: cannot be written ({error}). Free space, or set CURATE_CACHE and "
            "CURATE_WORK to other folders."
        ) from error
    return place


def address(path: Path) -> str | None:
    """The URL that something in the cache came from, or is published to; None: it is not in it."""
    path = path.absolute()
    for kind, root, skipped in ((RUNS, work_folder(), 1), (INPUTS, cache_folder(), 2)):
        folder = root / kind
        if not path.is_relative_to(folder):
            continue
        first, *rest = path.relative_to(folder).parts
        note = folder / first / _ADDRESS
        if note.is_file() and len(rest) >= skipped:
            return "/".join([note.read_text("utf-8"), *rest[skipped:]])
    return None


def need_room(place: Path, url: str, size: int) -> None:
    """Find out before anything is fetched that the disk is too small.

    Args:
        place: a folder on the disk.
        url: what is to be fetched.
        size: in bytes.

    Raises:
        CurateError: it is.
    """
    free = shutil.disk_usage(place).free
    if size > free:
        raise CurateError(
            f"{place}: {size / 1e9:.1f} GB of {url} do not fit in {free / 1e9:.1f} GB. Free space, "
            "or set CURATE_CACHE and CURATE_WORK to other folders."
        )
