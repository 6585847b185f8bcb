"""The drawings of a report. Each takes its numbers and a width and returns SVG text."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from curate.report import svg, words
from curate.report.charts import BOTTOM, LEFT, NARROW, RIGHT, TOP, Rule, grid_lines, score_axis
from eval.figures.effective import logit
from eval.figures.overlap_words import signed, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eval.figures.effective import Baseline
    from eval.figures.rates import Rate
    from eval.report.figures import (
        Attacks,
        Bar,
        Corrupted,
        Corruption,
        Curve,
        Dot,
        Row,
        Scatter,
        Sweep,
    )

COLOURS = 8
PARTS = ("full", "control", "clean", "overlap")
_LOGIT_TICKS = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99)
_EDGE = 0.003
_ROW = 26.0
_BAR = 11.0
_PANEL = 128.0


def colour(models: Sequence[str], model: str) -> str:
    """The class that a model is drawn in."""
    return f"m{models.index(model) % COLOURS}"


def scatter(data: Scatter, models: Sequence[str], width: float) -> str:
    """Models beside a baseline, both axes logits; a line falls from each to what is expected."""
    height = 420.0 if width > NARROW else 330.0
    bottom = height - BOTTOM - 6
    baseline = data.shift.baseline
    around = [point for point in baseline.points if all(0 < share < 1 for share in point)]
    xs = [share for share, _ in around] + [dot.x.known for dot in data.dots]
    ys = [share for _, share in around] + [dot.y.known for dot in data.dots]
    x, y = _logit_scale(xs, LEFT, width - RIGHT), _logit_scale(ys, bottom, TOP)
    shown = [
        *grid_lines([(_at(y, mark / 100), f"{mark} %") for mark in _marks(y)], width),
        *(
            svg.text(f"{mark} %", _at(x, mark / 100), bottom + 16, text_anchor="middle")
            for mark in _marks(x)
        ),
        svg.text(words.visible(data.shift.x), width - RIGHT, height - 8, text_anchor="end"),
        svg.text(words.visible(data.shift.y), LEFT, 14.0),
        *(
            svg.element("circle", cx=_at(x, a), cy=_at(y, b), r=2.2, class_="standard")
            for a, b in around
        ),
        *_baseline(baseline, x, y),
        *(_dot(dot, baseline, colour(models, dot.model), x, y) for dot in data.dots),
    ]
    label = f"Accuracy on {data.shift.y} against {data.shift.x}. The table below holds the numbers."
    return svg.drawing(width, height, label, shown, class_="chart scatter")


def corruptions(data: Corrupted, models: Sequence[str], width: float) -> str:
    """A small panel for each corruption: accuracy against severity, a line for each model."""
    columns = 5 if width > NARROW else 2
    wide = (width - LEFT) / columns
    rows = -(-len(data.corruptions) // columns)
    panels = [
        _panel(item, models, LEFT + wide * (i % columns), _PANEL * (i // columns), wide)
        for i, item in enumerate(data.corruptions)
    ]
    left = [
        svg.text(f"{mark} %", LEFT - 8, _PANEL * row + 22 + 84 * (1 - mark / 100) + 4,
                 text_anchor="end")
        for row in range(rows)
        for mark in (0, 50, 100)
    ]  # fmt: skip
    label = f"Accuracy on {data.dataset} by severity of each corruption."
    return svg.drawing(width, _PANEL * rows, label, [*left, *panels], class_="chart panels")


def attacks(data: Attacks, models: Sequence[str], width: float) -> str:
    """A bar for each attack and model, with its interval as a whisker."""
    gutter, tail = (210.0, 96.0) if width > NARROW else (128.0, 62.0)
    x = svg.Scale(0, 1, gutter, width - tail)
    marks = svg.ticks(0, 1, 5 if width > NARROW else 2)
    drawn, y = [], 4.0
    for name, group in groupby(data.bars, key=lambda bar: bar.attack):
        bars = list(group)
        middle = y + _BAR * len(bars) / 2 + 4
        shown = words.shorten(words.visible(name or "no attack"), 27 if width > NARROW else 16)
        drawn.append(svg.text(shown, gutter - 10, middle, text_anchor="end", class_="name"))
        drawn += [
            _bar(bar, colour(models, bar.model), y + i * _BAR, x, width)
            for i, bar in enumerate(bars)
        ]
        y += _BAR * len(bars) + 8
    grid = [svg.element("line", x1=x(m), x2=x(m), y1=0.0, y2=y, class_="grid") for m in marks]
    names = [
        svg.text(f"{words.number(100 * m)} %", x(m), y + 16, text_anchor="middle") for m in marks
    ]
    label = f"Accuracy on {data.source} under attack. The table below holds the numbers."
    return svg.drawing(width, y + 22, label, [*grid, *drawn, *names], class_="chart attacks")


def dumbbells(rows: Sequence[Row], models: Sequence[str], width: float) -> str:
    """Accuracy on all, control, clean and overlapping images, a line for each result.

    With several models, a square in its colour says of which one a result is.
    """
    gutter = 250.0 if width > NARROW else 132.0
    known = [rate for row in rows for _, rate in _parts(row) if rate.total]
    low, high = min(rate.low for rate in known), max(rate.high for rate in known)
    x = svg.Scale(low, high, gutter, width - 20)
    marks = svg.ticks(low, high, 6 if width > NARROW else 3)
    bottom = _ROW * len(rows) + 8
    grid = [svg.element("line", x1=x(m), x2=x(m), y1=0.0, y2=bottom, class_="grid") for m in marks]
    names = [
        svg.text(f"{words.number(100 * m)} %", x(m), bottom + 16, text_anchor="middle")
        for m in marks
    ]
    drawn = [_dumbbell(row, (i + 0.5) * _ROW + 4, x, width) for i, row in enumerate(rows)]
    if len(models) > 1:
        drawn += [
            svg.element(
                "g",
                svg.element("rect", x=gutter - 11, y=(i + 0.5) * _ROW, width=8.0, height=8.0),
                class_=colour(models, row.model),
            )
            for i, row in enumerate(rows)
        ]
    label = "Accuracy on the splits of each setting. The table below holds the numbers."
    return svg.drawing(width, bottom + 22, label, [*grid, *drawn, *names], class_="chart splits")


def sweep(data: Sweep, width: float) -> str:
    """What overlap adds to the accuracy, against the threshold, with its interval as a band."""
    height = 250.0 if width > NARROW else 210.0
    bottom = height - BOTTOM
    known = [point for point in data.points if point.change.value is not None]
    low, high = data.points[0].threshold, data.points[-1].threshold
    ends = [0.0, *(end for point in known for end in (point.change.low, point.change.high))]
    x = svg.Scale(low, high, LEFT, width - RIGHT)
    y = svg.Scale(min(ends), max(*ends, min(ends) + 0.002), bottom, TOP)
    upper = [(x(point.threshold), y(point.change.high)) for point in known]
    lower = [(x(point.threshold), y(point.change.low)) for point in reversed(known)]
    line = [(x(point.threshold), y(point.change.value or 0.0)) for point in known]
    hover = [
        svg.element(
            "circle",
            svg.title(
                f"≥ {words.level(point.threshold)}: {words.images(point.overlap.total)}, "
                f"{signed(point.change.value or 0.0)} ({span(point.change.low, point.change.high)})"
            ),
            cx=x(point.threshold), cy=y(point.change.value or 0.0), r=3.0, class_="dot",
        )
        for point in known
    ]  # fmt: skip
    shown = [
        *grid_lines(
            [(y(mark), f"{100 * mark:+.3g}") for mark in svg.ticks(y.low, y.high, 4)], width
        ),
        svg.element("path", d=svg.path([*upper, *lower], closed=True), class_="band"),
        svg.element("path", d=svg.path(line), class_="line"),
        *score_axis(low, high, Rule(data.threshold, "score"), width, bottom),
        *hover,
    ]
    label = f"Accuracy of {data.word} on all less that on clean images, against the threshold."
    return svg.drawing(width, height, label, shown, class_="chart")


def _logit_scale(shares: Sequence[float], start: float, stop: float) -> svg.Scale:
    inner = [min(max(share, _EDGE), 1 - _EDGE) for share in shares]
    low, high = (float(logit(np.float64(end))) for end in (min(inner), max(inner)))
    aside = max(0.05 * (high - low), 0.1)
    return svg.Scale(low - aside, high + aside, start, stop)


def _at(scale: svg.Scale, share: float) -> float:
    """Where a share is on a logit scale; what lies outside is drawn at the edge."""
    place = float(logit(np.float64(min(max(share, 1e-6), 1 - 1e-6))))
    return scale(min(max(place, scale.low), scale.high))


def _marks(scale: svg.Scale) -> list[int]:
    """Round shares in percent on a logit scale, as many as have room."""
    shown: list[int] = []
    last = float("-inf")
    for mark in _LOGIT_TICKS:
        place = float(logit(np.float64(mark / 100)))
        if scale.low <= place <= scale.high and abs(scale(place) - last) >= 30:  # noqa: PLR2004
            shown.append(mark)
            last = scale(place)
    return shown


def _baseline(baseline: Baseline, x: svg.Scale, y: svg.Scale) -> Iterable[str]:
    """The line or lines, broken at the knot."""
    knot = float("inf") if baseline.knot is None else baseline.knot
    shares = 1 / (1 + np.exp(-np.linspace(x.low, x.high, 60)))
    for side in (shares[shares < knot], shares[shares >= knot]):
        places = [(_at(x, share), baseline.predict(share)) for share in side.tolist()]
        inside = [
            (a, y(float(logit(np.float64(b)))))
            for a, b in places
            if y.low <= float(logit(np.float64(b))) <= y.high
        ]
        if len(inside) > 1:
            yield svg.element("path", d=svg.path(inside), class_="baseline")


def _dot(dot: Dot, baseline: Baseline, kind: str, x: svg.Scale, y: svg.Scale) -> str:
    a, b = _at(x, dot.x.known), _at(y, dot.y.known)
    expected = _at(y, baseline.predict(dot.x.known))
    hover = (
        f"{words.visible(dot.model)}: {words.percent(dot.x)} and {words.percent(dot.y)}, "
        f"{signed(dot.above.value or 0.0)} points above the line "
        f"({span(dot.above.low, dot.above.high)})"
    )
    return svg.element(
        "g",
        svg.title(hover),
        svg.element("line", x1=a, x2=a, y1=b, y2=expected, class_="above"),
        svg.element("line", x1=_at(x, dot.x.low), x2=_at(x, dot.x.high), y1=b, y2=b),
        svg.element("line", x1=a, x2=a, y1=_at(y, dot.y.low), y2=_at(y, dot.y.high)),
        svg.element("circle", cx=a, cy=b, r=5.0),
        class_=kind,
    )


def _panel(item: Corruption, models: Sequence[str], left: float, top: float, wide: float) -> str:
    x = svg.Scale(0, 5, left + 6, left + wide - 12)
    y = svg.Scale(0, 1, top + 106, top + 22)
    grid = [
        svg.element("line", x1=x.start, x2=x.stop, y1=y(mark), y2=y(mark), class_="grid")
        for mark in (0.0, 0.5, 1.0)
    ]
    lines = [_curve(item.name, curve, colour(models, curve.model), x, y) for curve in item.curves]
    name = words.shorten(words.visible(item.name.replace("_", " ")), 20)
    return svg.element(
        "g",
        svg.text(name, x.start, top + 14, class_="name"),
        *grid,
        *lines,
        *(svg.text(str(s), x(s), top + 120, text_anchor="middle") for s in (0, 1, 3, 5)),
    )


def _curve(name: str, curve: Curve, kind: str, x: svg.Scale, y: svg.Scale) -> str:
    known = [(severity, rate) for severity, rate in curve.points if rate.total]
    said = ", ".join(f"{severity}: {words.percent(rate)}" for severity, rate in known)
    points = [(x(severity), y(rate.known)) for severity, rate in known]
    whiskers = [
        svg.element("line", x1=x(s), x2=x(s), y1=y(rate.low), y2=y(rate.high)) for s, rate in known
    ]
    return svg.element(
        "g",
        svg.title(f"{words.visible(curve.model)}, {words.visible(name)}: {said}"),
        *([svg.element("path", d=svg.path(points))] if points else []),
        *whiskers,
        *(svg.element("circle", cx=a, cy=b, r=2.2) for a, b in points),
        class_=kind,
    )


def _bar(bar: Bar, kind: str, y: float, x: svg.Scale, width: float) -> str:
    rate, middle = bar.rate, y + _BAR / 2 - 0.5
    doubt = f", unreliable: {words.visible(bar.unreliable)}" if bar.unreliable else ""
    hover = (
        f"{words.visible(bar.model)}, {words.visible(bar.attack or 'no attack')}: "
        f"{words.percent(rate)} ({words.interval(rate)}){doubt}"
    )
    return svg.element(
        "g",
        svg.title(hover),
        svg.element(
            "rect", x=x.start, y=y, height=_BAR - 1.5, width=max(x(rate.known) - x.start, 0.5)
        ),
        svg.element("line", x1=x(rate.low), x2=x(rate.high), y1=middle, y2=middle, class_="ends"),
        svg.text(
            words.percent(rate) + (" ?" if bar.unreliable else ""),
            width - 2, middle + 4, text_anchor="end",
        ),
        class_=f"{kind} doubt" if bar.unreliable else kind,
    )  # fmt: skip


def _parts(row: Row) -> list[tuple[str, Rate]]:
    """The splits of a result that it has, drawn one above the other in this order."""
    assert row.comparison is not None
    found = {name: getattr(row.comparison, name) for name in PARTS}
    return [(name, rate) for name, rate in found.items() if rate is not None]


def _dumbbell(row: Row, middle: float, x: svg.Scale, width: float) -> str:
    rates = [(name, rate) for name, rate in _parts(row) if rate.total]
    shares = [x(rate.known) for _, rate in rates]
    name = words.shorten(words.visible(row.word), 32 if width > NARROW else 16)
    said = ", ".join(
        f"{part} {words.percent(rate)} ({words.interval(rate)})" for part, rate in rates
    )
    return svg.element(
        "g",
        svg.title(f"{words.visible(row.model)}, {words.visible(row.word)}: {said}"),
        svg.text(name, x.start - 16, middle + 4, text_anchor="end", class_="name"),
        svg.element("line", x1=min(shares), x2=max(shares), y1=middle, y2=middle, class_="bar"),
        *(_part(part, rate, middle, x) for part, rate in rates),
    )


def _part(name: str, rate: Rate, middle: float, x: svg.Scale) -> str:
    aside = {"full": 0.0, "control": 0.0, "clean": -6.0, "overlap": 6.0}[name]
    y = middle + aside
    ends = svg.element("line", x1=x(rate.low), x2=x(rate.high), y1=y, y2=y)
    return svg.element(
        "g",
        ends if aside else "",
        svg.element("circle", cx=x(rate.known), cy=y, r=4.0 if name == "full" else 3.4),
        class_=f"part-{name}",
    )
