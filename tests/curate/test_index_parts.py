"""Units of filling, and what an index says that it holds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up import embeddings, random_parts

from curate import index_parts
from curate.artifacts import Manifest
from curate.errors import CurateError
from curate.files import file_digest
from curate.index_parts import Part, fill, match_parts, read_parts, vector_digests, write_parts
from curate.parts import Embeddings
from curate.units import Outcome, run_in_process
from indices.faiss_fill import train as train_index
from indices.faiss_plan import Plan
from indices.stored import Stored

faiss = pytest.importorskip("faiss")


@pytest.fixture
def side(tmp_path: Path) -> Embeddings:
    return embeddings(tmp_path / "train", random_parts(0, [30, 0, 20]))


@pytest.fixture
def trained(side: Embeddings, tmp_path: Path) -> Path:
    index = train_index(Plan("ivf", 3, 1, ""), Stored(side.view_parts()), 4)
    faiss.write_index(index, str(tmp_path / "trained.faiss"))
    return tmp_path / "trained.faiss"


class Runner:
    """Runs units here and remembers which."""

    def __init__(self) -> None:
        self.parts: list[int] = []

    def __call__(self, function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        self.parts += [unit.part for unit in units]
        return run_in_process(function, units)


def filled(side: Embeddings, trained: Path, out: Path) -> tuple[list[int], dict[int, Part]]:
    runner = Runner()
    seen: list[int] = []
    found = fill(side, range(3), trained, out, run_units=runner, on_part=seen.append)
    assert sum(seen) == 50
    return runner.parts, found


def test_filled_parts_are_kept_and_others_are_redone(
    side: Embeddings, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    parts, first = filled(side, trained, out)
    assert parts == [0, 1, 2]
    assert [first[n].vectors for n in range(3)] == [30, 0, 20]
    assert filled(side, trained, out) == ([], first)
    before = index_parts.runs_path(out, 2).read_bytes()
    index_parts.runs_path(out, 2).unlink()
    (out / "part_000000.json").unlink()
    assert filled(side, trained, out) == ([0, 2], first)
    assert index_parts.runs_path(out, 2).read_bytes() == before


def test_digests_are_those_of_the_files_of_vectors(side: Embeddings) -> None:
    paths = [side.root / "img_emb" / f"img_emb_{n:06d}.npy" for n in range(3)]
    assert vector_digests(side) == [file_digest(path) for path in paths]


def test_each_part_of_an_index_is_matched_once_and_by_content(tmp_path: Path) -> None:
    a, b = random_parts(1, [4, 4])
    old = embeddings(tmp_path / "old", [a, b, b])
    parts = [Part(n, d, 0.0) for n, d in zip(old.sizes, vector_digests(old), strict=True)]
    assert match_parts(parts, embeddings(tmp_path / "new", [b, a, a, b, b])) == {0: 1, 1: 0, 3: 2}
    assert match_parts([Part(4, None, 0.0)] * 3, old) == {}


def test_what_an_index_holds_is_read_back_and_damage_is_told(tmp_path: Path) -> None:
    parts = [Part(3, "ab", 0.25), Part(0, None, 0.0)]
    write_parts(tmp_path, parts)
    assert read_parts(tmp_path, Manifest("index", {}, [], counts={"vectors": 3})) == parts
    with pytest.raises(CurateError, match=r"parts\.json: of another index"):
        read_parts(tmp_path, Manifest("index", {}, [], counts={"vectors": 4}))
    for text in ("[]", "{}", '{"parts": [{"size": 3}]}', '{"parts": 3}'):
        (tmp_path / "parts.json").write_text(text)
        with pytest.raises(CurateError, match=r"parts\.json: damaged"):
            read_parts(tmp_path, Manifest("index", {}, [], counts={"vectors": 3}))
