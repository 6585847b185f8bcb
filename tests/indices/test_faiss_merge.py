"""Merged files against what faiss itself builds and writes in memory."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexing import filled, merged
from numpy.typing import NDArray

from indices import faiss_merge
from indices.faiss_fill import train
from indices.faiss_merge import OldIndex, write_merged
from indices.faiss_plan import KINDS, Kind, Plan
from indices.faiss_rows import note_error
from indices.scores import unit_rows
from indices.stored import Stored

faiss = pytest.importorskip("faiss")
Array = NDArray[np.floating]


def plan(kind: Kind, lists: int = 8) -> Plan:
    return Plan(kind, 0 if kind == "flat" else lists, 2, "")


def make_parts(seed: int, sizes: Sequence[int], dim: int = 6) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((size, dim)).astype(np.float16) for size in sizes]


def by_faiss(trained: Any, parts: Sequence[Array], error: float) -> bytes:
    index = faiss.clone_index(trained)
    for part in parts:
        index.add(unit_rows(part))
    if hasattr(index, "sq"):
        note_error(index, error)
    return bytes(faiss.serialize_index(index).tobytes())


SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(any)


@settings(deadline=None, max_examples=40)
@given(st.data(), SIZES, st.sampled_from(KINDS), st.integers(1, 2000))
def test_a_merged_file_is_byte_for_byte_what_faiss_writes(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    sizes: list[int],
    kind: Kind,
    window: int,
) -> None:
    parts = make_parts(data.draw(st.integers(0, 99)), sizes)
    lists = min(data.draw(st.integers(1, 40)), sum(sizes))
    trained = train(plan(kind, lists), Stored(parts), 6)
    sources, error = filled(tmp_path_factory.mktemp("runs"), trained, parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_merge, "_WINDOW_BYTES", window)
        assert merged(trained, sources, sum(sizes), error) == by_faiss(trained, parts, error)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_sources_does_not_matter(tmp_path: Path, kind: Kind) -> None:
    parts = make_parts(0, [30, 20, 50])
    trained = train(plan(kind), Stored(parts), 6)
    sources, error = filled(tmp_path, trained, parts)
    assert merged(trained, sources[::-1], 100, error) == merged(trained, sources, 100, error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 500, 1 << 20])
def test_parts_of_an_old_index_take_the_place_of_filled_ones(
    tmp_path: Path, kind: Kind, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts(1, [30, 0, 20, 50, 7])
    trained = train(plan(kind), Stored(parts), 6)
    sources, error = filled(tmp_path, trained, [parts[n] for n in (3, 0, 4)])
    old = faiss.deserialize_index(np.frombuffer(merged(trained, sources, 87, error), np.uint8))
    # part 4 is not taken over; parts 3 and 0 change places
    starts, moved = np.array([0, 50, 80, 87]), np.array([50, 0, -1])
    now, error = filled(tmp_path, trained, parts)
    expected = by_faiss(trained, parts, error)
    monkeypatch.setattr(faiss_merge, "_WINDOW_BYTES", window)
    taken = [now[1], OldIndex(old, starts, moved), now[2], now[4]]
    assert merged(trained, taken, 107, error) == expected


def test_merging_takes_memory_for_windows_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((20_000, 64)).astype(np.float32) for _ in range(5)]
    parts[2][:] = parts[2][0]  # one list is far larger than a window
    for kind in KINDS[:2]:
        trained = train(plan(kind, 50), Stored(parts), 64)
        sources, error = filled(tmp_path, trained, parts)
        with pytest.MonkeyPatch.context() as patch, (tmp_path / "out").open("wb") as stream:
            patch.setattr(faiss_merge, "_WINDOW_BYTES", 1 << 20)
            tracemalloc.start()
            write_merged(stream, trained, sources, 100_000, error)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 6_000_000
        index = faiss.read_index(str(tmp_path / "out"), faiss.IO_FLAG_MMAP_IFC)
        assert index.ntotal == 100_000
        (tmp_path / "out").unlink()


def test_a_merged_file_opens_from_anywhere_mapped_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts(2, [200, 100], 16)
    for kind in KINDS:
        trained = train(plan(kind), Stored(parts), 16)
        sources, error = filled(tmp_path / "runs", trained, parts)
        (tmp_path / "index.faiss").write_bytes(merged(trained, sources, 300, error))
        expected = faiss.deserialize_index(
            np.frombuffer(by_faiss(trained, parts, error), np.uint8)
        ).search(unit_rows(parts[0]), 4)
        for place, name in ((tmp_path, "index.faiss"), (Path("/"), str(tmp_path / "index.faiss"))):
            monkeypatch.chdir(place)
            for flag in (0, faiss.IO_FLAG_MMAP, faiss.IO_FLAG_MMAP_IFC):
                found = faiss.read_index(name, flag).search(unit_rows(parts[0]), 4)
                for got, wanted in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(got, wanted)


def test_the_recorded_error_comes_back_and_is_never_rounded_down(tmp_path: Path) -> None:
    parts = make_parts(3, [100])
    trained = train(plan("ivf-sq8"), Stored(parts), 6)
    sources, _ = filled(tmp_path, trained, parts)
    for error in (0.0, 0.1, 1 / 3, 1.5):
        data = merged(trained, sources, 100, error)
        index = faiss.deserialize_index(np.frombuffer(data, np.uint8))
        assert error < index.sq.rangestat_arg <= error * (1 + 1e-6) + 1e-40


def test_parts_that_are_lacking_or_damaged_stop_the_merge(tmp_path: Path) -> None:
    parts = make_parts(4, [40, 40])
    trained = train(plan("ivf"), Stored(parts), 6)
    sources, _ = filled(tmp_path, trained, parts)
    with pytest.raises(ValueError, match="40 rows for 80 items"):
        merged(trained, sources[:1], 80, 0.0)
    whole = sources[1].path.read_bytes()
    first_list, first_row = 24, 24 + 8 * 40
    for place, value in ((first_list, 200), (first_row, 41), (first_row + 7, 255)):
        sources[1].path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"1\.runs: damaged"):
            merged(trained, sources, 80, 0.0)
    sources[1].path.write_bytes(b"")
    with pytest.raises(ValueError, match="has not the 40 rows of its part"):
        merged(trained, sources, 80, 0.0)


def test_an_old_index_of_other_items_is_refused(tmp_path: Path) -> None:
    parts = make_parts(5, [40])
    trained = train(plan("ivf"), Stored(parts), 6)
    sources, _ = filled(tmp_path, trained, parts)
    old = faiss.deserialize_index(np.frombuffer(merged(trained, sources, 40, 0.0), np.uint8))
    with pytest.raises(ValueError, match="items that it was not built from"):
        OldIndex(old, np.array([0, 30]), np.array([0])).sizes()


def test_another_format_of_faiss_is_told(tmp_path: Path) -> None:
    parts = make_parts(6, [40])
    trained = train(plan("ivf"), Stored(parts), 6)
    sources, _ = filled(tmp_path, trained, parts)
    full = faiss.clone_index(trained)
    full.add(unit_rows(parts[0]))  # rows stand where an empty index ends
    with pytest.raises(ValueError, match="writes another format than is known here"):
        merged(full, sources, 40, 0.0)
