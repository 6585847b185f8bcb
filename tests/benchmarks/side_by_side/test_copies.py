"""The task of finding copies, run on a made-up set in the layout of the real one."""

import io
import json
import tarfile
from pathlib import Path

import polars as pl
import pytest
from pictures import encoded, picture

from benchmarks.side_by_side import copies
from benchmarks.side_by_side.session import Session

TESTS, TRAINS = 12, 30
COPIED = {3: 21, 7: 2, 11: 29}
"""Test image and the training image that it is."""


def jpeg(seed: int) -> bytes:
    return encoded(picture(seed, 32), "JPEG", quality=95)


def put(folder: Path, images: dict[int, bytes]) -> None:
    folder.mkdir(parents=True)
    with tarfile.open(folder / "00000.tar.gz", "w:gz") as archive:
        for number, content in images.items():
            info = tarfile.TarInfo(f"{number:08d}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def session(tmp_path: Path) -> Session:
    data = tmp_path / "data" / "cifar10"
    put(data / "train", {number: jpeg(100 + number) for number in range(TRAINS)})
    put(
        data / "test",
        {number: jpeg(100 + COPIED.get(number, 900 + number)) for number in range(TESTS)},
    )
    judged = ["test_index,train_index,judgment", "3,21,1", "7,2,2", "11,29,1"]
    (data / "pairs_test_train.csv").write_text("\n".join(judged) + "\n")
    pl.DataFrame(
        [("test", number, number % 2) for number in range(TESTS)]
        + [("train", number, number % 2) for number in range(TRAINS)],
        schema=["split", "index", "label"],
        orient="row",
    ).write_parquet(data / "manifest.parquet")
    work = tmp_path / "work"
    work.mkdir()
    return Session(tmp_path / "data", work, tmp_path / "environments", None, None)


def test_another_tool_finds_the_copies_in_a_process_of_its_own(session: Session) -> None:
    found = copies.peer(session, session.own_python, method="thumbnails")
    assert found.figures["test"] == TESTS
    assert (found.figures["near_duplicates"], found.figures["listed"]) == (2, 3)
    assert "at_default" not in found.figures
    best = found.figures["at_best"]
    assert (best["flagged"], best["recall"], best["recall_listed"]) == (3, 1.0, 1.0)
    assert found.cost.cpu_s > 0
    assert found.command == (
        "python benchmarks/side_by_side/workers/nearest.py thumbnails WORK/images "
        "WORK/thumbnails.json"
    )


def test_the_command_of_this_project_is_scored_by_the_same_list(session: Session) -> None:
    found = copies.detector(session, session.own_python, name="builtin:layout")
    default = found.figures["at_default"]
    assert (default["threshold"], default["flagged"], default["recall"]) == (0.82, 3, 1.0)
    # of the three pairs, 7 and 2 are of different made-up classes, and so are none of the others
    assert default["same_class"] == pytest.approx(2 / 3, abs=0.001)
    assert str(session.work) not in found.command
    assert "--detector builtin:layout --test WORK/images/test" in found.command


def test_a_quick_look_has_the_first_images_and_all_of_the_list(session: Session) -> None:
    quick = Session(session.data, session.work, session.environments, None, images=2)
    folder = copies.images(quick)
    tests = sorted(int(path.stem) for path in (folder / "test").glob("*/*.jpg"))
    trains = sorted(int(path.stem) for path in (folder / "train").glob("*/*.jpg"))
    assert tests == [0, 1, 3, 7, 11]
    assert trains == [*range(10), 21, 29]
    known = copies.truth(quick)
    assert known.near == {"00000003", "00000011"}
    assert known.test_class["00000007"] == 1
    assert len(known.train_class) == 12


def test_images_without_a_score_are_nobodys_neighbour(tmp_path: Path) -> None:
    (tmp_path / "matches").mkdir()
    (tmp_path / "splits").mkdir()
    pl.DataFrame(
        {
            "test_id": ["000:00000003.jpg", "000:00000004.jpg"],
            "train_id": ["020:00000021.jpg", None],
            "score": [0.9, None],
        }
    ).write_parquet(tmp_path / "matches" / "nearest.parquet")
    (tmp_path / "run.json").write_text(json.dumps({"matches": "matches", "split": "splits"}))
    (tmp_path / "splits" / "split.json").write_text('{"threshold": 0.5}')
    answer = copies.own_answer(tmp_path)
    assert answer.best == {"00000003": ("00000021", 0.9)}
    assert answer.threshold == 0.5


def test_the_program_for_other_tools_imports_nothing_of_this_project() -> None:
    for path in (Path(copies.__file__).parent / "workers").glob("*.py"):
        text = path.read_text()
        assert not any(f"from {name}" in text for name in ("curate", "pipelines", "benchmarks"))
