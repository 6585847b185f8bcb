"""Coded sketches of stored vectors in files of their own: what a repeated exact join has to read.

A join by codes reads a few dozen bytes per item and only then the stored vectors of candidates,
which decide; its pairs are those of a join that reads all vectors. A file is a plain `.npy` of one
record per item, which `numpy.load` opens: `values` (the code; bfloat16 stands as its 16 bits),
`scale`, `error` and `norm` (see `indices.sketch.Codes`) in float32. The last two are bounds, so
they may be rounded up; the scale is no bound, but a float32 number anyway.
"""

import mmap
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from indices.items import Items
from indices.kernels import plain_float32, precisions
from indices.planning import Plan
from indices.sketch import Codes, Precision, Sketcher, encode
from indices.stored import Matrix, Numbers, Stored, Vectors, Writable

if TYPE_CHECKING:
    import torch

Records = NDArray[Any]
"""Of `record_type`, one per item."""

_ROWS = 1 << 13
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, OverflowError, MemoryError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises on files that are not what they should be."""
_VALUES: dict[Precision, str] = {"int8": "|i1", "bf16": "<u2", "fp32": "<f4"}
_EXACT_IN: dict[Precision, tuple[Precision, ...]] = {
    "int8": ("int8", "bf16", "fp32"),
    "bf16": ("bf16", "fp32"),
    "fp32": ("fp32",),
}
"""Precisions that hold every value of one; bfloat16 has 8 bits, all that an int8 needs."""
_GAP = 4
"""Pages between two rows that are read along rather than asked for one by one."""


# --- codes as records ----------------------------------------------------------------------------


def record_type(sketcher: Sketcher) -> np.dtype[np.void]:
    """What stands in a file for an item."""
    bounds = [(name, "<f4") for name in ("scale", "error", "norm")]
    return np.dtype([("values", _VALUES[sketcher.precision], (sketcher.width,)), *bounds])


def packed(codes: Codes, sketcher: Sketcher) -> Records:
    """Codes as records: (n,).

    Raises:
        ValueError: a scale is no float32 number.
    """
    import torch

    records = np.empty(len(codes), record_type(sketcher))
    values = codes.values.cpu()
    bits = values.view(torch.int16) if sketcher.precision == "bf16" else values
    records["values"] = bits.numpy().view(_VALUES[sketcher.precision])
    scale = codes.scale.cpu().numpy()
    records["scale"] = scale
    if not (records["scale"] == scale).all():
        raise ValueError("a scale is not a float32 number")
    for name in ("error", "norm"):
        records[name] = _rounded_up(getattr(codes, name).cpu().numpy())
    return records


def _rounded_up(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """The float32 numbers that are not below these."""
    near = numbers.astype(np.float32)
    return np.where(near < numbers, np.nextafter(near, np.float32(np.inf)), near)


def unpacked(records: Records, stored: Precision, wanted: Precision, device: str) -> Codes:
    """The codes of records, their values in a precision that holds them exactly."""
    import torch

    kinds = {"int8": torch.int8, "bf16": torch.bfloat16, "fp32": torch.float32}
    values = np.ascontiguousarray(records["values"])
    bits = torch.from_numpy(values.view(np.int16) if stored == "bf16" else values)
    exact = bits.view(torch.bfloat16) if stored == "bf16" else bits

    def column(name: str) -> "torch.Tensor":
        return torch.from_numpy(records[name].astype(np.float64)).to(device)

    there = exact.to(device).to(kinds[wanted])
    return Codes(there, column("scale"), column("error"), column("norm"))


# --- files ---------------------------------------------------------------------------------------


def write_codes(stream: Writable, vectors: Matrix, sketcher: Sketcher) -> float:
    """Write the codes of a part as a `.npy` file, block by block.

    Args:
        stream: where to.
        vectors: (n, d).
        sketcher: how they are coded.

    Returns:
        The largest distance of a code from its sketch; 0 without rows.
    """
    kind, largest = record_type(sketcher), 0.0
    header = {
        "descr": np.lib.format.dtype_to_descr(kind),
        "fortran_order": False,
        "shape": (len(vectors),),
    }
    np.lib.format.write_array_header_1_0(stream, header)
    for _, rows in _blocks(vectors):
        with plain_float32():
            sketches = sketcher.sketches(rows, "cpu")
        codes = encode(sketches, sketcher.columns, sketcher.precision)
        largest = max(largest, float(codes.error.max()))
        stream.write(packed(codes, sketcher).tobytes())
    return largest


def _blocks(vectors: Matrix) -> Iterator[tuple[int, Vectors]]:
    for at in range(0, len(vectors), _ROWS):
        yield at, np.asarray(vectors[at : min(at + _ROWS, len(vectors))])


def open_codes(path: Path, count: int, sketcher: Sketcher) -> Records:
    """The codes of a part, memory-mapped: (count,).

    Raises:
        ValueError: the file is missing, damaged or of other codes.
    """
    try:
        records = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise ValueError(f"{path}: not readable as codes ({error})") from error
    if not isinstance(records, np.ndarray) or records.dtype != record_type(sketcher):
        raise ValueError(f"{path}: holds no codes of this sketch")
    if records.shape != (count,):
        raise ValueError(f"{path}: {records.shape} codes for {count} vectors")
    return records


def write_sketcher(stream: IO[bytes], sketcher: Sketcher) -> None:
    """Write a sketcher as `.npz`, equal ones in equal bytes."""
    arrays: dict[str, Any] = {
        "dim": np.int64(sketcher.dim),
        "precision": np.str_(sketcher.precision),
    }
    if sketcher.basis is not None:
        arrays["basis"] = sketcher.basis
    np.savez(stream, allow_pickle=False, **arrays)


def read_sketcher(path: Path) -> Sketcher:
    """Read a sketcher.

    Raises:
        ValueError: the file is missing or damaged, or its basis would not bound anything.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            dim, precision = int(arrays["dim"]), str(arrays["precision"])
            basis = arrays.get("basis")
    except _DAMAGE as error:
        raise ValueError(f"{path}: not readable as a sketch ({error})") from error
    kept = next((one for one in get_args(Precision) if one == precision), None)
    if kept is None or dim < 1:
        raise ValueError(f"{path}: a sketch of width {dim} in {precision!r}")
    if basis is not None and (
        basis.dtype != np.float32
        or basis.ndim != 2  # noqa: PLR2004
        or len(basis) != dim
        or not np.isfinite(basis).all()
        or np.linalg.norm(basis.astype(np.float64), 2) > 1
    ):
        raise ValueError(f"{path}: its basis is not (width, columns) of norm at most 1")
    return Sketcher(dim, basis, kept)


class _CodeFiles(Sequence[Any]):
    """Codes by part, each opened when it is asked for."""

    def __init__(self, sketcher: Sketcher, files: Sequence[Path], sizes: Sequence[int]) -> None:
        self._sketcher, self._files, self._sizes = sketcher, files, sizes

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, part: Any) -> Any:
        return open_codes(self._files[part], self._sizes[part], self._sketcher)


# --- searching -----------------------------------------------------------------------------------


class CodedItems:
    """Items of a join whose codes are read in place of their vectors.

    Args:
        sketcher: how they were coded.
        files: of codes, by part.
        parts: the stored vectors, of which only those of candidates are read.
        sizes: rows per part.

    Attributes:
        sketcher: as given.
        stored: the vectors under one numbering.
        count: how many there are.
    """

    def __init__(
        self,
        sketcher: Sketcher,
        files: Sequence[Path],
        parts: Sequence[Matrix],
        sizes: Sequence[int],
    ) -> None:
        self.sketcher = sketcher
        self.stored = Stored(parts, sizes)
        self.count = self.stored.count
        self._codes = Stored(_CodeFiles(sketcher, files, sizes), sizes)
        self._parts = parts
        self._open: tuple[int, Matrix] | None = None

    def plan(self, device: str = "cpu") -> Plan:
        """How queries are searched: in the fastest precision there that holds the codes.

        So int8 codes are of use on a machine whose int8 products are not to be trusted.
        """
        kept = self.sketcher.precision
        usable = [one for one in precisions(device) if one in _EXACT_IN[kept]]
        reason = f"codes of width {self.sketcher.width} in {kept}, multiplied in {usable[0]}"
        return Plan(replace(self.sketcher, precision=usable[0]), device, reason=reason)

    def blocks(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[Records]:
        """The records from `start` to `stop` in order, at most `size` at a time, part by part.

        Raises:
            ValueError: a file is damaged.
        """
        return self._codes.blocks(size, start, stop)

    def items(self, records: Records, start: int, plan: Plan) -> Items:
        """A block of records of one part, of which the first is of item number `start`.

        Raises:
            ValueError: the plan is of another sketch, or in a precision too narrow for the codes.
        """
        sketcher, kept = plan.sketcher, self.sketcher.precision
        if sketcher.basis is not self.sketcher.basis or sketcher.precision not in _EXACT_IN[kept]:
            raise ValueError("the plan is not one of these codes")
        codes = unpacked(records, kept, sketcher.precision, plan.device)
        return Items.coded(codes, lambda places: self._fetch(places + start), start)

    def _fetch(self, numbers: Numbers) -> Vectors:
        """Stored vectors of items of one part."""
        starts = self.stored.starts
        number = int(np.searchsorted(starts, numbers[0], side="right")) - 1
        if self._open is None or self._open[0] != number:
            self._open = number, self._parts[number]
        return rows_apart(self._open[1], numbers - int(starts[number]))


def rows_apart(part: Matrix, places: Numbers) -> Vectors:
    """Rows that lie far apart: (k, d); of a memory-mapped file only their pages are read.

    Untold, the kernel reads 128 KiB around each, and one after the other. All are asked for before
    the first is waited for.

    Args:
        part: (n, d).
        places: (k,) numbers of rows, at least one.
    """
    whole: mmap.mmap | None = getattr(part, "_mmap", None)
    if not isinstance(part, np.memmap) or whole is None or not part.flags.c_contiguous:
        return np.asarray(part[places])
    base, size = np.frombuffer(whole, np.uint8).ctypes.data, part.shape[1] * part.itemsize
    begin = np.sort(places) * size + (part.ctypes.data - base)
    first, last = begin // mmap.PAGESIZE, (begin + size - 1) // mmap.PAGESIZE
    cut = np.flatnonzero(first[1:] > last[:-1] + _GAP) + 1
    whole.madvise(mmap.MADV_RANDOM)
    for low, high in zip(first[[0, *cut]], last[[*(cut - 1), -1]], strict=True):
        at = int(low) * mmap.PAGESIZE
        length = min((int(high) + 1) * mmap.PAGESIZE, len(whole)) - at
        whole.madvise(mmap.MADV_WILLNEED, at, length)
    rows = np.asarray(part[places])
    whole.madvise(mmap.MADV_NORMAL)
    return rows


# --- comparing with the vectors ------------------------------------------------------------------


def unfounded(records: Records, vectors: Matrix, sketcher: Sketcher) -> Iterator[Numbers]:
    """Rows whose code does not bound their vector, as numbers of rows, block by block.

    A code is compared with the sketch of its vector, computed anew, by all that the certificate of
    `indices.sketch` rests on. So another machine's last bits are no difference, but every
    difference is one that could hide a pair.

    Args:
        records: (n,) codes.
        vectors: (n, d).
        sketcher: how they were coded.
    """
    for at, rows in _blocks(vectors):
        with plain_float32():
            sketches = sketcher.sketches(rows, "cpu").double().numpy()
        codes = unpacked(records[at : at + len(rows)], sketcher.precision, "fp32", "cpu")
        scale, error, norm = (one.numpy() for one in (codes.scale, codes.error, codes.norm))
        usable = sketches.any(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            code = codes.values.double().numpy() * scale[:, None]
            columns, spare = sketcher.columns, sketcher.slack
            off = np.linalg.norm(sketches[:, :columns] - code[:, :columns], axis=1)
            bounds = (off <= error + spare) & (np.linalg.norm(code[:, :columns], axis=1) <= norm)
            # residuals as squares, for one near zero moves by more than the sketch it belongs to
            rest = np.maximum(code[:, columns:], 0) ** 2
            bounds &= (rest >= sketches[:, columns:] ** 2 - 4 * spare).all(axis=1)
        sound = np.where(usable, bounds & (scale > 0), scale == 0)
        yield np.flatnonzero(~sound) + at
