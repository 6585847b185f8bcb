"""`python -m pipelines.execute.guard COMMAND...`: runs a command that ends when its owner does.

The owner holds the other end of standard input. Should it close that, or be killed, the command is
stopped with all processes that it started, in whatever session: `torchrun` puts each of its
processes into one of its own, and a worker that was killed can stop nobody.
"""

import os
import subprocess
import sys
import threading
import time

import psutil

from pipelines.execute.stopping import kill_process

_GRACE_SECONDS = 5


def main() -> int:
    """Run the command; returns its exit code."""
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    owner_left = threading.Event()
    watch = threading.Thread(target=_stop_with_owner, args=(process, owner_left), daemon=True)
    watch.start()
    code = process.wait()
    if owner_left.is_set():
        watch.join()  # the command may have gone before those that it started
    return code if code >= 0 else 128 - code


def _stop_with_owner(process: subprocess.Popen[bytes], owner_left: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    owner_left.set()
    stop_tree(process)


def stop_tree(top: subprocess.Popen[bytes]) -> None:
    """Stop a process and all below it: asked first, killed when that takes more than a moment.

    Nobody but `Popen` may wait for the process itself: an exit code is told once, and `Popen` takes
    a process whose code somebody else was told for one that succeeded.
    """
    end = time.monotonic() + _GRACE_SECONDS
    try:
        below = psutil.Process(top.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    top.terminate()
    _, alive = psutil.wait_procs(below, timeout=_GRACE_SECONDS)
    for process in alive:
        kill_process(process.pid)
    try:
        top.wait(max(0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        top.kill()


if __name__ == "__main__":
    sys.exit(main())
