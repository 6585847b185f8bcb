"""A picture of the study: by how much near-duplicates move each figure, and random removal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.figures.tables.study import MODELS, measured_whole
from curate.report import svg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures.results import Results

_LEFT, _WIDTH, _ROW, _TOP, _FOOT = 300, 760, 20, 44, 46
_INK, _QUIET, _BAND, _SURE = "#222", "#666", "#d7dde4", "#b3341c"


def changes(results: Results) -> str:
    """An SVG: a row per result, its change with the interval, and what random removal does."""
    rows = measured_whole(results)
    ends = [end for row in rows for part in ("change", "random_removal")
            for end in (row[part]["low"], row[part]["high"])]  # fmt: skip
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    ticks = svg.ticks(100 * low, 100 * high, 6)
    scale = svg.Scale(low, high, _LEFT, _WIDTH - 20)
    groups = list(dict.fromkeys(row["model"] for row in rows))
    height = _TOP + _ROW * (len(rows) + len(groups)) + _FOOT
    label = "By how much near-duplicates raise each accuracy, in points"
    parts = [svg.element("rect", width=_WIDTH, height=height, fill="#fff"), *_head(label)]
    parts += _axis(scale, ticks, height)
    y = _TOP
    for model in groups:
        parts.append(svg.text(MODELS[model], 6, y + 14, font_weight="bold", fill=_INK))
        y += _ROW
        for row in (one for one in rows if one["model"] == model):
            parts += _row(row, scale, y)
            y += _ROW
    return svg.drawing(
        _WIDTH, height, label, parts, xmlns="http://www.w3.org/2000/svg",
        font_family="sans-serif", font_size=12,
    ) + "\n"  # fmt: skip


def _head(label: str) -> Iterator[str]:
    yield svg.text(label, 6, 16, font_weight="bold", fill=_INK)
    yield svg.element("rect", x=6, y=24, width=26, height=10, fill=_BAND)
    yield svg.text("random removal, 95 % of draws", 38, 33, fill=_QUIET)
    yield svg.element("circle", cx=250, cy=29, r=4, fill=_SURE)
    yield svg.text("significant after adjustment", 260, 33, fill=_QUIET)
    yield svg.element("circle", cx=450, cy=29, r=4, fill=_QUIET)
    yield svg.text("not significant; lines are 95 % intervals", 460, 33, fill=_QUIET)


def _axis(scale: svg.Scale, ticks: list[float], height: float) -> Iterator[str]:
    bottom = height - _FOOT + 6
    for tick in ticks:
        x = scale(tick / 100)
        yield svg.element("line", x1=x, x2=x, y1=_TOP, y2=bottom,
                          stroke=_INK if tick == 0 else "#e5e8eb")  # fmt: skip
        yield svg.text(f"{tick:+g}" if tick else "0", x, bottom + 16, text_anchor="middle",
                       fill=_QUIET)  # fmt: skip
    yield svg.text("points, all images less clean images", (_LEFT + _WIDTH) / 2, bottom + 34,
                   text_anchor="middle", fill=_QUIET)  # fmt: skip


def _row(row: dict[str, Any], scale: svg.Scale, y: float) -> Iterator[str]:
    change, random = row["change"], row["random_removal"]
    ink = _SURE if row["p_adjusted"] <= 0.05 else _QUIET
    middle = y + _ROW / 2
    yield svg.text(row["setting"], 16, middle + 4, fill=_INK)
    left, right = scale(random["low"]), scale(random["high"])
    yield svg.element("rect", x=left, y=middle - 6, width=right - left, height=12, fill=_BAND)
    yield svg.element("line", x1=scale(change["low"]), x2=scale(change["high"]), y1=middle,
                      y2=middle, stroke=ink, stroke_width=2)  # fmt: skip
    yield svg.element("circle", cx=scale(change["value"]), cy=middle, r=4, fill=ink)
