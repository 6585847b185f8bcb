"""Effective robustness: accuracy under a shift beyond what standard training would give.

Accuracies of models with standard training lie on a line when both axes are logits. A baseline is
that line from an ordinary test set (x) to a shifted one (y); effective robustness is the distance
above it, rho = acc_y - beta(acc_x).
Source: R. Taori et al., "Measuring robustness to natural distribution shifts in image
classification", NeurIPS 2020. ImageNet-A was made of what a ResNet-50 gets wrong, so its line has a
kink at that model, and is two lines.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.errors import CurateError
from curate.files import write_json
from curate.storage import local_path
from eval.figures.rates import CONFIDENCE, SEED, Number, Rate, percentiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DRAWS = 4_000
FORMAT = 1
_LEAST = 3


@dataclass(frozen=True)
class Pair:
    """A baseline to fit.

    Attributes:
        x: column of accuracies on the ordinary set.
        y: column of accuracies on the shifted set.
        knot: model at whose x the line has a kink, or None.
    """

    x: str
    y: str
    knot: str | None = None


PAIRS = (
    Pair("val", "imagenetv2-matched-frequency-format-val"),
    Pair("val", "imagenet-sketch"),
    Pair("val-on-imagenet-r-classes", "imagenet-r"),
    Pair("val", "imagenet-r"),
    Pair("val-on-objectnet-classes", "objectnet-1.0-beta"),
    Pair("val", "objectnet-1.0-beta"),
    Pair("val-on-vid-robust-classes", "imagenet-vid-robust_pm0"),
    Pair("imagenet-vid-robust_pm0", "imagenet-vid-robust_pm10"),
    Pair("val-on-ytbb-robust-classes", "ytbb-robust_pm0"),
    Pair("ytbb-robust_pm0", "ytbb-robust_pm10"),
    Pair("val-on-imagenet-a-classes", "imagenet-a", "resnet50"),
    Pair("val", "stylized_imagenet"),
)
"""The baselines that ship, by the columns of the ImageNet testbed's table of accuracies.

Of two for the same y, the first one is the usual choice: accuracy on the classes of the shifted
set, where that holds fewer.
"""


@dataclass(frozen=True)
class Line:
    """logit(y) = slope logit(x) + intercept, by least squares; natural logarithms of shares.

    Attributes:
        slope: of the line.
        intercept: where logit(x) is 0.
        r2: share of the variance of logit(y) that it explains.
        n: models it was fitted to.
    """

    slope: float
    intercept: float
    r2: float
    n: int


@dataclass(frozen=True)
class Baseline:
    """A baseline and the models it was fitted to.

    Attributes:
        x: name of the ordinary set.
        y: name of the shifted set.
        knot: share on x from which the second line holds, or None.
        lines: one line, or the two on either side of the knot.
        models: names (n,) of the models with an accuracy on both sets.
        points: (n, 2) float64, their shares on x and y. A share of 0 or 1 has no logit; such a
            model is here and in no line.
    """

    x: str
    y: str
    knot: float | None
    lines: tuple[Line, ...]
    models: tuple[str, ...]
    points: tuple[tuple[float, float], ...]

    def predict(self, share: float) -> float:
        """The share on y that standard training with this share on x would give."""
        line = self.lines[0 if self.knot is None or share < self.knot else 1]
        return float(expit(line.slope * logit(np.float64(share)) + line.intercept))


def logit(share: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """log(p / (1 - p)); infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(share) - np.log1p(-share))


def expit(value: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """The inverse of `logit`."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-value)))


def fit(table: pl.DataFrame, pairs: Sequence[Pair] = PAIRS) -> tuple[Baseline, ...]:
    """Fit baselines to a table of accuracies.

    Args:
        table: column `model`, and accuracies in percent in the columns that `pairs` name; where
            a model was not measured it is null.
        pairs: what to fit.

    Raises:
        CurateError: a column is missing or holds no accuracies, two rows are of one model, a knot's
            model is missing, or fewer than three models have both accuracies.
    """
    if "model" not in table.columns:
        raise CurateError("a table of accuracies needs a column named model")
    twice = table.filter(pl.col("model").is_duplicated())["model"]
    if twice.len():
        raise CurateError(f"model {twice[0]}: has more than one row")
    return tuple(_fit(table, pair) for pair in pairs)


def fit_csv(path: Path, pairs: Sequence[Pair] = PAIRS) -> tuple[Baseline, ...]:
    """Fit baselines to a CSV file of accuracies, one row for each model of standard training.

    Pairs of which the file has not both columns are left out.

    Raises:
        CurateError: as `fit`, or the file cannot be read, or has the columns of no pair.
    """
    try:
        table = pl.read_csv(local_path(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CurateError(f"{path}: not readable as a CSV file ({error})") from error
    known = [pair for pair in pairs if {pair.x, pair.y} <= set(table.columns)]
    if not known:
        wanted = "; ".join(f"{pair.x} and {pair.y}" for pair in pairs)
        raise CurateError(f"{path}: has both columns of no baseline; wanted are {wanted}")
    try:
        return fit(table, known)
    except CurateError as error:
        raise CurateError(f"{path}: {error}") from error


def write_baselines(path: Path, baselines: Sequence[Baseline], source: str, licence: str) -> None:
    """Write baselines, with their models, as JSON that `read_baselines` reads.

    Shares are written as percent with three decimals, so fit them from such to get equal lines.
    """
    models = sorted({name for item in baselines for name in item.models})
    table: dict[str, dict[str, float]] = {}
    for item in baselines:
        for name, (x, y) in zip(item.models, item.points, strict=True):
            table.setdefault(item.x, {})[name] = round(100 * x, 3)
            table.setdefault(item.y, {})[name] = round(100 * y, 3)
    columns = {name: [row.get(model) for model in models] for name, row in table.items()}
    stated = [
        {
            "x": item.x,
            "y": item.y,
            "knot": item.knot,
            "lines": [vars(line) for line in item.lines],
        }
        for item in baselines
    ]
    facts = {"format": FORMAT, "source": source, "licence": licence, "baselines": stated}
    write_json(path, {**facts, "models": models, "accuracies": columns})


def read_baselines(path: Path | None = None) -> tuple[Baseline, ...]:
    """The baselines of a file that `write_baselines` wrote, by default those that ship.

    Raises:
        CurateError: the file is missing or is no such file.
    """
    try:
        text = (
            resources.files("eval.figures")
            .joinpath("data", "testbed.json")
            .read_text(encoding="utf-8")
            if path is None
            else local_path(path).read_text(encoding="utf-8")
        )
        said = json.loads(text)
        found = tuple(_stored(item, said) for item in said["baselines"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CurateError(f"{path}: not readable as baselines ({error})") from error
    if said.get("format") != FORMAT:
        raise CurateError(f"{path}: baselines of format {said.get('format')}, not {FORMAT}")
    return found


def find_baseline(baselines: Sequence[Baseline], y: str, x: str | None = None) -> Baseline:
    """The first baseline for a shifted set, or the one from a stated ordinary set.

    Raises:
        CurateError: there is none.
    """
    for item in baselines:
        if item.y == y and x in {None, item.x}:
            return item
    known = ", ".join(sorted({item.y for item in baselines}))
    raise CurateError(f"no baseline from {x or 'any set'} to {y}; there are some to {known}")


def effective_robustness(
    baseline: Baseline,
    x: Rate,
    y: Rate,
    *,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Number:
    """How far a model is above a baseline, in shares, with a percentile interval.

    Resampled are the models of the baseline, refitting it each time, and the images of both sets,
    apart from each other.

    Raises:
        ValueError: a set has no images.
    """
    value = y.known - baseline.predict(x.known)
    generator = np.random.default_rng(seed)
    expected = resampled_predictions(baseline, x.draw(generator, draws), generator)
    above = y.draw(generator, draws) - expected
    # a draw of too few different models has no line
    low, high = percentiles(above[np.isfinite(above)], confidence)
    return Number(value, low, high, confidence)


def resampled_predictions(
    baseline: Baseline, shares: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """What refitted baselines say of shares on x: (draws,) or (draws, c) -> the same shape.

    One refit for each row of `shares`, to as many models drawn with replacement; NaN where all that
    were drawn lie at one x.
    """
    points = np.array(baseline.points)
    with np.errstate(invalid="ignore"):
        logits = logit(points)
    usable = np.isfinite(logits).all(axis=1)
    points, logits = points[usable], logits[usable]
    count = len(points)
    weights = generator.multinomial(count, np.full(count, 1 / count), len(shares)).astype(float)
    rows = shares.reshape(len(shares), -1)
    knot = math.inf if baseline.knot is None else baseline.knot
    first = points[:, 0] < knot
    said = _refitted(weights * first, logits, rows)
    if baseline.knot is not None:
        said = np.where(rows < knot, said, _refitted(weights * ~first, logits, rows))
    return said.reshape(shares.shape)


def _refitted(
    weights: NDArray[np.float64], logits: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted least squares for each row of weights (d, n); predictions of shares (d, c)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(axis=1)
        mean = weights @ logits / total[:, None]
        x, y = (logits[None, :, i] - mean[:, i, None] for i in range(2))
        spread = (weights * x * x).sum(axis=1)
        # what rounding leaves where all models that were drawn are one
        spread = np.where(spread > 1e-9 * total, spread, np.nan)
        slope = (weights * x * y).sum(axis=1) / spread
        intercept = mean[:, 1] - slope * mean[:, 0]
        return expit(slope[:, None] * logit(shares) + intercept[:, None])


def _fit(table: pl.DataFrame, pair: Pair) -> Baseline:
    for name in (pair.x, pair.y):
        if name not in table.columns or not table.schema[name].is_numeric():
            raise CurateError(f"column {name}: missing, or not of accuracies in percent")
        if not table[name].drop_nulls().is_between(0, 100).all():
            raise CurateError(f"column {name}: accuracies are percent, from 0 to 100")
    rows = table.select("model", x=pl.col(pair.x) / 100, y=pl.col(pair.y) / 100).drop_nulls()
    models = tuple(rows["model"].cast(pl.String).to_list())
    points = tuple((float(x), float(y)) for x, y in rows.select("x", "y").iter_rows())
    knot = None
    if pair.knot is not None:
        if pair.knot not in models:
            raise CurateError(f"the line to {pair.y} has its kink at {pair.knot}, which is missing")
        knot = points[models.index(pair.knot)][0]
    usable = [point for point in points if all(0 < share < 1 for share in point)]
    parts = [usable]
    if knot is not None:
        parts = [[p for p in usable if p[0] < knot], [p for p in usable if p[0] >= knot]]
    lines = tuple(_line(part, f"{pair.x} -> {pair.y}") for part in parts)
    return Baseline(pair.x, pair.y, knot, lines, models, points)


def _line(points: Sequence[tuple[float, float]], what: str) -> Line:
    if len(points) < _LEAST or len({x for x, _ in points}) < 2:  # noqa: PLR2004 - a line
        raise CurateError(
            f"{what}: {len(points)} models have both accuracies between 0 and 100; give three or "
            "more that differ"
        )
    x, y = logit(np.array(points)).T
    slope, intercept = (float(value) for value in np.polyfit(x, y, 1))
    spread = float(((y - y.mean()) ** 2).sum())
    left = float(((y - slope * x - intercept) ** 2).sum())
    return Line(slope, intercept, 1 - left / spread if spread else 1.0, len(points))


def _stored(item: Mapping[str, Any], said: Mapping[str, Any]) -> Baseline:
    columns = (said["accuracies"][item["x"]], said["accuracies"][item["y"]])
    rows = [
        (model, (x / 100, y / 100))
        for model, x, y in zip(said["models"], *columns, strict=True)
        if x is not None and y is not None
    ]
    lines = tuple(Line(**line) for line in item["lines"])
    models, points = tuple(model for model, _ in rows), tuple(point for _, point in rows)
    return Baseline(item["x"], item["y"], item["knot"], lines, models, points)
