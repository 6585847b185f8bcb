"""The process in which img2dataset runs: `python -m curate.fetching.process settings.json`.

Every worker that img2dataset spawns imports this module again, as `__mp_main__`, and so gets the
same opener; therefore it imports little.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import urllib.request
from pathlib import Path

from curate.fetching.limits import FetchLimits
from curate.fetching.opener import GuardedOpener
from curate.fetching.pace import Pace


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


def main() -> None:
    """Hand the arguments in the JSON file named on the command line to img2dataset."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    arguments = _install()
    import img2dataset  # here, so that spawned workers do not import it twice

    img2dataset.download(**arguments)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    _install()
