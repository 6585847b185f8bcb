"""The drawings of a calibration; numbers and a width to SVG text, as in `curate.report.charts`."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from curate.report import svg, words
from curate.report.calibration import Calibrated, Cell, Kind, Point
from curate.report.charts import BOTTOM, LEFT, NARROW, RIGHT, Rule, grid_lines, score_axis

_TOP = 42.0
_ROW = 30.0
_APART = 7.0
_HEAD = 22.0


def curves(data: Calibrated, rule: Rule, width: float) -> str:
    """Precision and recall against the threshold, with their intervals as bands.

    One of them is known of some threshold.
    """
    height = 300.0 if width > NARROW else 250.0
    bottom = height - BOTTOM
    thresholds = [point.threshold for point in (*data.precision, *data.recall)]
    low, high = min(thresholds), max(thresholds)
    x = svg.Scale(low, high, LEFT, width - RIGHT)
    y = svg.Scale(0, 1, bottom, _TOP)
    marks = svg.ticks(0, 1, 5)
    shown = [
        *grid_lines([(y(mark), f"{words.number(100 * mark)} %") for mark in marks], width),
        *_line(data.recall, x, y, "recall"),
        *_line(data.precision, x, y, "precision"),
        *(_wanted(data, y, width) if data.precision else []),
        *(_proposed(data, x, y, bottom, width) if data.proposed is not None else []),
        *score_axis(low, high, rule, width, bottom),
        *_columns(data, x, bottom),
    ]
    label = (
        "Precision by hand labels and recall of planted copies, against the threshold. "
        "The table below holds the numbers."
    )
    return svg.drawing(width, height, label, shown, class_="chart")


def kinds(rows: Sequence[Kind], width: float) -> str:
    """A row of dots with whiskers for each transformation: mild above medium above strong."""
    gutter = 150.0 if width > NARROW else 112.0
    x = svg.Scale(0, 1, gutter, width - 24)
    bottom = _HEAD + _ROW * len(rows)
    marks = svg.ticks(0, 1, 5 if width > NARROW else 2)
    grid = [
        svg.element("line", x1=x(mark), x2=x(mark), y1=_HEAD, y2=bottom, class_="grid")
        for mark in marks
    ]
    names = [
        svg.text(f"{words.number(100 * mark)} %", x(mark), y, text_anchor="middle")
        for y in (_HEAD - 8, bottom + 16)
        for mark in marks
    ]
    drawn = [_kind(row, _HEAD + (i + 0.5) * _ROW, x, width) for i, row in enumerate(rows)]
    label = "Recall of planted copies by transformation. The table below holds the numbers."
    return svg.drawing(width, bottom + 22, label, [*grid, *names, *drawn], class_="chart kinds")


def _line(points: Sequence[Point], x: svg.Scale, y: svg.Scale, kind: str) -> Iterable[str]:
    """The stretches of a curve where it is known, each over its band."""
    for known, group in groupby(points, lambda point: point.share.value is not None):
        part = list(group)
        if not known:
            continue
        upper = [(x(point.threshold), y(point.share.high)) for point in part]
        lower = [(x(point.threshold), y(point.share.low)) for point in reversed(part)]
        middle = [(x(point.threshold), y(point.share.value or 0.0)) for point in part]
        yield svg.element("path", d=svg.path([*upper, *lower], closed=True), class_=f"band {kind}")
        yield svg.element("path", d=svg.path(middle), class_=f"line {kind}")


def _wanted(data: Calibrated, y: svg.Scale, width: float) -> list[str]:
    """The precision that was asked for, as a line across."""
    at = y(data.wanted)
    name = f"wanted precision {words.number(100 * data.wanted)} %"
    return [
        svg.element("line", x1=LEFT, x2=width - RIGHT, y1=at, y2=at, class_="wanted"),
        svg.text(name, LEFT + 6, at + 14, class_="halo"),
    ]


def _proposed(
    data: Calibrated, x: svg.Scale, y: svg.Scale, bottom: float, width: float
) -> list[str]:
    """The proposed threshold as a line down, with a dot where it meets the precision."""
    threshold = data.proposed or 0.0
    at, point = x(threshold), data.precision_at(threshold)
    anchor, aside = ("end", -6) if at > width * 0.6 else ("start", 6)
    name = f"proposed {words.level(threshold)}"
    dot = [] if point is None or point.share.value is None else [y(point.share.value)]
    return [
        svg.element("line", x1=at, x2=at, y1=26.0, y2=bottom, class_="proposed"),
        svg.text(name, at + aside, 34.0, text_anchor=anchor, class_="halo"),
        *(svg.element("circle", cx=at, cy=high, r=4.5, class_="dot precision") for high in dot),
    ]


def _columns(data: Calibrated, x: svg.Scale, bottom: float) -> Iterable[str]:
    """Invisible columns that carry the numbers of each threshold."""
    precise = {point.threshold: point for point in data.precision}
    complete = {point.threshold: point for point in data.recall}
    thresholds = sorted(precise.keys() | complete.keys())
    half = (x.stop - x.start) / max(len(thresholds) - 1, 1) / 2
    for at in thresholds:
        said = [
            f"{name} {words.percent(points[at].share)} ({words.interval(points[at].share)})"
            for name, points in (("precision", precise), ("recall", complete))
            if at in points
        ]
        left, right = max(x(at) - half, x.start), min(x(at) + half, x.stop)
        yield svg.element(
            "g",
            svg.title(f"≥ {words.level(at)}: {', '.join(said)}"),
            svg.element("rect", x=left, y=_TOP, width=max(right - left, 1), height=bottom - _TOP),
            class_="probe",
        )


def _kind(row: Kind, middle: float, x: svg.Scale, width: float) -> str:
    name = words.shorten(words.visible(row.name.replace("_", " ")), 22 if width > NARROW else 16)
    first = middle - _APART * (len(row.cells) - 1) / 2
    return svg.element(
        "g",
        svg.text(name, x.start - 14, middle + 4, text_anchor="end", class_="name"),
        *(_cell(row.name, cell, first + i * _APART, x) for i, cell in enumerate(row.cells)),
    )


def _cell(name: str, cell: Cell, y: float, x: svg.Scale) -> str:
    part = cell.share
    hover = (
        f"{words.visible(name)}, {words.visible(cell.words)}: {words.count(cell.found)} of "
        f"{words.count(cell.copies)}, {words.percent(part)} ({words.interval(part)})"
    )
    return svg.element(
        "g",
        svg.title(hover),
        svg.element("line", x1=x(part.low), x2=x(part.high), y1=y, y2=y),
        svg.element("circle", cx=x(part.value or 0.0), cy=y, r=3.2),
        class_=f"strength-{cell.strength}",
    )
