"""The prefix store: exact pairs by codes, its folder, growth, interruptions, refusals."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from made_up import ENCODER, embeddings, random_parts
from numpy.typing import NDArray
from slow_twins import assert_same, naive_join

from curate import artifacts, prefix
from curate.artifacts import verify_all
from curate.errors import CurateError, PartialRunError
from curate.index import Index, build_index, open_index
from curate.index_use import check_index, describe, search_index, slowed
from curate.matches import MatchSettings, match
from curate.parts import Embeddings
from curate.prefix import build_prefix, coded_items, codes_path, read_sketch
from curate.units import Outcome, run_in_process
from indices.exact import join

SIZES = [300, 0, 200, 100]
DIM = 48


def clip_like(seed: int, sizes: Sequence[int] = SIZES) -> list[NDArray[np.floating]]:
    """Parts whose vectors a few leading directions nearly hold."""
    rng = np.random.default_rng(seed)
    spectrum = 1.0 / np.arange(1, DIM + 1)
    made = [rng.standard_normal((size, DIM)) * spectrum for size in sizes]
    return [rows.astype(np.float16) for rows in made]


@pytest.fixture
def train(tmp_path: Path) -> Embeddings:
    return embeddings(tmp_path / "train", clip_like(0))


@pytest.fixture
def test_side(train: Embeddings, tmp_path: Path) -> Embeddings:
    found = np.concatenate([train.vectors(2)[5:9], *clip_like(1, [20])])  # type: ignore[index]
    return embeddings(tmp_path / "test", [found, found[:3]])


def tree(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def rows(side: Embeddings) -> NDArray[np.floating]:
    return np.concatenate([np.asarray(part) for part in side.view_parts()])


def test_a_join_by_a_store_gives_the_pairs_of_two_loops(
    train: Embeddings, test_side: Embeddings, tmp_path: Path
) -> None:
    index = build_prefix(train, tmp_path / "store", threshold=0.99)
    assert read_sketch(index.root).basis is not None
    queries = rows(test_side)[2:6]
    for floor in (0.99, 0.9):
        found = join(queries, coded_items(index, train), floor, cap=50)
        assert found.count.sum() >= 2
        assert_same(found, naive_join(queries, rows(train), floor, 50))


def test_matches_by_a_store_are_those_of_an_exact_join_and_say_so(
    train: Embeddings, test_side: Embeddings, tmp_path: Path
) -> None:
    index, seen = build_prefix(train, tmp_path / "store", threshold=0.99), list[int]()
    for name, settings in {
        "a": MatchSettings(0.99),
        "b": MatchSettings(0.99, nearest=True),
    }.items():
        exact = match(test_side, train, settings, tmp_path / f"exact-{name}")
        coded = match(
            test_side, train, settings, tmp_path / f"coded-{name}", index=index,
            on_part=seen.append,
        )  # fmt: skip
        for table in ("pairs.parquet", "nearest.parquet"):
            assert (coded.root / table).read_bytes() == (exact.root / table).read_bytes()
        assert coded.manifest.config["search"] == {"exact": {"prefix": index.manifest.config}}
        assert {"name": "index", "sha256": index.manifest.id} in coded.manifest.inputs
    assert sum(seen) == 2 * train.count


def test_a_search_by_a_store_is_exact_with_a_floor_and_without(
    train: Embeddings, test_side: Embeddings, tmp_path: Path
) -> None:
    index = build_prefix(train, tmp_path / "store", threshold=0.99)
    names, queries = ["a", "b", "c"], rows(test_side)[3:6]
    found = search_index(index, train, names, queries, floor=0.95, top=5)
    expected = naive_join(queries, rows(train), 0.95, 5)
    assert found["item"].to_list() == expected.item.tolist()
    assert found["score"].to_list() == expected.score.tolist()
    nearest = search_index(index, train, names, queries, top=2)
    expected = naive_join(queries, rows(train), -1, 2)
    assert nearest["item"].to_list() == expected.item.tolist()
    with pytest.raises(CurateError, match=r"--probes 3: .* without lists"):
        search_index(index, train, names, queries, floor=0.9, probes=3)


def test_less_than_it_was_made_for_is_said_to_take_longer(
    train: Embeddings, test_side: Embeddings, tmp_path: Path
) -> None:
    index, queries = build_prefix(train, tmp_path / "store", threshold=0.99), rows(test_side)
    assert slowed(index, train, queries, 0.99) is None
    assert slowed(index, train, queries, None) is None
    note = slowed(index, train, queries, 0.5)
    assert note is not None
    assert "made for cosines from 0.99 on; at 0.5 still exact, but 1 pair in" in note
    assert slowed(index, train, queries[:0], 0.5) is None


def test_a_store_says_what_it_holds_and_what_it_is_expected_to_gain(
    train: Embeddings, tmp_path: Path
) -> None:
    index = build_prefix(train, tmp_path / "store", threshold=0.99)
    described = describe(index)
    sketcher = read_sketch(index.root)
    assert described["width"] == sketcher.width
    assert described["precision"] == sketcher.precision
    size = np.load(codes_path(index.root, 0)).dtype.itemsize
    assert described["bytes_per_item"] == size == index.manifest.counts["bytes_per_item"]
    assert described["vector_bytes_per_item"] == 2 * DIM
    assert described["predicted_ratio"] > 0
    assert (described["vectors"], described["threshold"]) == (600, 0.99)
    assert open_index(index.root).is_prefix
    assert not build_index(train, tmp_path / "flat").is_prefix


def test_the_floor_of_the_detector_is_what_a_store_is_made_for_unless_told(tmp_path: Path) -> None:
    encoder = {**ENCODER, "name": "open_clip:ViT-B-32/openai"}
    side = embeddings(tmp_path / "side", random_parts(0, [20]), encoder=encoder)
    assert build_prefix(side, tmp_path / "store").manifest.config["threshold"] == 0.85


# --- comparing with the vectors ------------------------------------------------------------------


def alter(path: Path, name: str, place: int | slice, value: float) -> None:
    records = np.load(path)
    records[name][place] = value
    np.save(path, records)


def test_codes_that_do_not_bound_their_vectors_are_named(train: Embeddings, tmp_path: Path) -> None:
    index, seen = build_prefix(train, tmp_path / "store"), list[int]()
    assert check_index(index, train, seen.append) == []
    assert sum(seen) == 600
    alter(codes_path(index.root, 0), "scale", 7, 0)
    alter(codes_path(index.root, 2), "norm", 3, 0)
    (said,) = check_index(index, train)
    assert said == "2 altered: train-0:k7 (item 7), train-2:k3 (item 303)"
    alter(codes_path(index.root, 0), "scale", slice(None), 0)
    (said,) = check_index(index, train)
    assert said.startswith("301 altered: train-0:k0 (item 0)")
    assert said.endswith(" and 281 more")


def test_of_very_many_altered_codes_all_are_counted_and_the_first_are_kept(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "side", clip_like(0, [700, 600]))
    index = build_prefix(side, tmp_path / "store")
    for part in (0, 1):
        alter(codes_path(index.root, part), "scale", slice(None), 0)
    found = prefix.check_prefix(index, side)
    assert (found.count, found.first.tolist()) == (1300, list(range(1000)))


def test_damage_is_told_with_the_file_and_the_remedy(train: Embeddings, tmp_path: Path) -> None:
    index = build_prefix(train, tmp_path / "store")
    path = codes_path(index.root, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(CurateError, match=r"part_000002\.npy: missing or of another size; build"):
        coded_items(index, train)
    with pytest.raises(CurateError, match=r"part_000002\.npy: not readable as codes .*; build the"):
        check_index(index, train)
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(CurateError, match=r"part_000002\.npy: not readable as codes .*; build the"):
        match(train, train, MatchSettings(0.9), tmp_path / "matches", index=index)
    path.write_bytes(whole)
    sketch = index.root / prefix.SKETCH_FILE
    data = bytearray(sketch.read_bytes())
    data[len(data) // 2] ^= 1
    sketch.write_bytes(data)
    with pytest.raises(CurateError, match=r"sketch\.npz: altered .*; build the store again"):
        coded_items(index, train)
    with pytest.raises(CurateError, match=r"sketch\.npz: not readable as a sketch"):
        read_sketch(index.root)


def test_a_store_of_other_vectors_is_refused(train: Embeddings, tmp_path: Path) -> None:
    index = build_prefix(train, tmp_path / "store")
    other = embeddings(tmp_path / "other", clip_like(5))
    with pytest.raises(CurateError, match="built from other vectors than"):
        coded_items(index, other)
    with pytest.raises(CurateError, match="built from other vectors than"):
        match(other, other, MatchSettings(0.9), tmp_path / "matches", index=index)


# --- building ------------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_folder_and_a_finished_one_is_used_again(
    train: Embeddings, tmp_path: Path
) -> None:
    seen: list[int] = []
    one = build_prefix(train, tmp_path / "one", on_part=seen.append)
    two = build_prefix(train, tmp_path / "two")
    assert seen == SIZES
    assert one.manifest.to_json() == two.manifest.to_json()
    assert verify_all([one.root, train.root]) == []
    time = codes_path(one.root, 0).stat().st_mtime_ns
    assert build_prefix(train, tmp_path / "one").manifest.id == one.manifest.id
    assert codes_path(one.root, 0).stat().st_mtime_ns == time
    other = build_prefix(train, tmp_path / "one", threshold=0.99)
    assert other.manifest.key != one.manifest.key


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_byte(train: Embeddings, tmp_path: Path, threads: int) -> None:
    before = torch.get_num_threads()
    index = build_prefix(train, tmp_path / "one")
    torch.set_num_threads(threads)
    try:
        (path,) = tmp_path.glob("one")
        unit = prefix.CodeUnit(train, 0, None, str(tmp_path / "again"), "-")
        (tmp_path / "again").mkdir()
        (tmp_path / "again" / prefix.SKETCH_FILE).write_bytes(
            (path / prefix.SKETCH_FILE).read_bytes()
        )
        prefix.code_unit(unit)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert codes_path(tmp_path / "again", 0).read_bytes() == codes_path(index.root, 0).read_bytes()


def test_what_cannot_be_built_is_told(train: Embeddings, tmp_path: Path) -> None:
    empty = embeddings(tmp_path / "empty", random_parts(1, [0]))
    with pytest.raises(CurateError, match="empty: there is no vector to code"):
        build_prefix(empty, tmp_path / "store")
    for threshold in (0, 1.5, float("nan")):
        with pytest.raises(CurateError, match=r"--threshold .*: a cosine above 0"):
            build_prefix(train, tmp_path / "store", threshold=threshold)
    assert not (tmp_path / "store").exists()


def test_rows_without_direction_match_nothing_and_break_nothing(tmp_path: Path) -> None:
    odd = clip_like(3, [40])[0]
    odd[::5], odd[1::5, 0], odd[2::5, 3] = 0, np.nan, np.inf
    side = embeddings(tmp_path / "side", [odd, np.zeros_like(odd)])
    index = build_prefix(side, tmp_path / "store", threshold=0.9)
    assert check_index(index, side) == []
    found = join(odd[3:5], coded_items(index, side), -1.0)
    assert_same(found, naive_join(odd[3:5], rows(side), -1.0, 1000))


def test_a_damaged_part_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "side", clip_like(0))
    path = side.root / "img_emb/img_emb_000003.npy"
    whole, coded = path.read_bytes(), list[int]()
    plan = build_prefix(side, tmp_path / "first", threshold=0.95)

    def spoiling(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        path.write_bytes(whole[:200])
        yield from run_in_process(function, units)

    with pytest.raises(PartialRunError, match=r"1 of 4 units failed.*\n.*img_emb_000003\.npy"):
        build_prefix(side, tmp_path / "store", threshold=0.95, run_units=spoiling)
    path.write_bytes(whole)

    def counting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        coded.extend(unit.part for unit in units)
        yield from run_in_process(function, reversed(units))

    again = build_prefix(side, tmp_path / "store", threshold=0.95, run_units=counting)
    assert coded == [3]
    assert tree(again.root) == tree(plan.root)


# --- growing -------------------------------------------------------------------------------------


def test_an_extended_store_codes_what_is_new_and_holds_everything(
    train: Embeddings, tmp_path: Path
) -> None:
    parts, coded = clip_like(0), list[int]()
    index = build_prefix(train, tmp_path / "store", threshold=0.97)
    before = codes_path(index.root, 2).read_bytes()
    more = embeddings(tmp_path / "more", [*clip_like(9, [50]), parts[2], parts[0]])

    def counting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        coded.extend(unit.part for unit in units)
        yield from run_in_process(function, units)

    grown = build_prefix(more, index.root, extend=True, run_units=counting)
    assert coded == [0]
    assert codes_path(grown.root, 1).read_bytes() == before
    assert grown.manifest.config == index.manifest.config
    assert describe(grown)["added_since"] == -50
    assert check_index(grown, more) == []
    assert verify_all([grown.root, more.root]) == []
    assert not list(grown.root.parent.glob(".store*"))
    found = join(rows(more)[48:52], coded_items(grown, more), 0.97, cap=9)
    assert_same(found, naive_join(rows(more)[48:52], rows(more), 0.97, 9))


def test_what_cannot_be_extended_is_told(train: Embeddings, tmp_path: Path) -> None:
    out = tmp_path / "store"
    with pytest.raises(CurateError, match="no index is there to extend"):
        build_prefix(train, out, extend=True)
    index = build_prefix(train, out, threshold=0.97)
    with pytest.raises(CurateError, match=r"made for 0\.97; leave --threshold away"):
        build_prefix(train, out, threshold=0.9, extend=True)
    with pytest.raises(CurateError, match="a prefix store, which --kind prefix extends"):
        build_index(train, out, extend=True)
    codes_path(index.root, 0).unlink()
    with pytest.raises(CurateError, match=r"part_000000\.npy: missing"):
        build_prefix(train, out, extend=True)
    build_index(train, tmp_path / "flat", kind="flat")
    with pytest.raises(CurateError, match=r"keeps the index what it is \(flat\)"):
        build_prefix(train, tmp_path / "flat", extend=True)


# --- interruptions -------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from curate import artifacts, prefix
from curate.parts import open_embeddings
from indices import prefix as arrays

train, out, moment, extend = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "1"
arrays._ROWS = 64

def after(owner, name, calls):
    original, left = getattr(owner, name), [calls]
    def run(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)
    setattr(owner, name, run)

after(*{
    "sketching": (arrays, "write_sketcher", 0),
    "coding": (arrays, "packed", 2),
    "noting": (prefix, "write_json", 2),
    "committing": (artifacts, "commit", 0),
    "replacing": (artifacts, "sync_folder", 1),
}[moment])
threshold = None if extend else 0.97
prefix.build_prefix(open_embeddings(train), out, threshold=threshold, extend=extend)
"""


@pytest.mark.parametrize("extend", [False, True])
@pytest.mark.parametrize("moment", ["sketching", "coding", "noting", "committing", "replacing"])
def test_a_killed_build_goes_on_to_the_same_bytes(
    tmp_path: Path, moment: str, extend: bool
) -> None:
    parts = clip_like(10)
    small = embeddings(tmp_path / "small", parts[:1], name="side")
    side = embeddings(tmp_path / "side", parts)
    threshold = None if extend else 0.97
    for name in ("whole", "killed"):
        if extend:
            build_prefix(small, tmp_path / name / "store", threshold=0.97)
        (tmp_path / name).mkdir(exist_ok=True)
    build_prefix(side, tmp_path / "whole" / "store", threshold=threshold, extend=extend)
    out = tmp_path / "killed" / "store"
    words = [sys.executable, "-c", KILLED, side.root, out, moment, str(int(extend))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    build_prefix(side, out, threshold=threshold, extend=extend)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_only_a_store_is_opened_as_one(train: Embeddings, tmp_path: Path) -> None:
    index = build_prefix(train, tmp_path / "store")
    again: Index = open_index(index.root)
    assert again.embeddings_id == train.manifest.id
    with pytest.raises(CurateError, match="no such file"):
        open_index(tmp_path / "nothing")
    assert artifacts.finished(index.root, index.manifest.key) is not None
    assert pl.Series([again.manifest.counts["parts"]]).to_list() == [4]
