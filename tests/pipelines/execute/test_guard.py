"""A guarded command ends when its owner does, with all that it started."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

GUARD = [sys.executable, "-m", "pipelines.execute.guard", sys.executable, "-c"]
# A child in a session of its own that does not hear SIGTERM, as a hung process of torchrun.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", "import signal as s, time; s.signal(15, s.SIG_IGN); time.sleep(99)"],
    start_new_session=True,
)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(99)
"""


def test_the_exit_code_is_that_of_the_command() -> None:
    for code in (0, 7):
        process = subprocess.Popen([*GUARD, f"raise SystemExit({code})"], stdin=subprocess.PIPE)
        assert process.wait(20) == code
        assert process.stdin is not None
        process.stdin.close()


def test_a_closed_pipe_stops_the_command_and_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    process = subprocess.Popen([*GUARD, PARENT, str(mark)], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    child = psutil.Process(int(mark.read_text()))
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 128 + signal.SIGTERM
    child.wait(5)
    assert not child.is_running()
