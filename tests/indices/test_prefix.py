"""Joins by stored codes: the pairs of a join by vectors, bit for bit, for a part of the reading."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_twins import DTYPES, SHAPES, assert_same, make_vectors, naive_join, split

from indices import exact, prefix
from indices.exact import join
from indices.planning import Plan
from indices.prefix import (
    CodedItems,
    open_codes,
    packed,
    read_sketcher,
    rows_apart,
    unfounded,
    unpacked,
    write_codes,
    write_sketcher,
)
from indices.sketch import Codes, Precision, Sketcher, directions, encode, turned

PRECISIONS = st.sampled_from(["int8", "bf16", "fp32"])


def sketcher_of(items: NDArray[np.floating], columns: int, precision: Precision) -> Sketcher:
    basis = turned(directions(items), columns) if columns and len(items) else None
    return Sketcher(items.shape[1], basis, precision)


def coded(folder: Path, parts: Sequence[NDArray[np.floating]], sketcher: Sketcher) -> CodedItems:
    files = [folder / f"{number}.npy" for number in range(len(parts))]
    for path, part in zip(files, parts, strict=True):
        with path.open("wb") as stream:
            write_codes(stream, part, sketcher)
    return CodedItems(sketcher, files, parts, [len(part) for part in parts])


@settings(deadline=None, max_examples=150)
@given(st.data(), SHAPES, st.tuples(DTYPES, DTYPES), PRECISIONS)
def test_a_join_by_codes_equals_two_loops(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    shape: str,
    types: tuple[str, str],
    precision: Precision,
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dim = data.draw(st.sampled_from([1, 2, 5, 40]))
    items = make_vectors(rng, data.draw(st.integers(1, 30)), dim, shape, types[1])
    queries = make_vectors(rng, data.draw(st.integers(0, 12)), dim, shape, types[0])
    if len(queries) and data.draw(st.booleans()):
        queries[:3] = items[rng.integers(0, len(items), len(queries[:3]))].astype(types[0])
    floor = data.draw(st.sampled_from([-1.0, 0.0, 0.5, 0.9, 1.0]))
    cap, nearest = data.draw(st.integers(1, 8)), data.draw(st.booleans())
    sketcher = sketcher_of(items, data.draw(st.integers(0, dim)), precision)
    parts = split(items, data.draw(st.lists(st.integers(0, 30), max_size=4)))
    held = coded(tmp_path_factory.mktemp("codes"), parts, sketcher)
    wider = [one for one in ("int8", "bf16", "fp32") if one in prefix._EXACT_IN[precision]]
    wanted: Precision = data.draw(st.sampled_from(wider))
    plan = Plan(Sketcher(dim, sketcher.basis, wanted))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "ITEM_BLOCK", data.draw(st.integers(1, 40)))
        patch.setattr(exact, "_CROWD", data.draw(st.sampled_from([0, 8])))
        patch.setattr(prefix, "_ROWS", data.draw(st.integers(1, 20)))
        found = join(queries, held, floor, cap=cap, plan=plan, nearest=nearest)
    assert_same(found, naive_join(queries, items, floor, cap, nearest=nearest))


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
@pytest.mark.parametrize("columns", [0, 30])
def test_real_widths_give_the_pairs_of_a_join_by_vectors(
    tmp_path: Path, precision: Precision, columns: int
) -> None:
    rng = np.random.default_rng(columns)
    spectrum = np.arange(1, 513) ** -0.5
    items = (rng.standard_normal((9000, 512)) * spectrum + 0.115).astype(np.float16)
    near = items[::30] + 0.2 * spectrum * rng.standard_normal((300, 512))
    queries = near.astype(np.float16)
    held = coded(tmp_path, split(items, [5000]), sketcher_of(items, columns, precision))
    found = join(queries, held, 0.9)
    assert found.count.sum() >= 200
    assert_same(found, join(queries, [items], 0.9))


def test_int8_codes_are_of_use_without_int8_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    items = make_vectors(rng, 500, 40, "clustered", "float16")
    held = coded(tmp_path, [items], sketcher_of(items, 10, "int8"))
    for ways in (("bf16", "fp32"), ("fp32",)):
        monkeypatch.setattr(prefix, "precisions", lambda _device, ways=ways: ways)
        assert held.plan().sketcher.precision == ways[0]
        found = join(items[:50], held, 0.9)
        assert found.count.sum() > 50
        assert_same(found, join(items[:50], [items], 0.9))


def test_a_plan_of_another_sketch_is_refused(tmp_path: Path) -> None:
    items = make_vectors(np.random.default_rng(2), 50, 8, "random", "float16")
    held = coded(tmp_path, [items], sketcher_of(items, 4, "bf16"))
    others = (Sketcher(8, None, "fp32"), Sketcher(8, held.sketcher.basis, "int8"))
    for sketcher in others:
        with pytest.raises(ValueError, match="not one of these codes"):
            join(items, held, 0.5, plan=Plan(sketcher))


# --- records -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 2**32), SHAPES, PRECISIONS, st.integers(0, 5))
def test_records_are_the_codes_bit_for_bit(
    seed: int, shape: str, precision: Precision, columns: int
) -> None:
    rows = make_vectors(np.random.default_rng(seed), 20, 5, shape, "float32")
    sketcher = sketcher_of(rows, columns, precision)
    codes = encode(sketcher.sketches(rows, "cpu"), sketcher.columns, precision)
    again = unpacked(packed(codes, sketcher), precision, precision, "cpu")
    for name in ("values", "scale", "error", "norm"):
        assert torch.equal(getattr(codes, name), getattr(again, name)), name


def test_bounds_are_rounded_up_and_a_scale_must_fit() -> None:
    sketcher = Sketcher(1, None, "int8")
    third = torch.tensor([1 / 3, 2 / 3, 1.0], dtype=torch.float64)
    one = torch.ones(3, dtype=torch.float64)
    values = torch.ones((3, 1), dtype=torch.int8)
    records = packed(Codes(values, one, third, third), sketcher)
    for name in ("error", "norm"):
        assert (records[name] >= third.numpy()).all()
        assert (np.nextafter(records[name], np.float32(0)) < third.numpy()).all()
    with pytest.raises(ValueError, match="not a float32"):
        packed(Codes(values, third, one, one), sketcher)


def test_a_file_of_codes_is_a_plain_matrix_of_records(tmp_path: Path) -> None:
    items = make_vectors(np.random.default_rng(3), 50, 40, "random", "float16")
    sketcher = sketcher_of(items, 14, "int8")
    coded(tmp_path, [items], sketcher)
    records = np.load(tmp_path / "0.npy")
    assert records["values"].shape == (50, 16)
    assert records["values"].dtype == np.int8
    assert records.dtype.itemsize == 16 + 12


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
@pytest.mark.parametrize("columns", [0, 14])
def test_a_sketch_is_read_back_and_equal_ones_have_equal_bytes(
    tmp_path: Path, precision: Precision, columns: int
) -> None:
    rows = make_vectors(np.random.default_rng(4), 100, 40, "random", "float32")
    sketcher = sketcher_of(rows, columns, precision)
    one, two = io.BytesIO(), io.BytesIO()
    write_sketcher(one, sketcher)
    write_sketcher(two, sketcher)
    assert one.getvalue() == two.getvalue()
    path = tmp_path / "sketch.npz"
    path.write_bytes(one.getvalue())
    again = read_sketcher(path)
    assert (again.dim, again.precision) == (40, precision)
    assert (again.basis is None) == (columns == 0)
    if sketcher.basis is not None and again.basis is not None:
        assert again.basis.tobytes() == sketcher.basis.tobytes()


# --- damage --------------------------------------------------------------------------------------


def test_damaged_codes_are_named(tmp_path: Path) -> None:
    items = make_vectors(np.random.default_rng(5), 50, 40, "random", "float16")
    sketcher = sketcher_of(items, 14, "int8")
    held = coded(tmp_path, [items], sketcher)
    path = tmp_path / "0.npy"
    whole = path.read_bytes()
    np.save(tmp_path / "other.npy", items)
    damages: list[tuple[bytes, str]] = [
        (whole[:-100], "not readable as codes"), (whole[:20], "not readable as codes"),
        (b"", "not readable as codes"), (b"PK\3\4 but no archive", "not readable as codes"),
        ((tmp_path / "other.npy").read_bytes(), "holds no codes of this sketch"),
    ]  # fmt: skip
    for data, said in damages:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"0\.npy: {said}"):
            join(items, held, 0.9)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"\(50,\) codes for 49 vectors"):
        open_codes(path, 49, sketcher)
    path.unlink()
    with pytest.raises(ValueError, match=r"0\.npy: not readable as codes"):
        join(items, held, 0.9)


def test_a_sketch_that_bounds_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sketch.npz"
    basis = np.eye(8, 4, dtype=np.float32)

    def write(**changed: Any) -> None:
        given = {"dim": np.int64(8), "precision": np.str_("int8"), "basis": basis, **changed}
        np.savez(path, **given)

    write()
    assert read_sketcher(path).width == 6
    wrong: dict[str, Any] = {"long": basis * 1.01, "nan": basis * np.nan, "wide": basis[:7],
                             "double": basis.astype(float), "flat": basis[:, 0]}  # fmt: skip
    for changed in wrong.values():
        write(basis=changed)
        with pytest.raises(ValueError, match=r"sketch\.npz: its basis"):
            read_sketcher(path)
    write(precision=np.str_("int4"))
    with pytest.raises(ValueError, match="in 'int4'"):
        read_sketcher(path)
    whole = path.read_bytes()
    for data in (b"", whole[:100], whole[:-30], whole.replace(b"\0\0\x80\x3f", b"\0\0\x81\x3f", 1)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"sketch\.npz: not readable"):
            read_sketcher(path)


# --- reading -------------------------------------------------------------------------------------

READS = """
import json, os, sys
from pathlib import Path
import numpy as np
from indices.prefix import rows_apart

def read():
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])

with open(sys.argv[1], "rb") as stream:
    os.fsync(stream.fileno())
    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
part = np.load(sys.argv[1], mmap_mode="r")
places = np.arange(0, len(part), 1000)
before = read()
rows = rows_apart(part, places)
print(json.dumps([read() - before, len(places), float(np.abs(rows - places[:, None]).max())]))
"""


def test_rows_that_lie_apart_are_read_and_little_else(tmp_path: Path) -> None:
    numbers = np.arange(50_000, dtype=np.float32)
    np.save(tmp_path / "part.npy", np.repeat(numbers[:, None], 256, axis=1))
    words = [sys.executable, "-c", READS, str(tmp_path / "part.npy")]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    read, count, off = json.loads(done.stdout)
    assert off == 0
    # a row lies on one page or two; read the usual way, the whole file of 51 MB comes along
    assert read <= count * 3 * 4096 + (1 << 18)


@given(st.lists(st.integers(0, 299), min_size=1, max_size=40), st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_rows_come_in_the_order_asked_for(
    tmp_path_factory: pytest.TempPathFactory, places: list[int], start: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.npy"
    rows = np.random.default_rng(6).standard_normal((350, 100)).astype(np.float16)
    np.save(path, rows)
    mapped = np.load(path, mmap_mode="r")[start:]
    for part in (mapped, rows[start:], np.asfortranarray(rows[start:])):
        np.testing.assert_array_equal(rows_apart(part, np.array(places)), rows[start:][places])


def test_only_candidates_are_read_of_the_vectors(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    items = make_vectors(rng, 20_000, 64, "random", "float16")
    asked: list[int] = []

    class Watched:
        shape, dtype = items.shape, items.dtype

        def __len__(self) -> int:
            return len(items)

        def __getitem__(self, rows: Any) -> Any:
            asked.extend(rows.tolist())
            return items[rows]

    sketcher = sketcher_of(items, 62, "int8")
    files = coded(tmp_path, [items], sketcher)
    held = CodedItems(sketcher, [tmp_path / "0.npy"], [Watched()], [20_000])
    found = join(items[100:120], held, 0.95)
    assert found.item.tolist() == list(range(100, 120))
    assert set(range(100, 120)) <= set(asked)
    assert len(asked) < 200
    assert_same(found, join(items[100:120], files, 0.95))


# --- comparing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
@pytest.mark.parametrize("columns", [0, 14, 40])
@pytest.mark.parametrize("shape", ["random", "odd", "tied"])
def test_sound_codes_have_no_difference_and_every_planted_one_is_found(
    tmp_path: Path, precision: Precision, columns: int, shape: str
) -> None:
    items = make_vectors(np.random.default_rng(8), 300, 40, shape, "float16")
    sketcher = sketcher_of(items, columns, precision)
    coded(tmp_path, [items], sketcher)

    def differing(records: NDArray[np.void]) -> list[int]:
        return [int(n) for rows in unfounded(records, items, sketcher) for n in rows]

    sound = np.load(tmp_path / "0.npy")
    assert differing(sound) == []
    usable = np.flatnonzero(sound["scale"] > 0)
    changes: list[tuple[str, Callable[[Any], Any]]] = [
        ("scale", lambda _: 0), ("scale", lambda x: x * 1.5), ("norm", lambda x: x * 0.9),
        ("error", lambda _: np.nan), ("values", lambda x: -x),
    ]  # fmt: skip
    for place, (name, change) in zip(usable[::7], changes, strict=False):
        altered = sound.copy()
        altered[name][place] = change(altered[name][place])
        if name == "norm" and columns and not sound["norm"][place]:
            continue
        assert differing(altered) == [place], name
    for place in np.flatnonzero(sound["scale"] == 0)[:1]:
        altered = sound.copy()
        altered["scale"][place] = 1
        assert differing(altered) == [place]
