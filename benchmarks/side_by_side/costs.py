"""What a command costs: wall seconds, CPU seconds and memory of it and all that it starts."""

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.5
# fastdup reports errors and looks for its newest version, albumentations too, models are looked up.
QUIET = {
    "SENTRY_OPT_OUT": "1",
    "FASTDUP_PRODUCTION": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "disabled",
}


class FailedRunError(Exception):
    """A measured command failed; the text is its exit code and its last words."""


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        wall_s: seconds.
        cpu_s: the kernel's account of the command and its descendants, in seconds.
        cpu_s_of_others: what the machine spent on everything else meanwhile: how busy it was.
        peak_rss_mb: largest sampled sum of resident memory; shared pages count in each process.
        peak_pss_mb: the same with shared pages counted once.
    """

    wall_s: float
    cpu_s: float
    cpu_s_of_others: float
    peak_rss_mb: int
    peak_pss_mb: int


def run(words: Sequence[str], folder: Path, *, offline: bool, extra: dict[str, str]) -> Cost:
    """Run a command in a folder and account for it.

    Args:
        words: the command.
        folder: where it runs.
        offline: whether it is cut off the network, where the system allows that.
        extra: variables of its environment beside those of this process.

    Raises:
        FailedRunError: it does not end with 0.
    """
    start_used, start_busy, start = _used_cpu(), _busy_cpu(), time.perf_counter()
    rss = pss = 0
    with tempfile.TemporaryFile() as log:
        process = psutil.Popen(
            [*(isolation() if offline else []), *words],
            cwd=folder,
            env=os.environ | QUIET | extra,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            now = _family_memory(process)
            rss, pss = max(rss, now[0]), max(pss, now[1])
            time.sleep(SAMPLE_SECONDS)
        wall = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise FailedRunError(f"exit code {process.returncode}: {last_words(log.read())}")
    cpu = _used_cpu() - start_used
    others = max(0.0, _busy_cpu() - start_busy - cpu)
    return Cost(round(wall, 1), round(cpu, 1), round(others, 1), round(rss / 1e6), round(pss / 1e6))


def last_words(log: bytes) -> str:
    """The last line of a log that says something, without the folders of paths in it."""
    lines = [line.strip() for line in log.decode(errors="replace").splitlines()]
    said = [line for line in lines if line]
    words = (said or ["nothing said"])[-1][:300].split(" ")
    return " ".join(
        Path(word).name if word.strip("'\"").startswith("/") else word for word in words
    )


def isolation() -> list[str]:
    """Words that start a command without a network; none where the system does not allow that."""
    words = ["unshare", "--net", "--map-root-user"]
    program = shutil.which(words[0])
    if program is None or subprocess.run([program, *words[1:], "true"], check=False).returncode:
        return []
    return [program, *words[1:]]


def _used_cpu() -> float:
    """CPU seconds of all children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _busy_cpu() -> float:
    """CPU seconds that the whole machine has spent on work since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _family_memory(process: Any) -> tuple[int, int]:
    """Bytes (rss, pss) of a psutil process and all its children, now."""
    rss = pss = 0
    try:
        members = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0, 0
    for member in members:
        try:
            memory = member.memory_full_info()
        except psutil.Error:
            continue  # it ended between the listing and the reading
        rss += memory.rss
        pss += memory.pss
    return rss, pss
