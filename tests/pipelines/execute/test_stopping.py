"""Ctrl-C once lets running units finish, twice ends at once; workers do not hear the terminal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from curate.errors import PartialRunError
from pipelines.execute.stopping import Stopping, kill_process, stopping

# Each unit leaves a file when it begins and one when it is done; the program tells what it was
# given.
PROGRAM = """
import sys, time
from functools import partial
from pathlib import Path
from curate.errors import PartialRunError
from pipelines.execute import ClusterConfig, open_runner

def unit(seconds, path):
    Path(path).with_suffix(".begun").touch()
    time.sleep(seconds)
    Path(path).with_suffix(".done").touch()
    return path

if __name__ == "__main__":
    kind, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    config = ClusterConfig(kind="local", workers=2) if kind == "local" else ClusterConfig()
    try:
        with open_runner(config) as runner:
            work = partial(unit, seconds)
            for outcome in runner(work, [str(folder / str(n)) for n in range(60)]):
                Path(outcome.unit).with_suffix(".given").touch()
    except PartialRunError as error:
        print(error)
        sys.exit(3)
    except KeyboardInterrupt:
        print("at once")
        sys.exit(130)
"""


class Run:
    """The program in a process group of its own, as a terminal would start it."""

    def __init__(self, folder: Path, kind: str, seconds: float) -> None:
        program = folder / "program.py"
        program.write_text(PROGRAM)
        self.folder = folder
        words = [sys.executable, str(program), kind, str(folder), str(seconds)]
        self.process = subprocess.Popen(
            words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def count(self, suffix: str) -> int:
        return len(list(self.folder.glob(f"*.{suffix}")))

    def wait_for(self, suffix: str, count: int) -> None:
        deadline = time.monotonic() + 30
        while self.count(suffix) < count:
            assert time.monotonic() < deadline, self.process.poll()
            time.sleep(0.02)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        os.killpg(self.process.pid, number)

    def end(self, seconds: float) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, output, errors

    def left_over(self) -> list[str]:
        """Processes of the group that outlive it by more than a moment."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            left = [p for p in psutil.process_iter(["cmdline"]) if _group(p) == self.process.pid]
            if not left:
                return []
            time.sleep(0.1)
        return [" ".join(p.info["cmdline"] or ()) for p in left]


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    started: list[Run] = []
    yield started
    for run in started:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.communicate()


def test_the_first_ctrl_c_in_process_finishes_the_one_unit(tmp_path: Path, runs: list[Run]) -> None:
    runs.append(run := Run(tmp_path, "process", 0.7))
    run.wait_for("begun", 2)
    run.interrupt()
    code, output, errors = run.end(10)
    assert code == 3
    assert "stopped" in output
    assert "SIGINT" in errors
    assert run.count("begun") == run.count("done") == run.count("given") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_on_workers_finishes_what_runs_and_drops_the_rest(
    tmp_path: Path, runs: list[Run], number: int
) -> None:
    runs.append(run := Run(tmp_path, "local", 1.0))
    run.wait_for("done", 2)
    if number == signal.SIGINT:
        run.interrupt()  # workers too, as a terminal does
    else:
        run.process.send_signal(number)
    code, output, _ = run.end(15)
    assert code == 3
    assert "the same command goes on" in output
    assert run.count("begun") == run.count("done") == run.count("given")
    assert run.count("begun") < 10
    assert run.left_over() == []


def test_the_second_ctrl_c_ends_workers_in_the_midst_of_units(
    tmp_path: Path, runs: list[Run]
) -> None:
    runs.append(run := Run(tmp_path, "local", 60))
    run.wait_for("begun", 2)
    run.interrupt()
    time.sleep(1)
    assert run.process.poll() is None
    run.interrupt()
    # A worker that is started for one that was killed is waited for, for 10 seconds.
    code, output, _ = run.end(9)
    assert (code, output.strip()) == (130, "at once")
    assert run.count("done") == 0
    assert run.left_over() == []


def test_without_units_the_first_ctrl_c_is_for_now() -> None:
    with stopping(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_with_units_a_first_signal_is_remembered_and_a_second_calls_what_kills() -> None:
    killed = []
    with stopping() as stop:
        stop.on_kill(lambda: killed.append("workers"))
        with stop.units():
            stop.handle(signal.SIGTERM)
            assert stop.requested
            assert killed == []
            with pytest.raises(PartialRunError, match="stopped"):
                stop.check()
            with pytest.raises(KeyboardInterrupt):
                stop.handle(signal.SIGINT)
    assert killed == ["workers"]
    assert stop.at_once


def test_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.getsignal(signal.SIGINT)
    own = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stopping():
            assert signal.getsignal(signal.SIGINT) != before
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, own)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_run_that_was_not_asked_to_stop_goes_on() -> None:
    Stopping().check()


def test_killing_a_process_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    kill_process(process.pid)
    kill_process(None)
