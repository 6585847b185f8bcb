from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from sample_rows import rows

from curate.errors import CurateError
from eval.records import PARTS, SAMPLES, part, read_samples, samples, with_splits, write_samples

if TYPE_CHECKING:
    from pathlib import Path

DECISIONS = pl.DataFrame(
    {
        "id": ["a:2", "a:1", "a:0", "a:9"],
        "decision": ["unknown", "overlap", "clean", "clean"],
        "control": [False, True, True, True],
    }
)


def test_rows_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    frame = rows([True, False], linf=[0.5, 4.0], group=["v", None])
    write_samples(tmp_path / "samples.parquet", frame)
    again = read_samples(tmp_path / "samples.parquet")
    assert again.equals(frame)
    assert dict(again.schema) == dict(SAMPLES)


def test_columns_that_are_left_out_are_null() -> None:
    frame = rows([True])
    assert frame["word"].to_list() == [None]
    assert frame["split"].null_count() == 1


def test_a_column_of_no_sample_is_refused() -> None:
    with pytest.raises(CurateError, match=r"\['colour'\] are none of a sample's"):
        rows([True], colour=["red"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ["a:0", "a:0"]}, "a:0 has more than one row"),
        ({"margin": [1.0, float("nan")]}, "margin of a:1 is not finite"),
        ({"margin": [-1.0, -1.0]}, "correct, pred and margin of a:0 do not agree"),
        ({"pred": [0, 0]}, "correct, pred and margin of a:1 do not agree"),
        ({"split": ["clean", "dirty"]}, "a:1 is in a split named 'dirty'"),
        ({"pred": [0, None]}, "column pred is null for a:1"),
        ({"id": ["a:0", None]}, "column id is null for row 1"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(
    change: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(CurateError, match=message):
        rows([True, False], **change)


def test_a_tie_may_be_right_or_wrong() -> None:
    assert rows([True, False], margin=[0.0, 0.0]).height == 2


def test_nothing_is_written_of_rows_that_are_not_right(tmp_path: Path) -> None:
    bad = rows([True]).with_columns(margin=pl.lit(-1.0, pl.Float32))
    with pytest.raises(CurateError, match=r"samples\.parquet: correct, pred and margin"):
        write_samples(tmp_path / "samples.parquet", bad)
    assert not list(tmp_path.iterdir())


def test_splits_are_joined_by_id_and_keep_the_order_of_the_rows() -> None:
    frame = with_splits(rows([True, False, True]), DECISIONS)
    assert frame["id"].to_list() == ["a:0", "a:1", "a:2"]
    assert frame["split"].to_list() == ["clean", "overlap", "unknown"]
    assert frame["control"].to_list() == [True, True, False]
    assert frame.columns == SAMPLES.names()


def test_images_without_a_decision_are_named() -> None:
    with pytest.raises(CurateError, match="1 of 4 images have no decision, a:3 first"):
        with_splits(rows([True] * 4), DECISIONS)


def test_a_split_of_the_rows_keeps_their_order() -> None:
    frame = with_splits(rows([True, False, True]), DECISIONS)
    found = {name: part(frame, name)["id"].to_list() for name in PARTS}
    assert found == {
        "full": ["a:0", "a:1", "a:2"],
        "clean": ["a:0"],
        "overlap": ["a:1"],
        "control": ["a:0", "a:1"],
    }


def test_rows_that_were_not_joined_have_the_full_split_only() -> None:
    frame = rows([True])
    assert part(frame, "full").height == 1
    with pytest.raises(CurateError, match="a:0 has no split"):
        part(frame, "clean")


def test_no_rows_are_fine() -> None:
    empty = samples({"id": pl.Series([], dtype=pl.String)})
    assert empty.height == 0
    assert part(empty, "clean").height == 0
