"""The figures of a report as SVG and PNG files, for papers and slides."""

from __future__ import annotations

import io
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import files
from curate.errors import CurateError
from curate.report import words
from eval.figures.effective import expit, logit
from eval.report.charts import PARTS
from eval.report.figures import numbers
from eval.report.inputs import check

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from eval.report.figures import Attacks, Corrupted, Numbers, Row, Scatter, Sweep
    from eval.report.inputs import Inputs

_COLOURS = ("#c4512d", "#2f6d8c", "#5d8a3a", "#8a5aa8", "#b58300", "#2b8a80", "#a83f6b", "#5a626c")
_PART_COLOURS = {"full": "#1d2126", "control": "#948b77", "clean": "#6f8d9d", "overlap": "#c4512d"}
_MARKS = np.array([1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99]) / 100
_DRAWN = 30
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "curate",  # names of parts, which are random without it
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


def write_plots(inputs: Inputs, folder: Path) -> tuple[str, ...]:
    """Write every figure as `<name>.svg` and `<name>.png`; the names, in the order of the report.

    Raises:
        CurateError: the inputs make no report, or matplotlib is not installed.
    """
    check(inputs)
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise CurateError("figures need matplotlib: pip install 'curate[eval]'") from error
    names = []
    with mpl.rc_context(_STYLE):
        for name, figure in _figures(numbers(inputs)):
            names.append(name)
            for kind in ("svg", "png"):
                buffer = io.BytesIO()
                stamp = {"Date": None} if kind == "svg" else {"Software": None}
                figure.savefig(buffer, format=kind, dpi=160, metadata=stamp, bbox_inches="tight")
                files.write_bytes(folder / f"{name}.{kind}", buffer.getvalue())
    return tuple(names)


def _figures(found: Numbers) -> Iterator[tuple[str, Figure]]:
    models = found.models
    for line in found.scatters:
        yield _file(f"effective-{line.shift.x}-{line.shift.y}"), _scatter(line, models)
    for shift in found.corrupted:
        yield _file(f"corruptions-{shift.dataset}"), _corrupted(shift, models)
    for source in found.attacks:
        yield _file(f"attacks-{source.source}"), _attacks(source, models)
    rows = [row for row in found.compared if row.accuracy.total][:_DRAWN]
    if rows:
        yield "splits", _dumbbells(rows, models)
    for place, sweep in enumerate(found.sweeps):
        yield _file(f"thresholds-{sweep.word}-{place}"), _sweep(sweep)


def _file(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:120]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _plain(text: str) -> str:
    """A foreign name without what disturbs, and that matplotlib does not read as mathematics."""
    return words.visible(text).replace("$", r"\$")


def _scatter(data: Scatter, models: Sequence[str]) -> Figure:
    figure, axes = _figure(5.2, 4.2)
    points = np.array([p for p in data.shift.baseline.points if all(0 < share < 1 for share in p)])
    x, y = logit(points).T
    axes.scatter(x, y, s=9, color="#948b77", alpha=0.5, label="standard training")
    low, high = axes.get_xlim()
    ends = [float(logit(np.float64(dot.x.known))) for dot in data.dots if 0 < dot.x.known < 1]
    along = np.linspace(min(low, *ends, high), max(high, *ends, low), 200)
    line = [float(logit(np.float64(data.shift.baseline.predict(p)))) for p in expit(along).tolist()]
    axes.plot(along, line, color="#5a626c", linewidth=1)
    for dot in data.dots:
        shares = np.clip([dot.x.known, dot.y.known], 1e-3, 1 - 1e-3)
        bounds = np.clip([[dot.x.low, dot.x.high], [dot.y.low, dot.y.high]], 1e-3, 1 - 1e-3)
        at, ends_of = logit(shares), logit(bounds)
        axes.errorbar(
            at[0], at[1],
            xerr=np.abs(ends_of[0] - at[0])[:, None], yerr=np.abs(ends_of[1] - at[1])[:, None],
            fmt="o", markersize=5, linewidth=1, color=_colour(models, dot.model),
            label=_plain(dot.model),
        )  # fmt: skip
    for axis, (start, stop) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        marks = [p for p in _MARKS if start <= float(logit(p)) <= stop]
        axis.set_ticks([float(logit(p)) for p in marks], [f"{100 * p:g} %" for p in marks])
    axes.set_xlabel(_plain(data.shift.x))
    axes.set_ylabel(_plain(data.shift.y))
    axes.legend(frameon=False, fontsize=8)
    return figure


def _corrupted(data: Corrupted, models: Sequence[str]) -> Figure:
    from matplotlib.figure import Figure

    columns = min(5, len(data.corruptions))
    lines = -(-len(data.corruptions) // columns)
    figure = Figure(figsize=(1.9 * columns, 1.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(data.corruptions) :]:
        axes.set_visible(False)
    for axes, item in zip(grid, data.corruptions, strict=False):
        for curve in item.curves:
            known = [(severity, rate) for severity, rate in curve.points if rate.total]
            if not known:
                continue
            values = 100 * np.array([[rate.known, rate.low, rate.high] for _, rate in known]).T
            places, colour = [severity for severity, _ in known], _colour(models, curve.model)
            axes.plot(places, values[0], color=colour, linewidth=1.2, label=_plain(curve.model))
            axes.fill_between(places, values[1], values[2], color=colour, alpha=0.2, linewidth=0)
        axes.set(ylim=(0, 100), xticks=[0, 1, 3, 5])
        axes.set_title(_plain(item.name.replace("_", " ")), fontsize=8)
        axes.grid(axis="y", linewidth=0.4)
    if len(models) > 1:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _attacks(data: Attacks, models: Sequence[str]) -> Figure:
    groups = [(name, list(bars)) for name, bars in groupby(data.bars, key=lambda bar: bar.attack)]
    figure, axes = _figure(6.0, 0.6 + 0.16 * len(data.bars) + 0.12 * len(groups))
    y, ticks, seen = 0.0, [], set()
    for name, bars in groups:
        ticks.append((y + (len(bars) - 1) / 2, name or "no attack"))
        for bar in bars:
            value, colour = 100 * bar.rate.known, _colour(models, bar.model)
            axes.barh(
                y, value, height=0.85, color="none" if bar.unreliable else colour,
                edgecolor=colour, linestyle="--" if bar.unreliable else "-",
                label=None if bar.model in seen else _plain(bar.model),
            )  # fmt: skip
            seen.add(bar.model)
            axes.plot([100 * bar.rate.low, 100 * bar.rate.high], [y, y], color="k", linewidth=0.9)
            y += 1
        y += 0.7
    axes.set_yticks([at for at, _ in ticks], [_plain(name) for _, name in ticks])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel=f"accuracy on {_plain(data.source)}, %")
    axes.grid(axis="x", linewidth=0.4)
    if len(models) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _dumbbells(rows: Sequence[Row], models: Sequence[str]) -> Figure:
    figure, axes = _figure(6.0, 0.8 + 0.24 * len(rows))
    for y, row in enumerate(rows):
        for name in PARTS:
            rate = getattr(row.comparison, name)
            if rate is None or not rate.total:
                continue
            place = y + {"clean": -0.18, "overlap": 0.18}.get(name, 0.0)
            colour = _PART_COLOURS[name]
            if name in {"clean", "overlap"}:
                ends = [100 * rate.low, 100 * rate.high]
                axes.plot(ends, [place, place], color=colour, linewidth=1)
            axes.plot(
                100 * rate.known, place, "o", markersize=4, color=colour,
                label=("all" if name == "full" else name) if y == 0 else None,
            )  # fmt: skip
    several = len(models) > 1
    names = [f"{row.word} ({row.model})" if several else row.word for row in rows]
    axes.set_yticks(range(len(rows)), [_plain(name) for name in names], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="x", linewidth=0.4)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure


def _sweep(data: Sweep) -> Figure:
    figure, axes = _figure(5.2, 3.0)
    known = [point for point in data.points if point.change.value is not None]
    x = [point.threshold for point in known]
    values = [(p.change.value or 0.0, p.change.low, p.change.high) for p in known]
    middle, low, high = 100 * np.array(values).T
    axes.fill_between(x, low, high, color=_COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(x, middle, color=_COLOURS[0], linewidth=1.5)
    axes.axvline(data.threshold, color="k", linewidth=0.9, linestyle="--")
    axes.axhline(0, color="k", linewidth=0.6)
    axes.set(xlabel="threshold", ylabel="all − clean, points", title=_plain(data.word))  # noqa: RUF001
    return figure


def _colour(models: Sequence[str], model: str) -> str:
    return _COLOURS[models.index(model) % len(_COLOURS)]
