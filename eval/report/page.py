"""The page itself: numbers, drawings and pictures put into the template."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from curate import __version__, files
from curate.report import charts as shared
from curate.report import provenance, rendering
from eval.figures import health
from eval.figures.overlap_words import sentence, signed, span
from eval.report import charts
from eval.report.figures import Numbers, Row, numbers
from eval.report.inputs import Example, Inputs, check
from eval.report.tiles import TIMES, tiles
from eval.results import numbers as stated
from eval.results import summary_rows

if TYPE_CHECKING:
    from pathlib import Path

    from eval.figures.rates import Rate

_DRAWN = 30
_TABLE_ROWS = 1000
_EXAMPLES = 24
_NAMED = 4  # models; of more, no one is named in the headline


def build_report(inputs: Inputs, out: Path) -> None:
    """Write `out/index.html`, one page that needs no other file, and `out/report.json`.

    The same inputs give the same bytes: no clock, and random numbers from fixed seeds alone.

    Raises:
        CurateError: the inputs make no report (see `eval.report.inputs.check`).
    """
    check(inputs)
    found = numbers(inputs)
    files.write_bytes(out / "index.html", render(inputs, found).encode())
    files.write_json(out / "report.json", facts(inputs, found))


def render(inputs: Inputs, found: Numbers) -> str:
    """The page as text."""
    style = rendering.styles("curate.report", "eval.report")
    return rendering.render("eval", "report", style, "", _context(inputs, found))


def conclusion(found: Numbers) -> str | None:
    """What overlap adds, in plain words; None where no result has splits."""
    compared = {_name(found, row): row.comparison for row in found.rows if row.comparison}
    return sentence(compared) if compared else None


def headline(found: Numbers) -> str:
    """The result in one line: the accuracy as the images are, and the least under attack.

    Of many models, from which to which accuracy they go.
    """
    row = found.rows[0]
    clean = next((r for r in found.rows if "@" not in r.word and r.accuracy.total), row)
    same = [r.accuracy for r in found.rows if r.word == clean.word and r.accuracy.total]
    if len(same) > _NAMED:
        ends = [_percent(end(same, key=lambda rate: rate.known)) for end in (min, max)]
        return f"{len(same)} models are right on {' to '.join(ends)} of {clean.word}"
    said = f"{clean.model} is right on {_percent(clean.accuracy)} of {clean.word}"
    attacked = [
        bar
        for data in found.attacks
        for bar in data.bars
        if data.source == clean.word and bar.attack and bar.model == clean.model
    ]
    trusted = [bar for bar in attacked if not bar.unreliable]
    if not trusted:
        return said
    least = min(trusted, key=lambda bar: bar.rate.known)
    return f"{said}, and on {_percent(least.rate)} under {least.attack}"


def _percent(rate: Rate) -> str:
    return "no image" if rate.value is None else f"{100 * rate.value:.1f}\N{NO-BREAK SPACE}%"


def _name(found: Numbers, row: Row) -> str:
    """A result within a sentence."""
    return row.word if len(found.models) == 1 else f"{row.model} on {row.word}"


def _context(inputs: Inputs, found: Numbers) -> dict[str, Any]:
    models, compared = found.models, found.compared
    drawn = [row for row in compared if row.accuracy.total][:_DRAWN]
    return {
        "numbers": found,
        "headline": headline(found),
        "conclusion": conclusion(found),
        "models": [(charts.colour(models, model), model) for model in models],
        "scatters": [
            (data, shared.both(partial(charts.scatter, data, models))) for data in found.scatters
        ],
        "corrupted": [
            (data, shared.both(partial(charts.corruptions, data, models)))
            for data in found.corrupted
        ],
        "attacks": [
            (data, shared.both(partial(charts.attacks, data, models))) for data in found.attacks
        ],
        "compared": compared,
        "dumbbells": shared.both(partial(charts.dumbbells, drawn, models)) if drawn else None,
        "drawn": len(drawn),
        "sweeps": [(data, shared.both(partial(charts.sweep, data))) for data in found.sweeps],
        "examples": [(example, tiles(example)) for example in inputs.examples[:_EXAMPLES]],
        "examples_total": len(inputs.examples),
        "times": TIMES,
        "facts": [
            (item.model, str(item.setting), list(provenance.flatten(dict(item.facts))))
            for item in inputs.results
        ],
        "versions": inputs.versions,
        "command": inputs.command,
        "signed": signed,
        "span": span,
        "rows": _TABLE_ROWS,
        "version": __version__,
    }


def facts(inputs: Inputs, found: Numbers) -> dict[str, Any]:
    """What the page shows, for machines."""
    results = {(item.model, str(item.setting)): item for item in inputs.results}
    said = {
        "format": 1,
        "headline": headline(found),
        "conclusion": conclusion(found),
        "results": [
            {
                "model": row.model,
                "setting": row.word,
                "numbers": stated(
                    results[row.model, row.word].samples, results[row.model, row.word].setting
                ),
                "comparison": asdict(row.comparison) if row.comparison else None,
                "adjusted_p": row.adjusted,
                "unreliable": row.unreliable,
            }
            for row in found.rows
        ],
        "clip_benchmark": summary_rows(inputs.results),
        "effective_robustness": [
            {"x": data.shift.x, "y": data.shift.y, **asdict(dot)}
            for data in found.scatters
            for dot in data.dots
        ],
        "corruption_errors": {
            data.dataset: [asdict(row) for row in data.errors] for data in found.corrupted
        },
        "sweeps": [asdict(data) for data in found.sweeps],
        "health": health.table(found.health).to_dicts(),
        "examples": [_example(example) for example in inputs.examples],
        "versions": dict(inputs.versions),
        "command": inputs.command,
    }
    plain: dict[str, Any] = json.loads(json.dumps(_finite(said)))
    return plain


def _example(example: Example) -> dict[str, Any]:
    names = ("model", "setting", "id", "label", "before", "after")
    return {name: getattr(example, name) for name in names}


def _finite(value: Any) -> Any:
    """The same without infinite numbers, which JSON does not know: null is what is not known."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
