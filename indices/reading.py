"""Blocks of stored vectors, read ahead while others are worked on, and let go of afterwards."""

import mmap
import queue
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from indices.stored import Vectors

_AHEAD = 2


def read_ahead(blocks: Iterable[Vectors]) -> Iterator[Vectors]:
    """The same blocks in memory, the next ones being read in a thread meanwhile.

    What fails in the thread is raised here.
    """
    ready: queue.Queue[Vectors | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(thing: Vectors | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(thing, timeout=0.2)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for block in blocks:
                put(_loaded(block))
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised where the block was wanted
            put(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (thing := ready.get()) is not None:
            if isinstance(thing, BaseException):
                raise thing
            yield thing
    finally:
        stop.set()
        thread.join()


def _loaded(block: Vectors) -> Vectors:
    """The block in memory of its own; a memory-mapped one gives its pages back.

    Mapped pages count as memory of the process for as long as they are mapped, and a part may be
    larger than all memory that a search is allowed.
    """
    if not isinstance(block, np.memmap):
        return np.asarray(block)
    copy = np.array(block)
    whole: mmap.mmap | None = block._mmap  # type: ignore[attr-defined]  # noqa: SLF001  # no public name
    if whole is not None and len(block):
        base = np.frombuffer(whole, np.uint8).ctypes.data
        start = block.ctypes.data - base
        end = start + block.nbytes
        start -= start % mmap.PAGESIZE
        whole.madvise(mmap.MADV_DONTNEED, start, min(end, len(whole)) - start)
    return copy
