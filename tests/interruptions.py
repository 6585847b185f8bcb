"""Killing a command again and again, workers and all, at moments drawn from a seed."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def run_killing(words: Sequence[str], out: Path, times: int, seed: int = 0) -> None:
    """Start `words + --out OUT --workers 1|2`, SIGKILL its process group, and so on; then finish.

    The command runs undisturbed once before, elsewhere, to learn how long it takes. Should a run
    get through before its moment comes, its folder is removed and it starts from nothing.
    """
    start = time.perf_counter()
    trial = out.with_name("trial")
    subprocess.run([*words, "--out", str(trial)], check=True, capture_output=True)
    duration = time.perf_counter() - start
    shutil.rmtree(trial)
    chance = random.Random(seed)
    killed = 0
    while killed < times:
        process = subprocess.Popen(
            [*words, "--out", str(out), "--workers", chance.choice(("1", "2"))],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, errors = process.communicate(timeout=chance.uniform(0.3, duration))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
        else:
            assert process.returncode == 0, errors
            shutil.rmtree(out)
    subprocess.run([*words, "--out", str(out)], check=True, capture_output=True)
