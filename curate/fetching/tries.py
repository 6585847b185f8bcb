"""Further tries: which rows of a list are fetched once more, after all were tried.

A try is planned by writing `tries/NNNN.parquet`: the status rows of what had failed. So an
interrupted try goes on as the same try, and what was said of a row before is kept. Its rows go into
new shards, numbered on from those before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from curate import tables
from curate.errors import CurateError
from curate.fetching import robots, shards
from curate.files import atomic_write
from curate.url_list import ROW

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = "tries"


def planned(out: Path) -> list[Path]:
    """The plans of further tries, in order."""
    return sorted((out / _FOLDER).glob("[0-9]*.parquet"))


def plan(out: Path, outcomes: pl.DataFrame) -> bool:
    """Plan to fetch again what failed; returns whether there is anything.

    An image whose server opted out is not asked for again.
    """
    opted_out = pl.col("error_message").eq_missing(robots.REASON)
    failed = outcomes.filter(pl.col("status").is_in(shards.FAILURES) & ~opted_out)
    if failed.height:
        path = out / _FOLDER / f"{len(planned(out)) + 1:04d}.parquet"
        with atomic_write(path) as stream:
            failed.select(list(shards.OUTCOME)).sort(ROW).write_parquet(stream)
    return failed.height > 0


def lists(fetch: pl.DataFrame, out: Path) -> list[pl.DataFrame]:
    """What each try fetches: the whole list first, then the rows of each plan.

    Raises:
        CurateError: a plan cannot be read, or names rows that the list lacks.
    """
    found = [fetch]
    for path in planned(out):
        try:
            rows = pl.read_parquet(path, columns=[ROW], glob=False)
        except tables.DAMAGE as error:
            raise CurateError(
                f"{path}: the plan of a further try cannot be read ({error}); name a new folder"
            ) from error
        found.append(fetch.join(rows, on=ROW, how="semi", maintain_order="left"))
        if found[-1].height != rows.height:
            raise CurateError(f"{path}: names rows that the list lacks; name a new folder")
    return found
