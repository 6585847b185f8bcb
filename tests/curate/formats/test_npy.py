"""The header of a `.npy` file is read as numpy reads it, and refused where no rows can be read."""

import io
import random
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.errors import CurateError
from curate.formats.npy import HEAD_BYTES, Header, read_header


def saved(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version, allow_pickle=True)
    return buffer.getvalue()


def header_of(data: bytes) -> Header:
    return read_header(data[:HEAD_BYTES], len(data), "x.npy")


@given(st.integers(0, 50), st.integers(1, 300), st.sampled_from(["<f2", "<f4", "<f8", ">f4"]),
       st.sampled_from([(1, 0), (2, 0)]))  # fmt: skip
def test_rows_are_where_the_header_says(
    rows: int, dim: int, dtype: str, version: tuple[int, int]
) -> None:
    array = np.arange(rows * dim).reshape(rows, dim).astype(dtype)
    data = saved(array, version)
    header = header_of(data)
    assert (header.rows, header.dim, header.dtype) == (rows, dim, dtype)
    found = np.frombuffer(data[header.offset :], header.dtype).reshape(rows, dim)
    np.testing.assert_array_equal(found, array)
    assert header.row_bytes * rows == array.nbytes


BAD = {
    "nothing": (b"", "not readable as vectors"),
    "text": (b"<html>404</html>", "not readable as vectors"),
    "cut": (saved(np.ones((3, 4), np.float16))[:-2], "bytes, but 3 vectors of width 4 take"),
    "too long": (saved(np.ones((3, 4), np.float16)) + b"x", "bytes, but 3 vectors of width 4"),
    "whole numbers": (saved(np.ones((3, 4), int)), "holds int64 of shape"),
    "objects": (saved(np.array([[None]])), "holds object of shape"),
    "long floats": (saved(np.ones((3, 4), np.longdouble)), "float16, float32 or float64"),
    "one row": (saved(np.ones(4, np.float32)), r"of shape \(4,\)"),
    "no width": (saved(np.ones((3, 0), np.float32)), "holds no vectors"),
    "columns": (saved(np.asfortranarray(np.ones((3, 4)))), "numpy.ascontiguousarray"),
    "records": (saved(np.zeros((2, 2), "f4,f4")), "of shape"),
    "version 3": (b"\x93NUMPY\x03\x00" + saved(np.ones((3, 4)))[8:], "not readable as vectors"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_holds_no_rows_is_refused_by_name(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(CurateError, match=rf"^x\.npy: .*{words}"):
        header_of(data)


def test_one_row_or_one_column_has_no_order_to_be_wrong() -> None:
    assert header_of(saved(np.asfortranarray(np.ones((1, 4))))).rows == 1
    assert header_of(saved(np.asfortranarray(np.ones((4, 1))))).rows == 4


def test_a_header_too_long_to_be_honest_is_not_parsed() -> None:
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }" + b" " * (1 << 20)
    data = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + b"\0" * 4
    with pytest.raises(CurateError, match="not readable as vectors"):
        header_of(data)


def test_no_damage_of_a_header_is_a_traceback() -> None:
    good, chance = saved(np.ones((2, 4), np.float16)), random.Random(0)
    for _ in range(600):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(128)] = chance.randrange(256)
        with suppress(CurateError):
            assert header_of(bytes(data)).dim > 0
