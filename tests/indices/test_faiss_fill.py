"""Training, and filling parts into runs."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from indices import faiss_fill
from indices.faiss_fill import Filler, Run, read_runs, train, write_runs
from indices.faiss_plan import KINDS, Kind, Plan
from indices.faiss_rows import decoded, distances
from indices.scores import unit_rows
from indices.stored import Stored

faiss = pytest.importorskip("faiss")
Array = NDArray[np.floating]


def plan(kind: Kind, lists: int = 8) -> Plan:
    return Plan(kind, 0 if kind == "flat" else lists, 2, "")


@pytest.fixture(scope="module")
def vectors() -> Array:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((3000, 16)).astype(np.float16)
    items[5] = 0
    items[7, 3] = np.inf
    items[9, 2] = np.nan
    return items


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_says_of_every_row_where_it_belongs_and_what_it_is(
    vectors: Array, kind: Kind
) -> None:
    trained = train(plan(kind), Stored([vectors]), 16)
    (run,) = Filler(trained).runs(vectors)
    units = unit_rows(vectors)
    assert trained.ntotal == 0
    assert sorted(run.rows) == list(range(3000))
    assert (np.diff(run.lists) >= 0).all()
    assert (np.diff(run.rows)[np.diff(run.lists) == 0] > 0).all()
    if kind != "flat":
        _, near = trained.quantizer.search(units, 1)
        np.testing.assert_array_equal(run.lists, near[run.rows, 0])
    off = distances(units[run.rows], decoded(trained, run.codes))
    usable = units[run.rows].any(axis=1)
    assert off[usable].max() == run.error
    assert usable.sum() == 2997
    expected = {"flat": (0, 0), "ivf": (0, 0), "ivf-fp16": (1e-5, 5e-4), "ivf-sq8": (1e-3, 0.02)}
    low, high = expected[kind]
    assert low <= run.error <= high


def test_rows_far_outside_of_the_sample_are_cut_off_and_the_error_says_so(vectors: Array) -> None:
    trained = train(plan("ivf-sq8"), Stored([vectors[10:] + np.float16(9)]), 16)
    (run,) = Filler(trained).runs(-vectors[:1] - np.float16(9))
    assert run.error > 1


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    wide = np.random.default_rng(1).standard_normal((6000, 96)).astype(np.float32)
    filler = Filler(train(plan("ivf-sq8", 300), Stored([wide]), 96))
    threads = faiss.omp_get_max_threads()
    found = []
    for number in (1, 2, 4):
        faiss.omp_set_num_threads(number)
        (run,) = filler.runs(wide)
        found.append(run)
        assert faiss.omp_get_max_threads() == number
    faiss.omp_set_num_threads(threads)
    for run in found[1:]:
        np.testing.assert_array_equal(run.lists, found[0].lists)
        np.testing.assert_array_equal(run.codes, found[0].codes)


def test_a_large_part_becomes_runs_of_bounded_size(
    vectors: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler = Filler(train(plan("ivf"), Stored([vectors]), 16))
    (whole,) = filler.runs(vectors)
    monkeypatch.setattr(faiss_fill, "_RUN_BYTES", 64 * 1000)
    runs = list(filler.runs(vectors))
    assert [len(run.rows) for run in runs] == [1000, 1000, 1000]
    order = np.argsort(np.concatenate([run.rows for run in runs]))
    lists = np.concatenate([run.lists for run in runs])[order]
    np.testing.assert_array_equal(lists, whole.lists[np.argsort(whole.rows)])


def test_filling_takes_memory_for_a_run_only(tmp_path: Path) -> None:
    path = tmp_path / "part.npy"
    np.save(path, np.random.default_rng(0).random((400_000, 64)).astype(np.float16))
    trained = train(plan("ivf-sq8", 4), Stored([np.load(path)[:1000]]), 64)
    part = np.load(path, mmap_mode="r")
    with pytest.MonkeyPatch.context() as patch, (tmp_path / "runs").open("wb") as stream:
        patch.setattr(faiss_fill, "_RUN_BYTES", 1 << 20)
        patch.setattr(faiss_fill, "_BLOCK_BYTES", 1 << 20)
        tracemalloc.start()
        write_runs(stream, Filler(trained).runs(part))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "runs").stat().st_size > 30_000_000
    assert peak < 12_000_000


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [
        Run(np.arange(n), rng.permutation(n), rng.integers(256, size=(n, 5), dtype=np.uint8), e)
        for n, e in ((3, 0.25), (1, 0.5), (9, 0.125))
    ]
    with (tmp_path / "runs").open("wb") as stream:
        assert write_runs(stream, iter(runs)) == 0.5
    for read, written in zip(read_runs(tmp_path / "runs", 5), runs, strict=True):
        for name in ("lists", "rows", "codes"):
            np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    (tmp_path / "none").touch()
    assert read_runs(tmp_path / "none", 5) == []


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "width", "count"])
def test_a_damaged_file_of_runs_is_named(tmp_path: Path, damage: str) -> None:
    run = Run(np.arange(4), np.arange(4), np.zeros((4, 8), np.uint8), 0.0)
    path = tmp_path / "part_000003.runs"
    with path.open("wb") as stream:
        write_runs(stream, iter([run]))
    data = path.read_bytes()
    changed = {
        "cut": data[:-1], "longer": data + b"more", "header": b"x" + data[1:],
        "width": data[:16] + b"\7" + data[17:], "count": data[:15] + b"\xff" + data[16:],
    }  # fmt: skip
    path.write_bytes(changed[damage])
    with pytest.raises(ValueError, match=r"part_000003\.runs: damaged"):
        read_runs(path, 8)


def test_the_sample_is_drawn_evenly_in_order_and_without_repetition() -> None:
    items = np.arange(1.0, 1001)[:, None] * [[1.0, 0.0]] + [[0.0, 1000.0]]
    parts = np.split(items, [0, 10, 10, 600])
    sample = faiss_fill._sample(Stored(parts), Plan("ivf", 2, 1, ""), 3)
    assert sample.shape == (128, 2)
    slope = sample[:, 0] / sample[:, 1]
    assert (np.diff(slope) > 0).all()
    assert 40 < (slope > 0.6).sum() < 65
    assert len(faiss_fill._sample(Stored(parts), Plan("ivf", 200, 1, ""), 3)) == 1000


def test_rows_without_direction_are_not_trained_on_unless_little_else_is_there() -> None:
    items = np.ones((100, 2))
    items[::2] = 0
    assert len(faiss_fill._sample(Stored([items]), Plan("ivf", 50, 1, ""), 0)) == 50
    assert len(faiss_fill._sample(Stored([items]), Plan("ivf", 51, 1, ""), 0)) == 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_without_any_direction_can_be_filled(
    kind: Kind, capfd: pytest.CaptureFixture[str]
) -> None:
    nothing = np.zeros((50, 8), np.float16)
    (run,) = Filler(train(plan(kind, 3), Stored([nothing]), 8)).runs(nothing)
    assert (run.error, len(run.rows)) == (0.0, 50)
    assert capfd.readouterr().err == ""


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_trains_and_fills_as_well(vectors: Array, kind: Kind) -> None:
    if faiss.get_num_gpus() == 0:
        pytest.skip("this faiss sees no GPU")
    trained = train(plan(kind), Stored([vectors]), 16)
    assert "Gpu" not in type(trained).__name__
    (run,) = Filler(trained).runs(vectors)
    units = unit_rows(vectors)[run.rows]
    if kind != "flat":
        _, near = trained.quantizer.search(units, 1)
        assert (run.lists == near[:, 0]).mean() > 0.99  # but for near ties
