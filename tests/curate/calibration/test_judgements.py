from pathlib import Path

import polars as pl
import pytest

from curate.calibration.judgements import read_judgements
from curate.errors import CurateError

PAIRS = pl.DataFrame({"test_id": ["t:a", "t:b"], "train_id": ["r:1", "r:2"]})


def labels(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["test_id,train_id,label,reviewer", *rows]) + "\n")
    return path


def test_the_words_of_all_reviewers_become_one_per_pair(tmp_path: Path) -> None:
    file = labels(
        tmp_path / "a.csv", "t:a,r:1,same,ann", "t:a,r:1,near,bob", "t:b,r:2,unsure,ann",
        "t:x,r:9,different,ann",
    )  # fmt: skip
    said = read_judgements(file)
    assert said.table["copy"].to_list() == [True, None, False]
    assert said.decided().height == 2
    assert said.reviewers == 2
    stated = said.to_json(PAIRS)
    assert (stated["pairs"], stated["unknown"]) == (3, 1)


def test_the_digest_is_of_what_is_said_and_not_of_the_file(tmp_path: Path) -> None:
    one = labels(tmp_path / "a.csv", "t:a,r:1,same,ann", "t:b,r:2,different,ann")
    two = labels(tmp_path / "b.csv", "t:b,r:2,different,ann", "t:a,r:1,near,ann")
    other = labels(tmp_path / "c.csv", "t:a,r:1,different,ann", "t:b,r:2,different,ann")
    digests = [read_judgements(path).sha256 for path in (one, two, other)]
    assert digests[0] == digests[1] != digests[2]


def test_labels_of_something_else_are_refused(tmp_path: Path) -> None:
    said = read_judgements(labels(tmp_path / "a.csv", "x:a,y:1,same,ann"))
    with pytest.raises(CurateError, match=r"a\.csv: none of its 1 pairs is in this run.*x:a, y:1"):
        said.known(PAIRS)


def test_missing_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"none\.csv: no labels are there"):
        read_judgements(tmp_path / "none.csv")
