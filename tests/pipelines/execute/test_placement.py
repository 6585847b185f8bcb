"""What a worker does when it starts."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

from pipelines.execute.placement import Placement

PIN = """
import os, threading
from pathlib import Path
from pipelines.execute.placement import pin_to_core
waiting = threading.Event()
thread = threading.Thread(target=waiting.wait)
thread.start()
cores = sorted(os.sched_getaffinity(0))
pin_to_core(len(cores) + 0)
found = {tuple(os.sched_getaffinity(int(t.name))) for t in Path("/proc/self/task").iterdir()}
waiting.set()
assert found == {(cores[0],)}, found
"""


def test_a_worker_takes_its_number_from_its_name_and_leaves_ctrl_c_to_the_client() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        placement = Placement(pin=False)
        placement.setup(SimpleNamespace(name=3))
        assert placement.number == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_worker_with_another_name_is_number_nought() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        placement = Placement(pin=False)
        placement.setup(SimpleNamespace(name="tcp://a:1"))
        assert placement.number == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_cores_are_counted_round_and_all_threads_are_bound() -> None:
    subprocess.run([sys.executable, "-c", PIN], check=True, env={**os.environ, "PYTHONPATH": "."})
