"""Run a function over hostile inputs in a process of its own, and name the input that ends it."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

_START_S = 120.0  # a spawned interpreter imports the code under test first, on a busy machine


def watched(
    function: Callable[[bytes], str], inputs: Iterable[bytes], limit_s: float
) -> Iterator[str]:
    """Yield `function(data)` for each input, in order.

    An exception yields "raised ...", a worker that dies "crashed with exit code ..." (negative: the
    signal), one that needs more than `limit_s` seconds "hung"; the next input gets a new worker.
    `function` must be importable by a spawned process (top level of a module).
    """
    worker: tuple[SpawnProcess, Connection] | None = None
    try:
        for data in inputs:
            worker = worker or _start(function)
            answer = _ask(*worker, data, limit_s)
            if answer is None or answer.startswith("crashed"):
                _stop(*worker)
                worker = None
            yield "hung" if answer is None else answer
    finally:
        if worker:
            _stop(*worker)


def _start(function: Callable[[bytes], str]) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(function, theirs), daemon=True)
    process.start()
    theirs.close()
    if not ours.poll(_START_S) or ours.recv() != "ready":
        _stop(process, ours)
        raise RuntimeError("the worker did not start")
    return process, ours


def _ask(process: SpawnProcess, pipe: Connection, data: bytes, limit_s: float) -> str | None:
    try:
        pipe.send_bytes(data)
        return str(pipe.recv()) if pipe.poll(limit_s) else None
    except (EOFError, ConnectionError):
        process.join()
        return f"crashed with exit code {process.exitcode}"


def _stop(process: SpawnProcess, pipe: Connection) -> None:
    pipe.close()
    process.kill()
    process.join()


def _serve(function: Callable[[bytes], str], pipe: Connection) -> None:
    """Answer until killed. Libraries in C (libtiff) write on the error stream: close it to them."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pipe.send("ready")
    while True:
        data = pipe.recv_bytes()
        try:
            answer = function(data)
        except Exception as error:  # noqa: BLE001 - whatever escapes is the finding
            answer = f"raised {type(error).__name__}: {error}"
        pipe.send(answer)
