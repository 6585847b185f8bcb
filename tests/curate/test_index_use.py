"""Searching, describing and checking finished indices."""

import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import ENCODER, embeddings, random_parts

from curate.errors import CurateError
from curate.index import Index, build_index, open_index
from curate.index_use import (
    FOUND,
    check_index,
    describe,
    embeddings_of,
    read_queries,
    search_index,
)
from curate.parts import Embeddings
from curate.published import open_vectors
from curate.recall import RecallSettings, check_recall
from curate.units import Outcome, run_in_process
from indices import exact
from indices.faiss_plan import KINDS
from indices.scores import unit_rows

faiss = pytest.importorskip("faiss")


@pytest.fixture
def train(tmp_path: Path) -> Embeddings:
    return embeddings(tmp_path / "train", random_parts(0, [30, 0, 60], dim=8))


@pytest.fixture
def test_side(tmp_path: Path) -> Embeddings:
    return embeddings(tmp_path / "test", random_parts(1, [5, 4], dim=8))


def everything(index: Index) -> int:
    return max(1, index.manifest.config["lists"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_that_visits_everything_gives_the_exact_pairs(
    train: Embeddings, test_side: Embeddings, tmp_path: Path, kind: str
) -> None:
    index = build_index(train, tmp_path / "index", kind=kind)  # type: ignore[arg-type]
    names, queries = read_queries(test_side.root, train)
    probes = everything(index)
    found = search_index(index, train, names, queries, floor=0.3, probes=probes)
    expected = exact.join(queries, list(train.view_parts()), 0.3)
    ids = train.all_metadata()["id"]
    assert found.schema == FOUND
    assert found["item"].to_list() == expected.item.tolist()
    assert found["score"].to_list() == expected.score.tolist()
    assert found["query"].to_list() == [names[n] for n in expected.query]
    assert found["id"].to_list() == [ids[int(n)] for n in expected.item]
    assert found["rank"].to_list() == [
        1 + int((expected.query[:n] == query).sum()) for n, query in enumerate(expected.query)
    ]
    best = search_index(index, train, names, queries, top=3, probes=probes)
    every = exact.join(queries, list(train.view_parts()), -1.0, cap=3)
    assert best["item"].to_list() == every.item.tolist()
    both = search_index(index, train, names, queries, floor=0.3, top=1, probes=probes)
    assert both.equals(found.filter(found["rank"] == 1))


def test_queries_may_be_a_plain_matrix_named_by_its_rows(train: Embeddings, tmp_path: Path) -> None:
    index = build_index(train, tmp_path / "index")
    np.save(tmp_path / "q.npy", train.vectors(2)[3:5])
    names, queries = read_queries(tmp_path / "q.npy", train)
    found = search_index(index, train, names, queries, floor=0.9999)
    assert found.select("query", "id").rows() == [("0", "train-2:k3"), ("1", "train-2:k4")]


def test_nothing_found_is_an_empty_table(train: Embeddings, tmp_path: Path) -> None:
    index = build_index(train, tmp_path / "index")
    nothing = np.zeros((2, 8), np.float32)
    for found in (
        search_index(index, train, ["0", "1"], nothing, floor=0.0),
        search_index(index, train, ["0", "1"], nothing, top=3),
        search_index(index, train, [], nothing[:0], top=3),
    ):
        assert (found.height, found.schema) == (0, FOUND)


def test_queries_of_another_encoder_or_width_are_refused(train: Embeddings, tmp_path: Path) -> None:
    other = embeddings(
        tmp_path / "o", random_parts(0, [9], dim=8), encoder={**ENCODER, "weights": "x"}
    )
    with pytest.raises(CurateError, match="embedded by different encoders"):
        read_queries(other.root, train)
    np.save(tmp_path / "q.npy", np.zeros((2, 7), np.float32))
    with pytest.raises(CurateError, match=r"q\.npy: vectors of width 7, 8 expected"):
        read_queries(tmp_path / "q.npy", train)
    with pytest.raises(CurateError, match=r"gone\.npy: not readable"):
        read_queries(tmp_path / "gone.npy", train)


def test_what_is_asked_must_make_sense(train: Embeddings, tmp_path: Path) -> None:
    index = build_index(train, tmp_path / "index")
    for asked, said in (
        ({}, "Give --floor SCORE, --top COUNT"),
        ({"floor": 1.5}, "--floor 1.5: a cosine"),
        ({"floor": float("nan")}, "--floor nan: a cosine"),
        ({"top": 0}, "--top 0: at least 1"),
        ({"top": 1, "probes": 0}, "--probes 0: at least 1"),
    ):
        with pytest.raises(CurateError, match=said):
            search_index(index, train, [], np.zeros((0, 8)), **asked)  # type: ignore[arg-type]


# --- where the vectors are -----------------------------------------------------------------------


def test_the_embeddings_are_remembered_and_may_have_moved(
    train: Embeddings, test_side: Embeddings, tmp_path: Path
) -> None:
    index = build_index(train, tmp_path / "index")
    assert embeddings_of(index).root == train.root
    train.root.rename(tmp_path / "moved")
    assert embeddings_of(index, str(tmp_path / "moved")).count == 90
    with pytest.raises(CurateError, match=r"Say with --embeddings where"):
        embeddings_of(index)
    with pytest.raises(CurateError, match=r"built from other vectors .* --extend. adds them"):
        embeddings_of(index, str(test_side.root))


def test_published_vectors_are_indexed_opened_again_and_added_to(tmp_path: Path) -> None:
    parts, folder = random_parts(2, [40, 30, 20], dim=8), tmp_path / "set" / "img_emb"
    folder.mkdir(parents=True)
    for number, part in enumerate(parts[:2]):
        np.save(folder / f"img_emb_{number}.npy", part)
    side = open_vectors(tmp_path / "set", "open_clip:ViT-B-32/openai")
    index = build_index(side, tmp_path / "index", kind="ivf-fp16")
    opened = embeddings_of(index)
    assert check_index(index, opened) == []
    found = search_index(index, opened, ["0"], parts[1][4:5], floor=0.9999)
    assert found["id"].to_list() == ["img_emb_1:4"]
    np.save(folder / "img_emb_2.npy", parts[2])
    with pytest.raises(CurateError, match=r"--extend. adds them"):
        embeddings_of(index)
    side = open_vectors(tmp_path / "set", "open_clip:ViT-B-32/openai")
    filled: list[int] = []

    def watching(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        filled.extend(unit.part for unit in units)
        for unit in units:
            yield from run_in_process(function, [pickle.loads(pickle.dumps(unit))])

    index = build_index(side, tmp_path / "index", extend=True, run_units=watching)
    assert filled == [2]
    assert check_index(index, embeddings_of(index)) == []


# --- what it is ----------------------------------------------------------------------------------


def test_an_index_is_described(train: Embeddings, tmp_path: Path) -> None:
    flat = describe(build_index(train, tmp_path / "flat", kind="flat"))
    assert (flat["kind"], flat["vectors"], flat["width"]) == ("flat", 90, 8)
    assert "lists" not in flat
    index = build_index(train, tmp_path / "ivf", kind="ivf-sq8")
    found = describe(index)
    loaded = faiss.read_index(str(index.root / "index.faiss"))
    sizes = [loaded.invlists.list_size(n) for n in range(loaded.nlist)]
    assert found["lists"] == loaded.nlist == 2
    assert found["list_sizes"] == {
        "min": min(sizes), "median": np.median(sizes), "max": max(sizes),
        "imbalance": pytest.approx(2 * sum(n * n for n in sizes) / 90**2),
    }  # fmt: skip
    assert found["largest_error"] >= index.manifest.counts["largest_error"] > 0
    assert found["bytes"] == (index.root / "index.faiss").stat().st_size
    assert found["trained_on"] == {"sample": 90, "vectors": 90}
    assert found["added_since"] == 0
    assert "recall" not in found


def test_an_extended_index_says_what_came_later(tmp_path: Path) -> None:
    parts = random_parts(0, [50, 20], dim=8)
    build_index(embeddings(tmp_path / "a", parts[:1], name="t"), tmp_path / "i", kind="ivf")
    large = embeddings(tmp_path / "b", parts, name="t")
    assert describe(build_index(large, tmp_path / "i", extend=True))["added_since"] == 20


def test_measured_recall_is_part_of_the_description(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "train", random_parts(9, [4000], dim=8))

    def gate(folder: Path, index: object) -> None:
        check_recall(index, side, None, RecallSettings(0.9, min_recall=0.9), folder)

    index = build_index(side, tmp_path / "i", kind="ivf", finish=gate, finish_config={"x": 1})
    found = describe(index)
    assert found["recall"]["summary"].startswith("Recall of test items at >= 0.9 is")
    (chosen,) = (row["lists"] for row in found["recall"]["points"] if row[""] == "chosen")
    assert found["probes"] == int(chosen)


# --- checking ------------------------------------------------------------------------------------


def altered(index: Index, copy: Path) -> tuple[Index, Any]:
    shutil.copytree(index.root, copy)
    return open_index(copy), faiss.read_index(str(copy / "index.faiss"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_index_has_no_problems(train: Embeddings, tmp_path: Path, kind: str) -> None:
    seen: list[int] = []
    index = build_index(train, tmp_path / "index", kind=kind)  # type: ignore[arg-type]
    assert check_index(index, train, seen.append) == []
    assert sum(seen) == 90


def test_every_planted_difference_is_named_by_its_item(train: Embeddings, tmp_path: Path) -> None:
    index = build_index(train, tmp_path / "index", kind="ivf-sq8")
    copy, plain = altered(index, tmp_path / "copy")
    plain.remove_ids(np.array([2, 33]))
    wrong = np.array([33, 5, 1000])
    plain.add_with_ids(unit_rows(train.vectors(0)[[9, 5, 0]]), wrong)
    faiss.write_index(plain, str(copy.root / "index.faiss"))
    assert check_index(copy, train) == [
        "1 missing: train-0:k2 (item 2)",
        "1 more than once in it: train-0:k5 (item 5)",
        "1 altered: train-2:k3 (item 33)",
        "1 of no vector: item 1000",
    ]


def test_of_very_many_differences_the_first_are_named(train: Embeddings, tmp_path: Path) -> None:
    copy, plain = altered(build_index(train, tmp_path / "i", kind="ivf"), tmp_path / "copy")
    plain.reset()
    faiss.write_index(plain, str(copy.root / "index.faiss"))
    (problem,) = check_index(copy, train)
    assert problem.startswith("90 missing: train-0:k0 (item 0), train-0:k1 (item 1), ")
    assert problem.endswith("train-0:k19 (item 19) and 70 more")


def test_an_index_that_cannot_be_compared_is_told(train: Embeddings, tmp_path: Path) -> None:
    index = build_index(train, tmp_path / "index", kind="ivf-sq8")
    copy, plain = altered(index, tmp_path / "copy")
    plain.sq.rangestat_arg = 0
    faiss.write_index(plain, str(copy.root / "index.faiss"))
    with pytest.raises(CurateError, match="does not say how far its codes are off; build"):
        check_index(copy, train)
