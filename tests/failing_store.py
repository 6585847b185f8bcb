"""An object store in memory, `failing://`, in which a process dies at any of its calls."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

CALLS = ("find", "info", "cat_file", "put_file", "pipe_file", "rm_file", "open")


class Killed(BaseException):
    """The process is dead."""


class FailingStore(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Counts calls; from one of them on, each raises, before or after it has done its work."""

    protocol = "failing"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    calls: ClassVar[list[str]] = []
    dies_at: ClassVar[int | None] = None
    after: ClassVar[bool] = False
    error: ClassVar[Callable[[], BaseException]] = Killed
    once: ClassVar[bool] = False
    _inner: ClassVar[threading.local] = threading.local()
    _turn: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(str(path).removeprefix("failing://"))
        return stripped

    @classmethod
    def number(cls, name: str) -> int:
        with cls._turn:
            cls.calls.append(name)
            return len(cls.calls) - 1


def _counted(name: str) -> Callable[..., Any]:
    def call(self: FailingStore, *args: Any, **kwargs: Any) -> Any:
        work = getattr(super(FailingStore, self), name)
        if getattr(FailingStore._inner, "busy", False):
            return work(*args, **kwargs)
        number, at = FailingStore.number(name), FailingStore.dies_at
        fails = at is not None and (number == at if FailingStore.once else number >= at)
        if fails and not (FailingStore.after and number == at):
            raise FailingStore.error()
        FailingStore._inner.busy = True
        try:
            result = work(*args, **kwargs)
        finally:
            FailingStore._inner.busy = False
        if fails:
            raise FailingStore.error()
        return _tagged(result) if name in ("find", "info") else result

    return call


def _tagged(found: dict[str, Any]) -> dict[str, Any]:
    """What the store says of objects, with MD5s as ETags, as S3 has them."""
    if found.get("type") == "directory":
        return found
    for info in [found] if "name" in found else found.values():
        data = FailingStore.store[info["name"]].getvalue()
        info["ETag"] = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
    return found


for _name in CALLS:
    setattr(FailingStore, _name, _counted(_name))


@contextmanager
def failing_store() -> Iterator[type[FailingStore]]:
    """An empty store, in which nothing fails until it is told to."""
    fsspec.register_implementation("failing", FailingStore, clobber=True)
    FailingStore.store.clear()
    recover()
    try:
        yield FailingStore
    finally:
        FailingStore.store.clear()
        recover()


def recover() -> None:
    """Nothing fails any more; calls are counted from 0."""
    FailingStore.calls.clear()
    FailingStore.dies_at = None
    FailingStore.after = False
    FailingStore.once = False
    FailingStore.error = Killed


def contents() -> dict[str, bytes]:
    """All objects that are not hidden, by name."""
    return {
        name: file.getvalue()
        for name, file in FailingStore.store.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }
