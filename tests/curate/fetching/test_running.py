"""What an error shows of the log of img2dataset."""

import tracemalloc
from pathlib import Path

from curate.fetching.running import tail


def test_the_end_of_a_log_is_shown_and_only_that_is_read(tmp_path: Path) -> None:
    log, lines = tmp_path / "img2dataset.log", "\U0001f4f7 fetched\r\n" * 200_000
    log.write_bytes(lines.encode())
    tracemalloc.start()
    found = tail(log)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == lines.replace("\r\n", "\n")[-2000:]
    assert peak < 1_000_000


def test_a_short_log_is_shown_whole_whatever_bytes_are_in_it(tmp_path: Path) -> None:
    log = tmp_path / "img2dataset.log"
    for data, shown in ((b"", ""), (b"a\xff\n", "a\ufffd\n")):
        log.write_bytes(data)
        assert tail(log) == shown
