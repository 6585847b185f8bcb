"""The process in which img2dataset runs: `python -m curate.fetching.process settings.json`.

Every worker that img2dataset spawns imports this module again, as `__mp_main__`, and so gets the
same opener; therefore it imports little.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path

from curate.fetching.limits import FetchLimits
from curate.fetching.opener import GuardedOpener
from curate.fetching.pace import Pace

LOST = 75
"""Exit code after a worker was killed: EX_TEMPFAIL of sysexits.h."""
_LOOK = 0.5
_GRACE = 5.0
"""Seconds until all is over after a good run has stopped its workers, which looks the same."""


def _install() -> dict[str, object]:
    """Let urllib open through our opener; returns the arguments of img2dataset."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    limits = FetchLimits(**settings["limits"])
    pace = Pace(Path(sys.argv[1]).with_name("pace"), limits.host_rate)
    urllib.request.install_opener(GuardedOpener(limits, pace))
    arguments = settings["download"]
    assert isinstance(arguments, dict)
    return arguments


def _end_with_parent() -> None:
    """End this process and its workers once the other end of stdin has gone; leave no files."""
    os.read(0, 1)  # sys.stdin would hold a lock that ends a good run badly
    shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _end_with_a_worker() -> None:
    """End this process once a worker was killed, for want of memory say.

    The pool of img2dataset starts another one, and waits for the lost shard for ever.
    """
    workers: set[multiprocessing.process.BaseProcess] = set()
    while not any(one.exitcode for one in workers):
        time.sleep(_LOOK)
        workers = {one for one in workers if one.exitcode != 0} | {
            *multiprocessing.active_children()
        }
    time.sleep(_GRACE)
    os.write(sys.stdout.fileno(), b"a worker was killed: img2dataset is ended\n")  # into its log
    os._exit(LOST)


def main() -> None:
    """Hand the arguments in the JSON file named on the command line to img2dataset."""
    for ending in (_end_with_parent, _end_with_a_worker):
        threading.Thread(target=ending, daemon=True).start()
    arguments = _install()
    import img2dataset  # here, so that spawned workers do not import it twice

    img2dataset.download(**arguments)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    _install()
