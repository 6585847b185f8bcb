"""What a command took, with all that it started."""

import sys
from pathlib import Path

import pytest

from benchmarks.side_by_side.costs import FailedRunError, isolation, last_words, run

BURN = "import time\nwhile time.process_time() < {seconds}: pass"
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', {text!r}], check=True)"


def test_the_time_of_children_counts(tmp_path: Path) -> None:
    text = CHILD.format(text=BURN.format(seconds=1))
    cost = run([sys.executable, "-c", text], tmp_path, offline=False, extra={})
    assert 1 <= cost.cpu_s < 3
    assert cost.wall_s >= 1


def test_the_memory_of_children_counts(tmp_path: Path) -> None:
    hold = "import time; kept = b'x' * 300_000_000; time.sleep(3)"
    cost = run([sys.executable, "-c", CHILD.format(text=hold)], tmp_path, offline=False, extra={})
    assert 300 < cost.peak_pss_mb <= cost.peak_rss_mb < 500


def test_a_failure_tells_its_code_and_last_words_without_folders(tmp_path: Path) -> None:
    text = "import sys; print('early'); sys.exit('cannot open /home/somebody/x.bin today\\n')"
    with pytest.raises(FailedRunError, match=r"^exit code 1: cannot open x\.bin today$"):
        run([sys.executable, "-c", text], tmp_path, offline=False, extra={})


def test_silence_is_told_as_such() -> None:
    assert last_words(b"\n \n") == "nothing said"


def test_variables_reach_the_command(tmp_path: Path) -> None:
    text = "import os; assert os.environ['GIVEN'] == 'yes' and os.environ['HF_HUB_OFFLINE'] == '1'"
    run([sys.executable, "-c", text], tmp_path, offline=False, extra={"GIVEN": "yes"})


@pytest.mark.skipif(not isolation(), reason="this system cannot take the network away")
def test_offline_there_is_no_network_at_all(tmp_path: Path) -> None:
    text = "import socket; assert [name for _, name in socket.if_nameindex()] == ['lo']"
    run([sys.executable, "-c", text], tmp_path, offline=True, extra={})
