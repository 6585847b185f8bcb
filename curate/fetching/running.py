"""Running img2dataset in processes of its own, which end with ours, whatever happens to it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import curate
from curate.errors import CurateError
from curate.fetching.process import LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import polars as pl

    from curate.fetching.limits import FetchLimits

_TAIL = 2000  # characters of the log that an error shows
_TAIL_BYTES = 1 << 16  # that are read for them
_POLL = 0.5  # seconds between two looks


def tail(log: Path) -> str:
    """The end of the log, for an error message."""
    with log.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return io.TextIOWrapper(stream, "utf-8", "replace").read()[-_TAIL:]


def run_img2dataset(
    lists: Sequence[pl.DataFrame],
    arguments: Mapping[str, object],
    limits: FetchLimits,
    log: Path,
    look: Callable[[], None],
) -> bool:
    """One run of img2dataset, its output appended to `log`.

    Args:
        lists: rows to fetch; each list begins a new shard.
        arguments: of img2dataset.download, but for the list.
        limits: of fetching.
        log: where its output goes.
        look: called again and again while it runs, and once after its end.

    Returns:
        Whether it came to its end; False if it or a worker of it was killed.

    Raises:
        CurateError: it ended badly; the end of the log is shown.
    """
    with tempfile.TemporaryDirectory(prefix="curate-download-") as temporary:
        folder, settings = Path(temporary, "lists"), Path(temporary, "settings.json")
        folder.mkdir()
        for number, rows in enumerate(lists):
            rows.write_parquet(folder / f"{number:06d}.parquet")
        whole = {**arguments, "url_list": str(folder), "input_format": "parquet"}
        settings.write_text(json.dumps({"download": whole, "limits": asdict(limits)}))
        with log.open("ab") as stream, _process(settings, stream.fileno()) as process:
            while process.poll() is None:
                time.sleep(_POLL)
                look()
        look()
    if process.returncode not in (0, LOST, -signal.SIGKILL):
        raise CurateError(f"{log}: img2dataset ended with {process.returncode}:\n{tail(log)}")
    return process.returncode == 0


@contextmanager
def _process(settings: Path, output: int) -> Iterator[subprocess.Popen[bytes]]:
    """The process group of img2dataset; nothing of it outlives this context, or this process.

    It has a session of its own, so that Ctrl-C reaches us alone: img2dataset would end "well".
    Its stdin is a pipe that nobody writes to; when we die, it closes, and the group ends itself.
    """
    process = subprocess.Popen(  # noqa: S603 - our own module, no shell
        [sys.executable, "-P", "-m", "curate.fetching.process", str(settings)],
        env=_environment() | {"TMPDIR": str(settings.parent)},  # wandb leaves folders there
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _environment() -> dict[str, str]:
    """Our environment, without calls home, and with loopback never sent through a proxy."""
    environment = dict(os.environ) | {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONUNBUFFERED": "1"}
    home = str(Path(curate.__file__).parents[1])  # also where the package is not installed
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), home)))
    bypass = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if bypass.strip() != "*":
        bypass = ",".join(filter(None, (bypass, "localhost,127.0.0.1,::1")))
    return environment | {"no_proxy": bypass, "NO_PROXY": bypass}


@contextmanager
def work_folder(out: Path, done: Iterable[str]) -> Iterator[Path]:
    """A new folder for img2dataset to write to, in which `done` shards count as finished.

    Every run has its own: a worker of a killed run may still write for a moment.
    """
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=work))
        for name in done:
            (folder / f"{name}_stats.json").touch()
    except OSError as error:
        raise CurateError(f"{work}: cannot be written ({error.strerror}).") from error
    try:
        yield folder
    finally:
        shutil.rmtree(work, ignore_errors=True)
