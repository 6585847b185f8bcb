"""The header of a `.npy` file: where a matrix of floats begins, and its shape and type."""

import io
import tokenize
from dataclasses import dataclass

import numpy as np

from curate.errors import CurateError

HEAD_BYTES = 1 << 14
"""More than any header that is accepted; numpy's own are 128 bytes."""

DAMAGE = (OSError, ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError)
"""What numpy raises on damaged headers, which it parses as Python."""

_MATRIX = 2  # dimensions


@dataclass(frozen=True)
class Header:
    """Where a matrix is in its file.

    Attributes:
        rows: n.
        dim: d.
        dtype: as numpy writes it, such as "<f2".
        offset: bytes before the first row; rows follow each other without gaps.
    """

    rows: int
    dim: int
    dtype: str
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dim * np.dtype(self.dtype).itemsize


def read_header(head: bytes, size: int, place: str) -> Header:
    """Read the header from the first bytes of a file and hold it against the file's size.

    Args:
        head: the first `HEAD_BYTES`, or the whole file if it is shorter.
        size: of the file in bytes.
        place: the file, for messages.

    Raises:
        CurateError: it is no matrix of float16, float32 or float64 stored row by row, or cut.
    """
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = reader(stream, max_header_size=HEAD_BYTES)
    except (*DAMAGE, KeyError) as error:
        raise CurateError(
            f"{place}: not readable as vectors ({error}); fetch the file again."
        ) from error
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8) or len(shape) != _MATRIX:
        raise CurateError(
            f"{place}: holds {dtype} of shape {shape}; a matrix (n, d) of float16, float32 or "
            "float64 was expected."
        )
    if is_fortran and min(shape) > 1:
        raise CurateError(
            f"{place}: stored column by column, so that no rows can be read; write it again with "
            "numpy.save(PATH, numpy.ascontiguousarray(VECTORS))."
        )
    return _checked(Header(int(shape[0]), int(shape[1]), dtype.str, stream.tell()), size, place)


def _checked(header: Header, size: int, place: str) -> Header:
    if header.rows < 0 or header.dim < 1:
        raise CurateError(f"{place}: a matrix of shape {header.rows, header.dim} holds no vectors.")
    expected = header.offset + header.rows * header.row_bytes
    if size != expected:
        raise CurateError(
            f"{place}: {size} bytes, but {header.rows} vectors of width {header.dim} take "
            f"{expected}; fetch the file again."
        )
    return header
