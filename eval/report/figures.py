"""The numbers of a report: pure functions of results, before they are put into words or drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.figures import health, metrics
from eval.figures.effective import effective_robustness
from eval.figures.overlap import adjust, compare, effective_change, sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eval.figures.health import Health
    from eval.figures.overlap import Comparison, SweepPoint
    from eval.figures.rates import Number, Rate
    from eval.report.inputs import Inputs, Shift
    from eval.results import Result
    from eval.settings import Aim

_SWEEP_POINTS = 25


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        model: its name.
        word: of the setting.
        accuracy: on all images.
        comparison: with its splits; None: it has none, or is of one split alone.
        adjusted: p value of the binomial test, by Holm over all results.
        unreliable: why the accuracy is not to be trusted, or None.
    """

    model: str
    word: str
    accuracy: Rate
    comparison: Comparison | None
    adjusted: float | None
    unreliable: str | None


@dataclass(frozen=True)
class Curve:
    """Accuracy of a model by severity; severity 0 are the images as they are."""

    model: str
    points: tuple[tuple[int, Rate], ...]


@dataclass(frozen=True)
class Corruption:
    """One corruption, a curve for each model."""

    name: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class CorruptionError:
    """The errors of a model over corruptions.

    Attributes:
        model: its name.
        mean: over corruptions and severities; None where a severity lacks.
        mce: relative to AlexNet; None where the images are not ImageNet-C's or a corruption lacks.
    """

    model: str
    mean: float | None
    mce: float | None


@dataclass(frozen=True)
class Corrupted:
    """All corruptions of a data set."""

    dataset: str
    corruptions: tuple[Corruption, ...]
    errors: tuple[CorruptionError, ...]


@dataclass(frozen=True)
class Bar:
    """What an attack leaves of a model's accuracy.

    Attributes:
        model: its name.
        attack: with its radius, in words; None: no attack.
        rate: of images that are right.
        unreliable: why that is not to be trusted, or None.
    """

    model: str
    attack: str | None
    rate: Rate
    unreliable: str | None


@dataclass(frozen=True)
class Attacks:
    """All attacks on one set of images, the weakest first, models side by side."""

    source: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Dot:
    """A model beside a baseline.

    Attributes:
        model: its name.
        x: accuracy on the ordinary set.
        y: accuracy on the shifted one.
        above: its effective robustness.
        change: how much of that is gone on clean images; None without splits.
    """

    model: str
    x: Rate
    y: Rate
    above: Number
    change: Number | None


@dataclass(frozen=True)
class Scatter:
    """A baseline and the models that were measured on both of its sets."""

    shift: Shift
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Sweep:
    """What each threshold would have made of a result, and the threshold in use."""

    model: str
    word: str
    threshold: float
    points: tuple[SweepPoint, ...]


@dataclass(frozen=True)
class Numbers:
    """All numbers of a report; `models` in the order of their colours."""

    models: tuple[str, ...]
    rows: tuple[Row, ...]
    scatters: tuple[Scatter, ...]
    corrupted: tuple[Corrupted, ...]
    attacks: tuple[Attacks, ...]
    sweeps: tuple[Sweep, ...]
    health: tuple[Health, ...]

    @property
    def compared(self) -> tuple[Row, ...]:
        """The rows with splits, the largest change first."""
        found = [row for row in self.rows if row.comparison is not None]
        return tuple(sorted(found, key=lambda row: -abs(_change(row))))


def numbers(inputs: Inputs) -> Numbers:
    """All numbers of a report."""
    runs = [
        health.Attacked(item.model, item.setting, item.norm, item.samples)
        for item in inputs.results
        if item.setting.attack is not None and item.samples["clean_pred"].null_count() == 0
    ]
    examined = health.examine(runs)
    reasons = health.unreliable(examined)
    rows = _rows(inputs.results, reasons)
    return Numbers(
        models=tuple(dict.fromkeys(item.model for item in inputs.results)),
        rows=rows,
        scatters=_scatters(inputs, rows),
        corrupted=_corrupted(inputs.results),
        attacks=_attacks(inputs.results, reasons),
        sweeps=_sweeps(inputs),
        health=examined,
    )


def _change(row: Row) -> float:
    assert row.comparison is not None
    return row.comparison.change.value or 0.0


def _rows(results: Sequence[Result], reasons: Mapping[tuple[str, str], str]) -> tuple[Row, ...]:
    compared = {
        (item.model, str(item.setting)): compare(item.samples)
        for item in results
        if _has_splits(item)
    }
    names = {key: repr(key) for key in compared}
    adjusted = adjust({names[key]: item.p for key, item in compared.items()})
    rows = []
    for item in results:
        key = (item.model, str(item.setting))
        rate = metrics.accuracy(item.samples)
        p = adjusted.get(names.get(key, ""))
        rows.append(Row(*key, rate, compared.get(key), p, reasons.get(key)))
    return tuple(rows)


def _has_splits(item: Result) -> bool:
    split = item.samples["split"]
    known = item.samples.height and not split.null_count() and (split != "unknown").any()
    return item.setting.split is None and bool(known)


def _scatters(inputs: Inputs, rows: Sequence[Row]) -> tuple[Scatter, ...]:
    by_key = {(row.model, row.word): row for row in rows}
    models = dict.fromkeys(row.model for row in rows)
    scatters = []
    for shift in inputs.shifts:
        pairs = [(by_key.get((name, shift.x)), by_key.get((name, shift.y))) for name in models]
        dots = tuple(
            _dot(shift, x, y) for x, y in pairs if x and y and x.accuracy.total and y.accuracy.total
        )
        if dots:
            scatters.append(Scatter(shift, dots))
    return tuple(scatters)


def _dot(shift: Shift, x: Row, y: Row) -> Dot:
    change = None
    if x.comparison and y.comparison and x.comparison.clean.total and y.comparison.clean.total:
        change = effective_change(shift.baseline, x.comparison, y.comparison)
    above = effective_robustness(shift.baseline, x.accuracy, y.accuracy)
    return Dot(x.model, x.accuracy, y.accuracy, above, change)


def _corrupted(results: Sequence[Result]) -> tuple[Corrupted, ...]:
    found: dict[str, dict[str, dict[str, dict[int, Rate]]]] = {}
    plain: dict[tuple[str, str], Rate] = {}
    for item in results:
        setting = item.setting
        if setting.attack is not None or setting.split is not None:
            continue
        rate = metrics.accuracy(item.samples)
        if setting.variant is None:
            plain[setting.dataset, item.model] = rate
        elif setting.severity is not None:
            curves = found.setdefault(setting.dataset, {}).setdefault(setting.variant, {})
            curves.setdefault(item.model, {})[setting.severity] = rate
    return tuple(
        Corrupted(
            dataset,
            tuple(_corruption(dataset, name, curves, plain) for name, curves in kinds.items()),
            _errors(dataset, kinds),
        )
        for dataset, kinds in found.items()
    )


def _corruption(
    dataset: str,
    name: str,
    curves: Mapping[str, Mapping[int, Rate]],
    plain: Mapping[tuple[str, str], Rate],
) -> Corruption:
    found = []
    for model, rates in curves.items():
        start = [(0, plain[dataset, model])] if (dataset, model) in plain else []
        found.append(Curve(model, (*start, *sorted(rates.items()))))
    return Corruption(name, tuple(found))


def _errors(
    dataset: str, kinds: Mapping[str, Mapping[str, Mapping[int, Rate]]]
) -> tuple[CorruptionError, ...]:
    models = dict.fromkeys(model for curves in kinds.values() for model in curves)
    whole = set(range(1, metrics.SEVERITIES + 1))
    found = []
    for model in models:
        own = {name: curves.get(model, {}) for name, curves in kinds.items()}
        mean = mce = None
        if all(set(rates) == whole for rates in own.values()):
            accuracies = {
                (name, severity): rate.value or 0.0
                for name, rates in own.items()
                for severity, rate in rates.items()
            }
            errors = metrics.corruption_errors(accuracies)
            mean = math.fsum(errors.values()) / len(errors)
            if dataset == "imagenet-c" and set(metrics.alexnet_errors()) <= set(errors):
                mce = metrics.mean_corruption_error(errors)
        found.append(CorruptionError(model, mean, mce))
    return tuple(found)


def _attacks(
    results: Sequence[Result], reasons: Mapping[tuple[str, str], str]
) -> tuple[Attacks, ...]:
    sources: dict[str, list[Bar]] = {}
    attacked = dict.fromkeys(item.setting.source for item in results if item.setting.attack)
    for item in results:
        setting = item.setting
        if setting.source not in attacked or setting.split is not None or not item.samples.height:
            continue
        name = None if setting.attack is None else attack_words(setting.attack, item.norm)
        reason = reasons.get((item.model, str(setting)))
        bar = Bar(item.model, name, metrics.accuracy(item.samples), reason)
        sources.setdefault(setting.source, []).append(bar)
    return tuple(Attacks(source, _ordered(bars)) for source, bars in sources.items())


def attack_words(aim: Aim, norm: str) -> str:
    """'pgd-20 at 4/255'; the size of the images is said where it is not that of the stored ones."""
    radius = f"{aim.eps:g}/255" + ("" if norm == "linf" else " in L2")
    return f"{aim.name} at {radius}" + ("" if aim.at == "native" else ", model input")


def _ordered(bars: Iterable[Bar]) -> tuple[Bar, ...]:
    """No attack first, then by how much is left on average over the models; models as they come."""
    rows: dict[str | None, list[Bar]] = {}
    for bar in bars:
        rows.setdefault(bar.attack, []).append(bar)

    def place(name: str | None) -> tuple[bool, float, str]:
        left = math.fsum(bar.rate.known for bar in rows[name]) / len(rows[name])
        return name is not None, -left, name or ""

    return tuple(bar for name in sorted(rows, key=place) for bar in rows[name])


def _sweeps(inputs: Inputs) -> tuple[Sweep, ...]:
    found = []
    for item in inputs.results:
        split, setting = inputs.splits.get(item.setting.dataset), item.setting
        if split is None or setting.severity or setting.attack or setting.split:
            continue
        if not _has_splits(item):
            continue
        low = min(split.floor, split.threshold)
        thresholds = np.append(np.linspace(low, 1.0, _SWEEP_POINTS), split.threshold)
        points = sweep(item.samples, split.decisions, thresholds.tolist())
        if any(point.clean.total for point in points):  # else no change is known anywhere
            found.append(Sweep(item.model, str(setting), split.threshold, points))
    return tuple(found)
