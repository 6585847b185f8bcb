"""How results are kept: the figures, and with them the command, the date and the machine.

`python -m benchmarks.figures` makes the tables of the documents from these files.
"""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from curate.files import write_bytes


def machine() -> str:
    """The machine in words."""
    memory = psutil.virtual_memory().total / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, {gpu}"


def command() -> str:
    """This process's own command line, to be given from the folder of the repository.

    Of paths from elsewhere only the last part is told: the rest says nothing to others.
    """
    script = Path(sys.argv[0])
    words = [str(Path("benchmarks") / script.name), *(_shortened(word) for word in sys.argv[1:])]
    threads = os.environ.get("OMP_NUM_THREADS")
    return " ".join([f"OMP_NUM_THREADS={threads}"] * bool(threads) + ["python", *words])


def _shortened(word: str) -> str:
    path = Path(word)
    return path.name if path.is_absolute() or ".." in path.parts else word


def write_result(path: Path, figures: dict[str, Any]) -> None:
    """Write a result, atomically; keys stay in the order in which they were put in."""
    about = {"command": command(), "date": datetime.now(UTC).date().isoformat()}
    result = {**about, "machine": machine(), **figures}
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")
