"""Plans of further tries."""

from pathlib import Path

import polars as pl
import pytest

from curate.errors import CurateError
from curate.fetching import robots, shards, tries

FETCH = pl.DataFrame({"list_row": [0, 1, 2, 5], "url": ["a", "b", "c", "d"], "score": [4, 3, 2, 1]})


def outcomes(*rows: tuple[int, str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [(row, "u", "k", status, error) for row, status, error in rows],
        schema=shards.OUTCOME,
        orient="row",
    )


def test_what_failed_is_planned_and_what_opted_out_is_not(tmp_path: Path) -> None:
    found = outcomes(
        (5, "failed_to_download", None),
        (2, "failed_to_download", robots.REASON),
        (0, "success", None),
        (1, "failed_to_resize", "bad"),
    )
    assert tries.plan(tmp_path, found)
    first, second = tries.lists(FETCH, tmp_path)
    assert first.equals(FETCH)
    assert second["list_row"].to_list() == [1, 5]
    assert second["score"].to_list() == [3, 1]
    (kept,) = tries.planned(tmp_path)
    assert pl.read_parquet(kept)["error_message"].to_list() == ["bad", None]
    assert tries.plan(tmp_path, outcomes((5, "failed_to_download", "x")))
    assert [rows.height for rows in tries.lists(FETCH, tmp_path)] == [4, 2, 1]


def test_without_failures_nothing_is_planned(tmp_path: Path) -> None:
    assert not tries.plan(tmp_path, outcomes((0, "success", None)))
    assert tries.planned(tmp_path) == []


def test_a_plan_that_does_not_fit_the_list_is_an_error(tmp_path: Path) -> None:
    tries.plan(tmp_path, outcomes((7, "failed_to_download", "x")))
    with pytest.raises(CurateError, match=r"0001\.parquet: names rows that the list lacks"):
        tries.lists(FETCH, tmp_path)
    tries.planned(tmp_path)[0].write_bytes(b"half")
    with pytest.raises(CurateError, match=r"0001\.parquet: the plan .* cannot be read"):
        tries.lists(FETCH, tmp_path)
