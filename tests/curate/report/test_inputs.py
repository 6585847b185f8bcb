from collections.abc import Callable
from typing import Any

import pytest

from curate.errors import CurateError
from curate.report import ReportInputs
from curate.report.inputs import check


def changed(run: ReportInputs, **fields: Any) -> ReportInputs:
    return ReportInputs(**{**vars(run), **fields})


def test_a_finished_run_passes(run: ReportInputs) -> None:
    check(run)


@pytest.mark.parametrize("table", ["decisions", "pairs", "nearest", "status"])
def test_a_missing_column_is_named_with_its_table(run: ReportInputs, table: str) -> None:
    frame = getattr(run, table)
    dropped = frame.columns[0]
    with pytest.raises(CurateError, match=f"{table}: column {dropped} is missing"):
        check(changed(run, **{table: frame.drop(dropped)}))


def test_pairs_of_a_version_without_a_second_look_are_not_passed_on_as_they_are(
    run: ReportInputs,
) -> None:
    with pytest.raises(
        CurateError, match="pairs: column rejected is missing: run `curate dedup` again"
    ):
        check(changed(run, pairs=run.pairs.drop("rejected")))


def test_recall_without_its_columns_is_refused(
    run: ReportInputs, calibrate: Callable[..., ReportInputs]
) -> None:
    inputs = calibrate(run)
    check(inputs)
    assert inputs.recall is not None
    with pytest.raises(
        CurateError, match="recall: column found is missing: run `curate calibrate` again"
    ):
        check(changed(inputs, recall=inputs.recall.drop("found")))


def test_a_missing_key_of_the_split_is_named(run: ReportInputs) -> None:
    split = {key: value for key, value in run.split.items() if key != "floor"}
    with pytest.raises(CurateError, match=r"split\.json lacks floor"):
        check(changed(run, split=split))


def test_counts_that_do_not_add_up_are_refused(run: ReportInputs) -> None:
    counts = {**run.split["counts"], "in": 7}
    with pytest.raises(CurateError, match="do not add up"):
        check(changed(run, split={**run.split, "counts": counts}))


def test_a_split_and_decisions_of_different_runs_are_refused(run: ReportInputs) -> None:
    with pytest.raises(CurateError, match="not of the same run"):
        check(changed(run, decisions=run.decisions.reverse().slice(1)))
