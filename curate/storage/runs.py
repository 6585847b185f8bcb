"""Working in a folder that is published to a store: `stored`."""

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from curate.artifacts import file_lock
from curate.errors import CurateError, GateError, PartialRunError
from curate.files import write_bytes
from curate.remote import WAITS, is_http
from curate.storage.addresses import local_of, url_of
from curate.storage.bringing import bring
from curate.storage.cache import RUNS, place_of
from curate.storage.lease import Lease
from curate.storage.ledger import Ledger
from curate.storage.mirror import Mirror
from curate.storage.names import check_object_name
from curate.storage.objects import Objects, StoreError
from curate.storage.publishing import publish as publish_mirror
from curate.storage.snapshot import Snapshot

_LEDGER, _LOCK, _OWNER = ".ledger.json", ".lock", ".owner"
_open: dict[Path, "_Session"] = {}


@contextmanager
def stored(out: Path | str, waits: Sequence[float] = WAITS) -> Iterator[Path]:
    """A folder on this machine to work in; of a URL, what is finished in it is published there.

    At first, what the store has is brought, so that it is reused; at the end, or when a run ends
    early with its work kept, finished artifacts and the files beside them are published. One
    process at a time has an address, on any machine.

    Args:
        out: a path, which is given as it is, or a URL such as `s3://bucket/run`.
        waits: seconds before each further attempt at what the store refuses.

    Raises:
        CurateError: the address cannot be written, holds other things, or another process has it.
        PartialRunError: the store failed; what is done is kept, and the same command goes on.
    """
    url = url_of(out)
    if url is None:
        yield local_of(out)
        return
    if is_http(url):
        raise CurateError(f"{url}: a web server is read-only; give --out a path or s3://...")
    place = place_of(RUNS, url)
    folder = place / check_object_name(PurePosixPath(url.partition("://")[2]).name, url)
    with _only_one(place, url):
        objects = Objects(url, waits)
        with _telling(url, folder), Lease(objects, _owner(place)) as lease:
            mirror = Mirror(objects, folder, place / _LEDGER, _ledger(place, folder))
            session = _Session(mirror, lease, bring(mirror))
            yield from _working(session)


def _working(session: "_Session") -> Iterator[Path]:
    folder = session.mirror.folder
    _open[folder] = session
    try:
        yield folder
    except (PartialRunError, GateError) as error:
        try:
            session.publish(is_done=False)
        except CurateError as failure:
            raise type(error)(f"{error}\n{failure}") from error
        raise
    else:
        session.publish(is_done=True)
    finally:
        _open.pop(folder)


def publish(folder: Path) -> bool:
    """Publish what is finished so far in a folder of `stored`.

    What cannot be published now is published at its end, so nothing is raised.

    Returns:
        False where the store failed or files changed meanwhile; True for a local folder too.
    """
    session = _open.get(folder)
    if session is None:
        return True
    try:
        session.publish(is_done=False)
    except (CurateError, OSError):
        return False
    return True


def with_addresses(text: str) -> str:
    """A text for people, in which places in working folders stand by their addresses."""
    for folder, url in _known.items():
        text = text.replace(str(folder), url)
    return text


_known: dict[Path, str] = {}


@dataclass
class _Session:
    """A working folder in use.

    Attributes:
        mirror: it and its address.
        lease: on the address.
        brought: what the store had.
    """

    mirror: Mirror
    lease: Lease
    brought: Snapshot
    turn: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, *, is_done: bool) -> None:
        """Publish, one at a time."""
        with self.turn:
            publish_mirror(self.mirror, self.lease.check, self.brought if is_done else None)


def _ledger(place: Path, folder: Path) -> Ledger:
    return Ledger.read(place / _LEDGER) if folder.exists() else Ledger()


def _owner(place: Path) -> str:
    """The name by which a successor of a process that died knows the lock as its own."""
    path = place / _OWNER
    if not path.is_file():
        write_bytes(path, secrets.token_hex(16).encode())
    return path.read_text("utf-8")


@contextmanager
def _only_one(place: Path, url: str) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(place / _LOCK))
        except CurateError as error:
            raise CurateError(f"{url}: another process of this machine works on it.") from error
        yield


@contextmanager
def _telling(url: str, folder: Path) -> Iterator[None]:
    """Say of a store that failed what is safe."""
    _known[folder] = url
    try:
        yield
    except StoreError as error:
        raise PartialRunError(
            f"{error} What is finished is kept in {folder}, and what {url} has is whole; the same "
            "command goes on."
        ) from error
