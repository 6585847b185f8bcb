"""The process in which img2dataset runs: `python download_process.py arguments.json`.

It is started by path, imports nothing of curate, and is imported again by every worker that
img2dataset spawns, so it stays small.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Hand the arguments in the JSON file named on the command line to img2dataset."""
    import img2dataset  # here, so that spawned workers do not import it twice

    img2dataset.download(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
