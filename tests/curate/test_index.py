"""The index artifact: what is in the folder, reuse, growth, interruptions, and what is refused."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_up import ENCODER, embeddings, random_parts

from curate import artifacts, tables
from curate.artifacts import verify_all
from curate.errors import CurateError, GateError, PartialRunError
from curate.index import IDS_FILE, INDEX_FILE, build_index, open_index, require_faiss
from curate.index_use import check_index
from curate.parts import Embeddings
from curate.recall import RecallSettings, check_recall
from curate.units import Outcome, run_in_process
from indices.faiss_plan import KINDS, Kind
from indices.scores import unit_rows

faiss = pytest.importorskip("faiss")


SIZES = [30, 0, 60, 25, 10]


def tree(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def train(tmp_path: Path) -> Embeddings:
    return embeddings(tmp_path / "train", random_parts(0, [3, 0, 60]), failed={0: [1]})


def test_the_ids_tell_of_every_vector_whose_and_where_it_is(
    train: Embeddings, tmp_path: Path
) -> None:
    index = build_index(train, tmp_path / "index")
    ids = tables.read_table(index.root / IDS_FILE, tables.IDS)
    assert ids["item"].to_list() == list(range(63))
    assert ids["id"].to_list() == train.all_metadata()["id"].to_list()
    assert ids["id"][:4].to_list() == ["train-0:k0", "train-0:k2", "train-0:k3", "train-2:k0"]
    plain = faiss.read_index(str(index.root / INDEX_FILE))
    for item, part, row in ids.select("item", "part", "row").rows():
        vector = unit_rows(train.vectors(part))[row]
        np.testing.assert_array_equal(plain.reconstruct(item), vector)


def test_a_finished_index_is_used_again_and_another_kind_is_built_anew(
    train: Embeddings, tmp_path: Path
) -> None:
    first = build_index(train, tmp_path / "index", kind="flat")
    time = (first.root / INDEX_FILE).stat().st_mtime_ns
    again = build_index(train, tmp_path / "index", kind="flat")
    assert again.manifest.id == first.manifest.id
    assert (again.root / INDEX_FILE).stat().st_mtime_ns == time
    other = build_index(train, tmp_path / "index", kind="ivf")
    assert (other.manifest.config["kind"], first.manifest.config["kind"]) == ("ivf", "flat")
    assert other.manifest.id != first.manifest.id
    assert type(other.load()).__name__ == "IndexIVFFlat"


def test_the_same_input_gives_the_same_folder_byte_for_byte(
    train: Embeddings, tmp_path: Path
) -> None:
    for kind in KINDS:
        one = build_index(train, tmp_path / "one", kind=kind, seed=3)
        two = build_index(train, tmp_path / "two", kind=kind, seed=3)
        assert one.manifest.to_json() == two.manifest.to_json()
        assert one.embeddings_id == train.manifest.id
    assert verify_all([one.root, train.root]) == []


def test_progress_is_told_by_part(train: Embeddings, tmp_path: Path) -> None:
    seen: list[int] = []
    build_index(train, tmp_path / "index", on_part=seen.append)
    assert seen == [3, 0, 60]


def test_there_must_be_something_to_index_and_a_seed_faiss_can_take(
    train: Embeddings, tmp_path: Path
) -> None:
    empty = embeddings(tmp_path / "empty", random_parts(1, [0]))
    with pytest.raises(CurateError, match="empty: there is no vector to index"):
        build_index(empty, tmp_path / "index")
    for seed in (-1, 2**31):
        with pytest.raises(CurateError, match=f"--seed {seed}: a number from 0"):
            build_index(train, tmp_path / "index", seed=seed)
    assert not (tmp_path / "index").exists()


def test_a_damaged_index_says_to_build_it_again(train: Embeddings, tmp_path: Path) -> None:
    index = build_index(train, tmp_path / "index")
    (index.root / INDEX_FILE).write_bytes(b"IxFI")
    with pytest.raises(CurateError, match=r"index\.faiss: faiss cannot read it .*; build the"):
        index.load()


def test_only_an_index_folder_is_opened(train: Embeddings, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="holds embeddings, not an index"):
        open_index(train.root)
    with pytest.raises(CurateError, match="no such file"):
        open_index(tmp_path / "nothing")


def test_without_faiss_the_ways_to_get_it_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(CurateError, match=r"pip install 'curate\[cpu\]'"):
        require_faiss()


def test_damaged_ids_stop_the_build(train: Embeddings, tmp_path: Path) -> None:
    path = train.root / "metadata/metadata_000002.parquet"
    tables.write_table(path, pl.DataFrame(schema=tables.METADATA), tables.METADATA)
    with pytest.raises(CurateError, match="0 rows for 60 vectors"):
        build_index(train, tmp_path / "index")
    assert not list(artifacts.artifacts(tmp_path / "index"))


# --- choosing ------------------------------------------------------------------------------------


def test_the_plan_and_what_it_was_trained_on_stand_in_the_manifest(
    train: Embeddings, tmp_path: Path
) -> None:
    config = build_index(train, tmp_path / "i", kind="ivf-sq8", seed=5).manifest.config
    assert (config["kind"], config["lists"], config["seed"]) == ("ivf-sq8", 1, 5)
    assert config["reason"].startswith(
        "63 vectors (772 bytes): 1 lists, of which a search visits 1"
    )
    expected = {"embeddings": train.manifest.id, "vectors": 63, "sample": 63}
    assert config["trained_on"] == expected


def test_memory_decides_and_what_does_not_fit_is_told(train: Embeddings, tmp_path: Path) -> None:
    assert build_index(train, tmp_path / "i", memory=1000).manifest.config["kind"] == "ivf-sq8"
    with pytest.raises(
        CurateError, match=r"as ivf-sq8, 100 bytes are allowed. Allow more with --mem"
    ):
        build_index(train, tmp_path / "i", memory=100)


def test_the_largest_error_stands_in_the_manifest(train: Embeddings, tmp_path: Path) -> None:
    found = {}
    for kind in KINDS:
        index = build_index(train, tmp_path / kind, kind=kind)
        found[kind] = index.manifest.counts["largest_error"]
        if kind not in ("flat", "ivf"):
            assert 0 < found[kind] <= index.load().sq.rangestat_arg
    assert found["flat"] == found["ivf"] == 0 < found["ivf-fp16"] < found["ivf-sq8"] < 0.1


# --- any number of workers, parts that fail ------------------------------------------------------


def test_parts_may_be_filled_in_any_order_and_twice(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "train", random_parts(3, SIZES))

    def wild(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in (*units[::-1], *units[:2]):
            yield from run_in_process(function, [unit])

    for kind in KINDS:
        build_index(side, tmp_path / "one" / "index", kind=kind)
        build_index(side, tmp_path / "two" / "index", kind=kind, run_units=wild)
        assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_damaged_part_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "train", random_parts(3, SIZES))
    expected = build_index(side, tmp_path / "whole", kind="flat").manifest.id
    path = side.root / "img_emb" / "img_emb_000002.npy"
    whole = path.read_bytes()
    wide = np.zeros((60, 5), np.float16)
    np.save(tmp_path / "wide.npy", wide)
    for damage, said in (
        (whole[:-9], "not readable as vectors"),
        ((tmp_path / "wide.npy").read_bytes(), r"shape \(60, 5\), \(60, 4\) expected"),
    ):
        path.write_bytes(damage)
        with pytest.raises(
            PartialRunError, match=rf"1 of \d units failed(.|\n)*000002\.npy: {said}"
        ):
            build_index(side, tmp_path / "index", kind="flat")
        assert not (tmp_path / "index").exists()
    path.write_bytes(whole)
    filled: list[Any] = []

    def watching(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        filled.extend(unit.part for unit in units)
        yield from run_in_process(function, units)

    seen: list[int] = []
    index = build_index(
        side, tmp_path / "index", kind="flat", run_units=watching, on_part=seen.append
    )
    assert filled == [2]
    assert sum(seen) == 125
    assert index.manifest.id == expected


def test_rows_without_direction_break_nothing(tmp_path: Path) -> None:
    parts = random_parts(4, [40, 30])
    parts[0][3], parts[1][5, 1], parts[1][6, 2] = 0, np.inf, np.nan
    side = embeddings(tmp_path / "train", parts)
    for kind in KINDS:
        index = build_index(side, tmp_path / kind, kind=kind)
        assert check_index(index, side) == []
        assert index.load().ntotal == 70


# --- growth --------------------------------------------------------------------------------------


def grown(tmp_path: Path, parts: Sequence[Any], name: str = "train") -> Embeddings:
    return embeddings(tmp_path / name, parts, name="train")


@pytest.mark.parametrize("kind", KINDS)
def test_an_extended_index_fills_what_is_new_and_holds_everything(
    tmp_path: Path, kind: Kind
) -> None:
    parts = random_parts(6, SIZES)
    small = grown(tmp_path, parts[:3], "small")
    base = build_index(small, tmp_path / "index", kind=kind)
    before = faiss.serialize_index(base.load())
    large = grown(tmp_path, parts, "large")
    filled: list[int] = []

    def watching(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        filled.extend(unit.part for unit in units)
        yield from run_in_process(function, units)

    index = build_index(large, tmp_path / "index", extend=True, run_units=watching)
    assert filled == [3, 4]
    assert check_index(index, large) == []
    assert tables.read_table(index.root / IDS_FILE, tables.IDS)["item"].len() == 125
    assert index.manifest.config["trained_on"]["embeddings"] == small.manifest.id
    assert index.embeddings_id == large.manifest.id
    plain = faiss.deserialize_index(before)
    for part in parts[3:]:
        plain.add(unit_rows(part))
    queries = unit_rows(parts[4])
    for got, wanted in zip(index.load().search(queries, 3), plain.search(queries, 3), strict=True):
        np.testing.assert_array_equal(got, wanted)
    again = build_index(large, tmp_path / "index", extend=True, run_units=watching)
    assert (again.manifest.id, filled) == (index.manifest.id, [3, 4])


def test_parts_that_moved_changed_or_went_are_followed(tmp_path: Path) -> None:
    parts = random_parts(7, [30, 20, 10, 10])
    build_index(grown(tmp_path, parts, "a"), tmp_path / "index", kind="ivf-sq8")
    parts = [parts[2], *random_parts(8, [5]), parts[0], parts[0], parts[3]]
    side = grown(tmp_path, parts, "b")
    seen: list[int] = []
    index = build_index(side, tmp_path / "index", extend=True, on_part=seen.append)
    assert check_index(index, side) == []
    assert index.load().ntotal == sum(seen) == 85


def test_the_way_to_a_set_leaves_no_trace_in_an_extended_index(tmp_path: Path) -> None:
    parts = random_parts(6, SIZES)
    sides = [grown(tmp_path, parts[:n], f"s{n}") for n in (3, 4, 5)]
    for side in sides:
        build_index(side, tmp_path / "x" / "index", kind="ivf", extend=side is not sides[0])
    for side in (sides[0], sides[2]):
        build_index(side, tmp_path / "y" / "index", kind="ivf", extend=side is not sides[0])
    assert tree(tmp_path / "x") == tree(tmp_path / "y")


def test_what_cannot_be_extended_is_told(train: Embeddings, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no index is there to extend"):
        build_index(train, tmp_path / "index", extend=True)
    build_index(train, tmp_path / "index", kind="ivf")
    with pytest.raises(CurateError, match=r"keeps the index what it is \(ivf\)"):
        build_index(train, tmp_path / "index", kind="flat", extend=True)
    other = embeddings(tmp_path / "o", random_parts(0, [9]), encoder={**ENCODER, "weights": "x"})
    with pytest.raises(CurateError, match="vectors of another encoder"):
        build_index(other, tmp_path / "index", extend=True)
    (tmp_path / "index" / "parts.json").write_text('{"parts": [{"vectors": 3}]}')
    more = embeddings(tmp_path / "more", random_parts(1, [5]))
    with pytest.raises(CurateError, match=r"parts\.json: damaged"):
        build_index(more, tmp_path / "index", extend=True)


# --- the recall gate -----------------------------------------------------------------------------


def test_what_finishes_an_index_may_add_files_and_the_probes_it_chose_are_used(
    tmp_path: Path,
) -> None:
    side = embeddings(tmp_path / "train", random_parts(9, [4000], dim=8))
    asked = RecallSettings(0.9, min_recall=0.9, probes=7)

    def gate(folder: Path, index: Any) -> None:
        check_recall(index, side, None, asked, folder)

    plain = build_index(side, tmp_path / "index", kind="ivf")
    assert plain.probes == plain.manifest.config["probes"] != 7
    gated = build_index(
        side, tmp_path / "index", kind="ivf", finish=gate, finish_config={"probes": 7}
    )
    assert gated.probes == gated.load().nprobe == 7
    assert verify_all([gated.root, side.root]) == []
    assert "recall.json" in [entry["path"] for entry in gated.manifest.outputs]
    assert gated.manifest.outputs[1] == plain.manifest.outputs[1]
    asked = RecallSettings(0.9, min_recall=0.99, probes=1)
    with pytest.raises(GateError):
        build_index(side, tmp_path / "index", kind="ivf", finish=gate, finish_config={"probes": 1})
    assert open_index(gated.root).manifest.id == gated.manifest.id


# --- interruptions -------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from curate import artifacts, index
from curate.index import build_index
from curate.parts import open_embeddings
from indices import faiss_merge

train, out, moment, extend = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "1"
faiss_merge._WINDOW_BYTES = 100

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name, calls):
    original, left = getattr(owner, name), [calls]
    def run(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            die()
        return original(*args, **options)
    setattr(owner, name, run)

owner, name, calls = {
    "filling": (index.index_parts.faiss_fill, "write_runs", 1),
    "noting": (index.index_parts, "write_json", 2),
    "merging": (faiss_merge._ListWriter, "add", 5),
    "naming": (index, "_write_ids", 0),
    "replacing": (artifacts, "sync_folder", 1),
    "renaming": (Path, "rename", 1),
}[moment]
after(owner, name, calls)
build_index(open_embeddings(train), out, kind=None if extend else "ivf-sq8", extend=extend)
"""


@pytest.mark.parametrize("extend", [False, True])
@pytest.mark.parametrize(
    "moment", ["filling", "noting", "merging", "naming", "replacing", "renaming"]
)
def test_a_killed_build_goes_on_to_the_same_bytes(
    tmp_path: Path, moment: str, extend: bool
) -> None:
    parts = random_parts(10, [300, 0, 200, 100])
    small = grown(tmp_path, parts[:1], "small")
    side = grown(tmp_path, parts, "side")
    for name in ("whole", "killed"):
        if extend:
            build_index(small, tmp_path / name / "index", kind="ivf-sq8")
        (tmp_path / name).mkdir(exist_ok=True)
    kind: Kind | None = None if extend else "ivf-sq8"
    build_index(side, tmp_path / "whole" / "index", kind=kind, extend=extend)
    out = tmp_path / "killed" / "index"
    words = [sys.executable, "-c", KILLED, side.root, out, moment, str(int(extend))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    fresh_and_whole = moment == "renaming" and not extend  # only what is replaced is moved away
    assert done.returncode == (0 if fresh_and_whole else -signal.SIGKILL), done.stderr
    build_index(side, out, kind=kind, extend=extend)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_what_a_killed_run_left_half_written_is_removed_first(
    train: Embeddings, tmp_path: Path
) -> None:
    def interrupted(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        yield from run_in_process(function, units[:1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(train, tmp_path / "index", run_units=interrupted)
    (work,) = tmp_path.glob(".index.*.partial")
    half = work / ".index.faiss.0123456789abcdef.tmp"
    half.write_bytes(b"as large as an index")

    def looking(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        assert not half.exists()
        yield from run_in_process(function, units)

    build_index(train, tmp_path / "index", run_units=looking)
    assert not list(tmp_path.glob(".index*"))
