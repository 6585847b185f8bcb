"""Orders of preference: by size of the image, and by nearness to the centre of a group."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import embeddings, random_parts
from numpy.typing import NDArray

from curate import keep, tables
from curate.errors import GateError
from curate.files import read_json
from curate.groups import MatchGraph, match_graph
from curate.keep import centrality, preference
from curate.parts import Embeddings, metadata_path
from indices.stored import Stored


def naive_centrality(vectors: NDArray[np.floating], component: list[int]) -> list[float]:
    """One member at a time, in Python's floats."""
    units = [[float(x) for x in row] for row in vectors]
    units = [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in units]
    found = []
    for unit, label in zip(units, component, strict=True):
        members = [u for u, other in zip(units, component, strict=True) if other == label]
        centre = [sum(column) / len(members) for column in zip(*members, strict=True)]
        length = sum(x * x for x in centre) ** 0.5
        cosine = sum(a * b for a, b in zip(unit, centre, strict=True)) / length
        found.append(cosine if len(members) > 2 else 0.0)
    return found


def graph_of(side: Embeddings, *pairs: tuple[int, int]) -> MatchGraph:
    ids = side.all_status()["id"]
    rows = [
        {"test_id": ids[i], "train_id": ids[j], "score": 1.0, "view": "identity"} for i, j in pairs
    ]
    return match_graph(ids, tables.rows(rows, tables.PAIRS), [], 0.9)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.lists(st.integers(0, 3), max_size=25))
def test_centrality_is_the_cosine_with_the_mean_of_the_unit_vectors(
    seed: int, block: int, drawn: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((len(drawn) + 5, 6)) + 1).astype(np.float16)
    _, labels = np.unique(drawn, return_inverse=True)
    numbers = rng.permutation(len(vectors))[: len(drawn)]
    whole = centrality(Stored([vectors[:2], vectors[2:]]), numbers, labels)
    expected = naive_centrality(vectors[numbers], labels.tolist()) if drawn else []
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    kept, keep.BLOCK = keep.BLOCK, block
    try:
        again = centrality(Stored([vectors]), numbers, labels)
    finally:
        keep.BLOCK = kept
    np.testing.assert_allclose(again, whole, atol=1e-6)


def test_centrality_of_a_component_does_not_depend_on_the_others() -> None:
    (vectors,) = random_parts(3, [9000], 16)
    component = np.repeat([0, 1, 2], [3990, 10, 5000])
    whole = centrality(Stored([vectors]), np.arange(9000), component)
    for label in (0, 1, 2):
        members = np.flatnonzero(component == label)
        alone = centrality(Stored([vectors]), members, np.zeros(len(members), np.int64))
        assert alone.tobytes() == whole[members].tobytes()


def test_a_block_holds_whole_components_or_begins_with_one() -> None:
    assert list(keep._batches([0, 3990, 4290, 9000])) == [(0, 3990), (3990, 4290), (4290, 9000)]
    assert list(keep._batches([0, 2000, 4096, 4100])) == [(0, 4096), (4096, 4100)]
    assert list(keep._batches([0])) == []


def test_equal_vectors_tie_and_so_do_any_two_alone() -> None:
    (vectors,) = random_parts(5, [8], 7)
    vectors[3] = vectors[0]
    cosine = centrality(Stored([vectors]), np.arange(6), np.array([0, 0, 0, 0, 1, 1]))
    assert cosine[0] == cosine[3] != cosine[1]
    assert cosine[4] == cosine[5] == 0


def test_vectors_that_cancel_out_have_no_direction_and_tie() -> None:
    vectors = np.array([[1, 0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2], [2, 0], [-2, 0]])
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    assert centrality(Stored([square]), np.arange(4), np.zeros(4, np.int64)).tolist() == [0] * 4
    found = centrality(Stored([vectors]), np.arange(5), np.zeros(5, np.int64))
    assert np.isfinite(found).all()


@pytest.fixture
def side(tmp_path: Path) -> Embeddings:
    """Two parts of three vectors, a failed sample in the second; one direction stands off."""
    base = np.array([[1, 0, 0], [1, 0.2, 0], [1, 0.9, 0]], np.float16)
    return embeddings(tmp_path / "set", [base, base[::-1].copy()], failed={1: [1]})


def test_the_first_needs_no_order(side: Embeddings) -> None:
    assert preference("first", graph_of(side, (1, 0)), side) is None


def test_the_largest_image_is_that_of_the_most_pixels(side: Embeddings) -> None:
    path = metadata_path(side.root, 1)
    rows = tables.read_table(path, tables.METADATA)
    sizes = pl.DataFrame({"width": [9, 50_000, None], "height": [1, 60_000, 8]})
    tables.write_table(path, rows.with_columns(sizes), tables.METADATA)
    graph = graph_of(side, (3, 0), (5, 3), (6, 5))
    assert graph.ids.to_list() == ["set-0:k0", "set-1:k0", "set-1:k2", "set-1:k3"]
    found = preference("largest", graph, side)
    assert found is not None
    assert found.tolist() == [-6, -9, -3_000_000_000, 0]


def test_closest_and_farthest_are_opposite_and_by_component(side: Embeddings) -> None:
    graph = graph_of(side, (1, 0), (2, 0), (6, 3))
    closest, farthest = (preference(word, graph, side) for word in ("closest", "farthest"))
    assert closest is not None
    assert farthest is not None
    assert (closest == -farthest).all()
    assert np.argmin(closest[:3]) == 1
    assert np.argmin(farthest[:3]) == 2
    assert farthest[3:].tolist() == [0, 0]
    rows = [side.vectors(0)[n] for n in range(3)]
    np.testing.assert_allclose(farthest[:3], naive_centrality(np.array(rows), [0] * 3), atol=1e-6)


def test_an_item_without_a_vector_is_an_error(side: Embeddings) -> None:
    with pytest.raises(GateError, match="not every item of a pair has one vector"):
        preference("closest", graph_of(side, (4, 0)), side)


def test_vectors_of_pairs_alone_are_not_read(side: Embeddings) -> None:
    entry = read_json(side.root / "manifest.json")["outputs"][0]["path"]
    graph = graph_of(side, (1, 0), (3, 2))
    for path in (side.root / entry).parent.glob("*.npy"):
        path.unlink()
    found = preference("closest", graph, side)
    assert found is not None
    assert not found.any()
