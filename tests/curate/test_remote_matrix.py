"""A matrix over the network has the bits of the local one, and costs what its rows cost."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from servers import Faults, web_server

from curate import remote_matrix
from curate.errors import CurateError
from curate.formats.npy import read_header
from curate.remote import RemoteFile
from curate.remote_matrix import RemoteMatrix
from indices.stored import Stored

DIM = 64
ROW = DIM * 2
STEP = remote_matrix.BLOCK_BYTES // ROW
Served = tuple[str, Faults, NDArray[np.float16], Path]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three blocks and a half of rows, behind a web server."""
    root = tmp_path_factory.mktemp("matrix")
    generator = np.random.default_rng(0)
    array = generator.integers(0, 2**14, (STEP * 7 // 2, DIM)).astype(np.uint16).view(np.float16)
    np.save(root / "x.npy", array)
    with web_server(root) as (address, faults):
        yield f"{address}/x.npy", faults, array, root / "x.npy"


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def open_matrix(url: str, pool: ThreadPoolExecutor) -> RemoteMatrix:
    file = RemoteFile(url, waits=(0.0,))
    return RemoteMatrix(file, read_header(file.head, file.stamp.size, url), pool)


def test_shape_type_and_length_are_those_of_the_array(
    served: Served, pool: ThreadPoolExecutor
) -> None:
    matrix = open_matrix(served[0], pool)
    assert (matrix.shape, matrix.dtype, len(matrix)) == (
        served[2].shape, served[2].dtype, len(served[2]),
    )  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_rows_in_any_order_have_the_same_bits(
    served: Served, pool: ThreadPoolExecutor, data: st.DataObject
) -> None:
    matrix, array = open_matrix(served[0], pool), served[2]
    row = st.integers(0, len(array) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            start, stop = data.draw(row), data.draw(row)
            assert matrix[start:stop].tobytes() == array[start:stop].tobytes()
        else:
            rows = np.array(data.draw(st.lists(row, max_size=20)), np.int64)
            assert matrix[rows].tobytes() == array[rows].tobytes()


@pytest.mark.parametrize("block", [1000, STEP, STEP + 1, 2 * STEP])
def test_reading_in_order_takes_every_byte_once(
    served: Served, pool: ThreadPoolExecutor, block: int
) -> None:
    url, faults, array, _ = served
    matrix = open_matrix(url, pool)
    faults.asked.clear()
    found = b"".join(rows.tobytes() for rows in Stored([matrix]).blocks(block))
    assert found == array.tobytes()
    assert faults.bytes_of("x.npy") == array.nbytes
    assert len(faults.asked) <= 5


@pytest.mark.parametrize("start", [0, 777])
def test_the_next_blocks_are_under_way_before_they_are_asked_for(
    served: Served, pool: ThreadPoolExecutor, start: int
) -> None:
    url, faults, array, _ = served
    matrix = open_matrix(url, pool)
    faults.asked.clear()
    _ = matrix[start : start + 100]
    _ = matrix[start + 100 : start + 200]
    deadline = time.monotonic() + 10
    end = 128 + len(array) * ROW - 1
    while end not in [last for *_, last in faults.asked] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert max(last for *_, last in faults.asked) == end


def test_a_first_row_alone_is_a_row_and_a_first_block_more(
    served: Served, pool: ThreadPoolExecutor
) -> None:
    url, faults, array, _ = served
    matrix = open_matrix(url, pool)
    faults.asked.clear()
    _ = matrix[0:1]
    assert faults.bytes_of("x.npy") == ROW
    matrix = open_matrix(url, pool)
    _ = matrix[0:STEP]
    assert matrix._ahead[-1][1] == len(array)


def test_what_is_read_ahead_is_bounded(served: Served, pool: ThreadPoolExecutor) -> None:
    url, faults, _, _ = served
    matrix = open_matrix(url, pool)
    matrix._step = 1000
    faults.asked.clear()
    _ = matrix[0:1000]
    time.sleep(0.3)
    assert len(faults.asked) <= 1 + remote_matrix.BLOCKS_AHEAD


def test_a_slice_from_somewhere_is_one_request_for_its_bytes(
    served: Served, pool: ThreadPoolExecutor
) -> None:
    url, faults, _, _ = served
    matrix = open_matrix(url, pool)
    faults.asked.clear()
    _ = matrix[5000:6000]
    assert faults.asked == [("/x.npy", 128 + 5000 * ROW, 128 + 6000 * ROW - 1)]


def test_a_few_rows_cost_a_few_rows(served: Served, pool: ThreadPoolExecutor) -> None:
    url, faults, array, _ = served
    matrix = open_matrix(url, pool)
    faults.asked.clear()
    rows = np.array([200_000, 3, 5, 3, 100_000])
    assert matrix[rows].tobytes() == array[rows].tobytes()
    assert len(faults.asked) == 3
    assert faults.bytes_of("x.npy") == ROW * (3 + 1 + 1)


def test_many_rows_are_few_requests_of_a_block_each(
    served: Served, pool: ThreadPoolExecutor
) -> None:
    url, faults, array, _ = served
    matrix = open_matrix(url, pool)
    faults.asked.clear()
    rows = np.arange(0, len(array), 50)
    assert matrix[rows].tobytes() == array[rows].tobytes()
    assert len(faults.asked) == 4
    assert max(last - first + 1 for _, first, last in faults.asked) <= remote_matrix.BLOCK_BYTES


def test_rows_that_do_not_exist_are_no_rows_from_the_end(
    served: Served, pool: ThreadPoolExecutor
) -> None:
    matrix = open_matrix(served[0], pool)
    for rows in ([-1], [len(matrix)]):
        with pytest.raises(IndexError):
            matrix[np.array(rows)]
    with pytest.raises(IndexError):
        matrix[0:10:2]
    assert matrix[np.array([], np.int64)].shape == (0, DIM)
    assert matrix[7:7].shape == (0, DIM)


def test_a_failed_block_is_an_error_then_and_no_lasting_damage(
    served: Served, pool: ThreadPoolExecutor
) -> None:
    url, faults, array, _ = served
    matrix = open_matrix(url, pool)
    faults.broken["/x.npy"] = 1000
    with pytest.raises(CurateError, match=r"x\.npy: could not be read in 2 attempts"):
        _ = matrix[0:1000]
    faults.broken.clear()
    assert matrix[0:1000].tobytes() == array[:1000].tobytes()
    assert matrix[1000:2000].tobytes() == array[1000:2000].tobytes()


def test_a_file_that_is_replaced_midway_ends_the_reading(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    array = np.zeros((12 * STEP, DIM), np.float16)
    np.save(tmp_path / "x.npy", array)
    with web_server(tmp_path) as (address, _):
        blocks = Stored([open_matrix(f"{address}/x.npy", pool)]).blocks(STEP)
        next(blocks)
        np.save(tmp_path / "x.npy", array + 1)
        with pytest.raises(CurateError, match=r"x\.npy: replaced since it was opened"):
            list(blocks)
