"""What the last page of a flow draws: accuracy with and without near-duplicates, as dumbbells."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from curate.report.charts import both
from eval.figures.metrics import accuracy
from eval.figures.overlap import compare
from eval.report import charts
from eval.report.figures import Row
from eval.results import read_results
from pipelines.flow.measuring import RESULTS, results_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.flow.task import Task

_DRAWN = 30


def drawings(task: Task, finding: dict[str, Any] | None) -> dict[str, Any]:
    """The drawings of a page, for its template: each for a wide and a narrow page.

    Returns:
        `models`: the class that each is drawn in and its name; `chart`: all results, or the 30
        that near-duplicates move most; `hero`: those that the finding is about. None where there
        is nothing to draw.
    """
    rows = [row for row in _compared(task) if row.accuracy.total]
    models = list(dict.fromkeys(row.model for row in rows))
    hero = [] if finding is None else _of(rows, finding)
    return {
        "models": [(charts.colour(models, model), model) for model in models],
        "chart": _drawn(_largest(rows), models),
        "hero": _drawn(hero, models[:1]),
        "rows": len(rows),
        "drawn_rows": min(len(rows), _DRAWN),
    }


def _drawn(rows: Sequence[Row], models: Sequence[str]) -> tuple[str, str] | None:
    return both(partial(charts.dumbbells, rows, models)) if rows else None


def _compared(task: Task) -> list[Row]:
    """All results that were joined with a split, by setting, all in the order of the flow."""
    measured = results_of(task)
    if not measured:
        return []
    results = [
        item
        for item in read_results(task.run / RESULTS, measured)
        if item.setting.split is None and not item.samples["split"].null_count()
    ]
    settings = list(dict.fromkeys(str(item.setting) for item in results))
    results.sort(key=lambda item: settings.index(str(item.setting)))
    return [
        Row(
            item.model, str(item.setting), accuracy(item.samples), compare(item.samples), None, None
        )
        for item in results
    ]


def _largest(rows: list[Row]) -> list[Row]:
    """The rows that near-duplicates move most, in their order."""
    moved = sorted(range(len(rows)), key=lambda at: -_moved(rows[at]))
    return [rows[at] for at in sorted(moved[:_DRAWN])]


def _moved(row: Row) -> float:
    change = row.comparison.change.value if row.comparison else None
    return abs(change or 0.0)


def _of(rows: Sequence[Row], finding: dict[str, Any]) -> list[Row]:
    """The rows that a finding is about, by the names of their models."""
    about = [one for one in (finding["result"], finding["against"]) if one is not None]
    return [
        replace(row, word=row.model)
        for one in about
        for row in rows
        if (row.model, row.word) == (one["model"], one["setting"])
    ]
