"""The drawings of a report. Each takes its numbers and a width and returns SVG text."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curate.report import svg, words
from curate.report.figures import Bin, Group, Histogram, SweepPoint

WIDE, NARROW = 880, 360
TOP, LEFT, RIGHT, BOTTOM = 26.0, 46.0, 14.0, 40.0
_PARTS = ("clean", "overlap", "unknown")
_SLIVER = 3.0
_ROW = 24.0


@dataclass(frozen=True)
class Rule:
    """The threshold in use, and what the scores are that it is compared with."""

    threshold: float
    score: str


def both(draw: Callable[[float], str]) -> tuple[str, str]:
    """The same drawing for a wide and for a narrow page; the style sheet shows one of them."""
    return draw(WIDE), draw(NARROW)


def proportion(counts: Mapping[str, int], width: float) -> str:
    """One bar: clean, overlap, unknown. A part that is not empty is never too thin to be seen."""
    shown = [(name, counts[name]) for name in _PARTS if counts[name]]
    total = sum(number for _, number in shown)
    free = width - _SLIVER * len(shown)
    pieces, x = [], 0.0
    for name, number in shown:
        wide = _SLIVER + free * number / total
        label = svg.title(f"{name}: {words.images(number)}")
        pieces.append(
            svg.element(
                "rect", label, x=x, y=0.0, width=max(wide - 1.5, 1.5), height=14.0, class_=name
            )
        )
        x += wide
    label = ", ".join(f"{words.count(number)} {name}" for name, number in shown) or "no images"
    return svg.drawing(width, 14, f"Split: {label}", pieces, class_="proportion")


def histogram(data: Histogram, rule: Rule, width: float) -> str:
    """Bars of nearest scores, coloured from the threshold on, on a linear or logarithmic axis."""
    height = 250.0 if width > NARROW else 210.0
    bottom = height - BOTTOM
    low, high = data.bins[0].low, data.bins[-1].high
    x = svg.Scale(low, high, LEFT, width - RIGHT)
    top = max((item.count for item in data.bins), default=0)
    lift = math.log1p if data.log else float
    y = svg.Scale(0, lift(max(top, 1)), bottom, TOP)
    marks = _log_ticks(top) if data.log else _whole_ticks(top)
    flagged = sum(item.count for item in data.bins if item.flagged)
    shown = [
        *grid_lines([(y(lift(mark)), words.count(int(mark))) for mark in marks], width),
        *(_bar(item, x, y(lift(item.count)), bottom) for item in data.bins if item.count),
        *score_axis(low, high, rule, width, bottom),
    ]
    label = (
        f"Histogram of the best score of each test image; {words.images(flagged)} at or above the "
        f"threshold {words.level(rule.threshold)}. The table below holds the numbers."
    )
    return svg.drawing(width, height, label, shown, class_="chart")


def sweep(points: Sequence[SweepPoint], rule: Rule, width: float) -> str:
    """Flagged share against threshold, with its interval as a band."""
    height = 250.0 if width > NARROW else 210.0
    bottom = height - BOTTOM
    low, high = points[0].threshold, points[-1].threshold
    x = svg.Scale(low, high, LEFT, width - RIGHT)
    most = max(max(point.share.value for point in points) * 1.12, 0.002)
    marks = svg.ticks(0, most, 4)
    y = svg.Scale(0, most, bottom, TOP)
    upper = [(x(point.threshold), y(min(point.share.high, most))) for point in points]
    lower = [(x(point.threshold), y(min(point.share.low, most))) for point in reversed(points)]
    line = [(x(point.threshold), y(point.share.value)) for point in points]
    shown = [
        *grid_lines([(y(mark), f"{words.number(100 * mark)} %") for mark in marks], width),
        svg.element("path", d=svg.path([*upper, *lower], closed=True), class_="band"),
        svg.element("path", d=svg.path(line), class_="line"),
        *score_axis(low, high, rule, width, bottom),
        *_hover(points, x, y, bottom),
        *_current(points, rule.threshold, x, y),
    ]
    label = (
        "Share of test images flagged, against the threshold. The table below holds the numbers."
    )
    return svg.drawing(width, height, label, shown, class_="chart")


def classes(rows: Sequence[Group], width: float) -> str:
    """One bar a class, with its interval as a whisker."""
    gutter = 190.0 if width > NARROW else 104.0
    tail = 120.0 if width > NARROW else 76.0
    most = max((row.share.high if row.share.total else 0.0 for row in rows), default=0.0)
    marks = svg.ticks(0, max(most, 0.01), 5 if width > NARROW else 3)
    x = svg.Scale(0, max(most, 0.01), gutter, width - tail)
    bottom = _ROW * len(rows) + 6
    grid = [
        svg.element("line", x1=x(mark), x2=x(mark), y1=0.0, y2=bottom, class_="grid")
        for mark in marks
    ]
    names = [
        svg.text(f"{words.number(100 * mark)} %", x(mark), bottom + 16, text_anchor="middle")
        for mark in marks
    ]
    bars = [_class_row(row, i * _ROW + 4, x, width) for i, row in enumerate(rows)]
    label = "Overlap share of each class with 95 % intervals. The table below holds the numbers."
    return svg.drawing(width, bottom + 22, label, [*grid, *bars, *names], class_="chart")


def _class_row(row: Group, y: float, x: svg.Scale, width: float) -> str:
    part = row.share
    middle = y + _ROW / 2 - 4
    name = words.shorten(words.visible(row.name), 26 if width > NARROW else 14)
    tail = f"{words.count(part.hits)} of {words.count(part.total)}"
    whisker = [
        svg.element("line", x1=x(part.low), x2=x(part.high), y1=middle, y2=middle),
        *(
            svg.element("line", x1=x(end), x2=x(end), y1=middle - 3, y2=middle + 3)
            for end in (part.low, part.high)
        ),
    ]
    hover = f"{words.visible(row.name)}: {tail}, {words.percent(part)} ({words.interval(part)})"
    return svg.element(
        "g",
        svg.title(hover),
        svg.text(name, x.start - 10, middle + 4, text_anchor="end", class_="name"),
        svg.element(
            "rect",
            x=x.start,
            y=y,
            width=max(x(part.value) - x.start, 0.0),
            height=_ROW - 8,
            class_="overlap",
        ),
        svg.element("g", *(whisker if part.total else []), class_="whisker"),
        svg.text(tail, width - 2, middle + 4, text_anchor="end"),
    )


def _bar(item: Bin, x: svg.Scale, top: float, bottom: float) -> str:
    wide = x(item.high) - x(item.low)
    gap = min(1.0, wide / 5)
    span = f"{words.level(item.low)} to {words.level(item.high)}"
    return svg.element(
        "rect",
        svg.title(f"{span}: {words.images(item.count)}"),
        x=x(item.low) + gap / 2,
        y=top,
        width=wide - gap,
        height=bottom - top,
        class_="overlap" if item.flagged else "clean",
    )


def grid_lines(marks: Iterable[tuple[float, str]], width: float) -> list[str]:
    """Horizontal grid lines with their names on the left."""
    return [
        piece
        for y, name in marks
        for piece in (
            svg.element("line", x1=LEFT, x2=width - RIGHT, y1=y, y2=y, class_="grid"),
            svg.text(name, LEFT - 7, y + 4, text_anchor="end"),
        )
    ]


def score_axis(low: float, high: float, rule: Rule, width: float, bottom: float) -> list[str]:
    """Score ticks, the axis name, and the threshold as a marked line."""
    x = svg.Scale(low, high, LEFT, width - RIGHT)
    marks = svg.ticks(low, high, 8 if width > NARROW else 4)
    at = x(rule.threshold)
    anchor = "end" if at > width * 0.6 else "start"
    aside = -6 if anchor == "end" else 6
    return [
        *(
            svg.text(words.level(mark), x(mark), bottom + 16, text_anchor="middle")
            for mark in marks
        ),
        svg.element("line", x1=LEFT, x2=width - RIGHT, y1=bottom, y2=bottom, class_="axis"),
        svg.text(rule.score, width - RIGHT, bottom + 33, text_anchor="end", class_="unit"),
        svg.element("line", x1=at, x2=at, y1=10.0, y2=bottom, class_="threshold"),
        svg.text(
            f"threshold {words.level(rule.threshold)}",
            at + aside,
            18.0,
            text_anchor=anchor,
            class_="mark",
        ),
    ]


def _hover(
    points: Sequence[SweepPoint], x: svg.Scale, y: svg.Scale, bottom: float
) -> Iterable[str]:
    """Invisible columns that carry the numbers of each point, with a dot to show where."""
    half = (x(points[-1].threshold) - x(points[0].threshold)) / max(len(points) - 1, 1) / 2
    for point in points:
        part = point.share
        yield svg.element(
            "g",
            svg.title(
                f"≥ {words.level(point.threshold)}: {words.images(part.hits)}, "
                f"{words.percent(part)} ({words.interval(part)})"
            ),
            svg.element(
                "rect",
                x=x(point.threshold) - half,
                y=TOP,
                width=max(2 * half, 1.0),
                height=bottom - TOP,
            ),
            svg.element("circle", cx=x(point.threshold), cy=y(part.value), r=3.5),
            class_="probe",
        )


def _current(
    points: Sequence[SweepPoint], threshold: float, x: svg.Scale, y: svg.Scale
) -> list[str]:
    """The dot at the threshold in use."""
    found = [point for point in points if point.threshold == threshold]
    return [
        svg.element("circle", cx=x(threshold), cy=y(point.share.value), r=4.5, class_="dot")
        for point in found
    ]


def _whole_ticks(top: int) -> list[float]:
    return [mark for mark in svg.ticks(0, max(top, 1), 4) if mark == int(mark)]


def _log_ticks(top: int) -> list[float]:
    return [0.0, *(10.0**power for power in range(math.floor(math.log10(top)) + 1))]


def gauge(score: float, floor: float, threshold: float) -> str:
    """Where a score lies between the floor and 1; decoration, the score is beside it in figures."""
    low = min(floor, score)
    x = svg.Scale(low, max(1.0, score), 4, 92)
    kind = "overlap" if np.float32(score) >= np.float32(threshold) else "clean"
    return svg.element(
        "svg",
        svg.element("line", x1=4.0, x2=92.0, y1=6.0, y2=6.0, class_="grid"),
        svg.element("line", x1=x(threshold), x2=x(threshold), y1=1.5, y2=10.5, class_="limit"),
        svg.element("circle", cx=x(score), cy=6.0, r=3.5, class_=kind),
        viewBox="0 0 96 12",
        aria_hidden="true",
        class_="gauge",
    )
