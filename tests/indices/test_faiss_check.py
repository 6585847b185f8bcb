"""Planted differences between an index and its vectors are found, each by its item."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from indexing import build
from numpy.typing import NDArray

from indices import faiss_check
from indices.faiss_check import Differences, compare
from indices.faiss_plan import KINDS, Kind, Plan
from indices.faiss_rows import list_rows, note_error
from indices.scores import unit_rows
from indices.stored import Stored

faiss = pytest.importorskip("faiss")


@pytest.fixture
def parts() -> list[NDArray[np.floating]]:
    items = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float16)
    items[20] = 0
    items[450, 3] = np.nan
    return [items[:200], items[200:200], items[200:]]


def made(kind: Kind, parts: list[NDArray[np.floating]]) -> Any:
    return build(Plan(kind, 0 if kind == "flat" else 6, 6, ""), parts)


def numbers(found: Differences) -> dict[str, list[int]]:
    return {name: items.first.tolist() for name, items in vars(found).items() if items.count}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 1000, 1 << 26])
def test_an_index_is_what_its_vectors_make(
    parts: list[NDArray[np.floating]], kind: Kind, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_check, "_WINDOW_BYTES", window)
    seen: list[int] = []
    assert not numbers(compare(made(kind, parts), Stored(parts), seen.append))
    assert sum(seen) == 500


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("window", [1, 1 << 26])
def test_items_missing_twice_there_or_unknown_are_named(
    parts: list[NDArray[np.floating]], kind: Kind, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_check, "_WINDOW_BYTES", window)
    index, stored = made(kind, parts), Stored(parts)
    index.remove_ids(np.array([7, 300]))
    again = np.array([11, 12, 12, 900, -4])
    index.add_with_ids(unit_rows(stored.rows(again.clip(0, 499))), again)
    found = compare(index, stored)
    expected = {"missing": [7, 300], "repeated": [11, 12], "unknown": [-4, 900]}
    assert numbers(found) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_row_is_named(parts: list[NDArray[np.floating]], kind: Kind) -> None:
    index = made(kind, parts)
    number = 0 if kind == "flat" else 2
    items, codes = list_rows(index, number)
    victim = items[4]
    codes[4, -1] ^= 0xC0 if kind == "ivf-sq8" else 0x40
    assert numbers(compare(index, Stored(parts))) == {"altered": [victim]}


def test_a_row_that_was_swapped_for_another_one_is_named(
    parts: list[NDArray[np.floating]],
) -> None:
    index = made("ivf-sq8", parts)
    items, codes = list_rows(index, 1)
    codes[[0, 1]] = codes[[1, 0]]
    assert numbers(compare(index, Stored(parts))) == {"altered": sorted(items[:2])}


def test_a_row_of_no_direction_may_hold_anything(parts: list[NDArray[np.floating]]) -> None:
    index = made("flat", parts)
    _, codes = list_rows(index, 0)
    codes[20] = 7
    assert not numbers(compare(index, Stored(parts)))


def test_what_is_beyond_the_recorded_error_is_altered(parts: list[NDArray[np.floating]]) -> None:
    index = made("ivf-fp16", parts)
    note_error(index, 1e-7)
    assert compare(index, Stored(parts)).altered.count > 400


def test_a_flat_index_that_lost_a_row_differs_from_there_on(
    parts: list[NDArray[np.floating]],
) -> None:
    index = made("flat", parts)
    index.remove_ids(np.array([497]))
    assert numbers(compare(index, Stored(parts))) == {"altered": [497, 498], "missing": [499]}


def test_all_are_counted_and_the_first_are_listed() -> None:
    items = np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32)
    index = build(Plan("ivf", 3, 1, ""), [items])
    found = compare(index, Stored([items[::-1]]))
    assert found.altered.count == 3000
    assert found.altered.first.tolist() == list(range(1000))


def test_counting_what_is_missing_takes_memory_for_a_window_only(
    parts: list[NDArray[np.floating]],
) -> None:
    index = made("ivf", parts)
    index.reset()
    tracemalloc.start()
    found = compare(index, Stored([], [5_000_000]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.missing.count == 5_000_000
    assert numbers(found) == {"missing": list(range(1000))}
    assert peak < 20_000_000  # of which one byte per item


def test_vectors_of_another_width_cannot_be_compared(parts: list[NDArray[np.floating]]) -> None:
    with pytest.raises(ValueError, match="vectors of width 15, the index has 16"):
        compare(made("flat", parts), Stored([part[:, :15] for part in parts]))


def test_comparing_takes_memory_for_a_window_only(monkeypatch: pytest.MonkeyPatch) -> None:
    items = np.random.default_rng(0).standard_normal((100_000, 64)).astype(np.float32)
    index = build(Plan("ivf", 20, 1, ""), [items])
    monkeypatch.setattr(faiss_check, "_WINDOW_BYTES", 1 << 18)
    tracemalloc.start()
    assert not numbers(compare(index, Stored([items])))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
