"""What the first of a ranking are, by the list or by eye."""

import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import cifar10_detectors

RANKED = pl.DataFrame(
    {
        "listed": [True, True, None, None, None, None],
        "similar": [None, None, True, None, None, None],
        # the list has the pair of the first image; of the second another one
        "pair_listed": [True, None, None, None, None, None],
        "copy": [None, True, True, False, None, None],
        "seen": [None, True, True, True, True, None],
    },
    schema=dict.fromkeys(("listed", "similar", "pair_listed", "copy", "seen"), pl.Boolean),
)


def test_copies_are_those_of_the_list_and_those_that_were_seen() -> None:
    assert cifar10_detectors.judgements(RANKED) == {
        "copies": 3,
        "copies_by_list": 1,
        "none": 1,
        "judged": 5,
        "near_duplicates": 2,
        "very_similar": 1,
    }


def test_a_list_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"pairs_test_train\.csv: missing"):
        cifar10_detectors.listed_pairs(tmp_path)


def test_recall_is_of_the_images_that_the_list_has() -> None:
    assert cifar10_detectors.scores(RANKED, 1)["recall"]["1"] == 0.5
    assert cifar10_detectors.scores(RANKED, 1)["of_first"]["1"]["copies"] == 1
