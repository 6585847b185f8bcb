import mmap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indices.reading import read_ahead
from indices.stored import Stored, Vectors


def test_blocks_come_in_order_and_whole() -> None:
    blocks = [np.full((3, 2), n, np.float16) for n in range(20)]
    got = list(read_ahead(blocks))
    np.testing.assert_array_equal(np.stack(got), np.stack(blocks))


def test_what_fails_while_reading_is_raised_where_it_is_wanted() -> None:
    def blocks() -> Iterator[Vectors]:
        yield np.zeros((1, 1), np.float16)
        raise OSError("the disk is gone")

    reader = read_ahead(blocks())
    next(reader)
    with pytest.raises(OSError, match="the disk is gone"):
        next(reader)


def test_a_reader_that_is_left_early_leaves_no_thread() -> None:
    before = threading.active_count()
    reader = read_ahead(np.zeros((1, 1), np.float16) for _ in range(100))
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_the_next_block_is_read_while_one_is_worked_on() -> None:
    read = []

    def blocks() -> Iterator[Vectors]:
        for n in range(5):
            read.append(n)
            yield np.zeros((1, 1), np.float16)

    reader = read_ahead(blocks())
    next(reader)
    deadline = time.monotonic() + 10
    while len(read) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(read) >= 2


def resident(path: Path) -> int:
    """Bytes of a mapped file that count as memory of this process."""
    text = Path("/proc/self/smaps").read_text()
    lines = iter(text.splitlines())
    total = 0
    for line in lines:
        if line.endswith(str(path)):
            total += next(int(more.split()[1]) for more in lines if more.startswith("Rss:"))
    return total * 1024


def test_pages_of_a_mapped_part_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "part.npy"
    rows = np.random.default_rng(0).standard_normal((200_000, 64)).astype(np.float16)
    np.save(path, rows)
    mapped = np.load(path, mmap_mode="r")
    for n, block in enumerate(read_ahead(Stored([mapped]).blocks(10_000))):
        assert block.tobytes() == rows[n * 10_000 : (n + 1) * 10_000].tobytes()
        assert resident(path) < 10 * 10_000 * 128 + 64 * mmap.PAGESIZE
    np.testing.assert_array_equal(mapped[5], rows[5])
