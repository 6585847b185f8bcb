"""The page itself: numbers, drawings and images put into the template."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from curate import __version__, files
from curate.report import (
    calibration,
    calibration_charts,
    charts,
    figures,
    gallery,
    groups,
    provenance,
    rendering,
    words,
)
from curate.report.inputs import ReportInputs, ReportOptions, Side, check
from curate.report.thumbnails import Thumbnail, thumbnails

# Rows of a folded table; report.json has all of them.
_TABLE_ROWS = 1000
_CLASS_BARS = 30
# Pairs that stand open before "show more".
_FIRST_PAIRS = 12

_Tiles = Mapping[tuple[Side, str], Thumbnail]


@dataclass(frozen=True)
class Shown:
    """The images of a report.

    Attributes:
        removed: all that is overlap, or a sample.
        above: scores at and just above the threshold.
        below: scores just below it.
        rejected: pairs that a second look rejected; None where nobody took one.
        groups: of a set that was compared with itself.
    """

    removed: gallery.Gallery
    above: gallery.Gallery
    below: gallery.Gallery
    rejected: gallery.Gallery | None
    groups: groups.Groups | None

    @classmethod
    def of(cls, inputs: ReportInputs, most: int) -> Self:
        """The images of a run, at most so many pairs in each gallery."""
        return cls(
            gallery.removed(inputs, most),
            gallery.just_above(inputs, most),
            gallery.just_below(inputs, most),
            gallery.rejected(inputs, most),
            groups.find(inputs),
        )

    def galleries(self) -> dict[str, gallery.Gallery]:
        """All that there are, by name."""
        found = {"removed": self.removed, "above": self.above, "below": self.below}
        return {**found, **({"rejected": self.rejected} if self.rejected else {})}


@dataclass(frozen=True)
class Numbers:
    """All numbers of a report, before they are put into words."""

    share: figures.Share
    shards: tuple[figures.Group, ...]
    classes: tuple[figures.Group, ...]
    conserved: bool
    same: figures.Sameness
    overflow: int
    reasons: list[tuple[str, str, int]]
    failures: list[dict[str, str]]
    histogram: figures.Histogram
    curve: tuple[figures.SweepPoint, ...]
    sweep: tuple[figures.SweepPoint, ...]
    calibrated: calibration.Calibrated | None


def build_report(run_inputs: ReportInputs, out: Path, options: ReportOptions | None = None) -> None:
    """Write `out/index.html`, one page that needs no other file, and `out/report.json`.

    The same inputs give the same bytes: no clock, no random numbers.

    Args:
        run_inputs: the finished run.
        out: folder of the report; it is made if missing.
        options: how much to show.

    Raises:
        CurateError: tables lack columns, or split.json and the tables are not of the same run.
    """
    check(run_inputs)
    options = options or ReportOptions()
    numbers = _numbers(run_inputs)
    shown = Shown.of(run_inputs, options.pairs_per_gallery)
    context = _context(run_inputs, numbers, shown)
    bare = render(context | {"tiles": _no_tiles(shown)})
    tiles = _tiles(run_inputs, shown, options.max_bytes - len(bare.encode()))
    files.write_bytes(out / "index.html", render(context | {"tiles": tiles}).encode())
    files.write_json(out / "report.json", _facts(run_inputs, numbers, shown))


def render(context: Mapping[str, Any]) -> str:
    """The template filled in (see `curate.report.rendering`)."""
    style = rendering.styles("curate.report")
    script = rendering.asset("curate.report", "script.js")
    return rendering.render("curate", "report", style, script, context)


def _numbers(inputs: ReportInputs) -> Numbers:
    split = inputs.split
    counts, floor, threshold = split["counts"], split["floor"], split["threshold"]
    readable = counts["in"] - counts["unknown"]
    scores = figures.nearest_scores(inputs.nearest, inputs.decisions)
    shards = figures.groups(split.get("per_shard") or {})
    return Numbers(
        share=figures.share(counts["overlap"], readable),
        shards=shards,
        classes=figures.by_share(figures.groups(split.get("per_class") or {})),
        conserved=figures.conserved(counts, shards),
        same=figures.count_same(inputs.pairs, inputs.decisions),
        overflow=int(inputs.nearest["overflow"].fill_null(value=False).sum()),
        reasons=figures.reasons(inputs.decisions),
        failures=_failures(inputs),
        histogram=figures.histogram(scores, readable, floor, threshold),
        curve=figures.sweep(scores, readable, figures.sweep_curve(floor, threshold)),
        sweep=figures.sweep(scores, readable, figures.sweep_rows(floor, threshold)),
        calibrated=calibration.find(inputs),
    )


def _failures(inputs: ReportInputs) -> list[dict[str, str]]:
    """Unknown items in order, with the status and the error of their failure."""
    unknown = inputs.decisions.filter(pl.col("decision") == "unknown").select("id", "reason")
    status = inputs.status.select("id", "status", "error").unique("id", maintain_order=True)
    rows = unknown.join(status, on="id", how="left", maintain_order="left")
    return [
        {"id": item, "status": status or reason or "unknown", "error": error or ""}
        for item, reason, status, error in rows.iter_rows()
    ]


def _tiles(inputs: ReportInputs, shown: Shown, budget: int) -> _Tiles:
    """Thumbnails by (side, id)."""
    keys = list(_keys(shown))
    images: dict[tuple[Side, str], bytes] = {}
    sides: tuple[Side, Side] = ("test", "train")
    for side in sides:
        ids = list(dict.fromkeys(item for at, item in keys if at == side))
        if ids:
            found = inputs.load_images(side, ids)
            images |= {(side, item): data for item, data in found.items()}
    return thumbnails(keys, images, budget)


def _no_tiles(shown: Shown) -> _Tiles:
    return {key: Thumbnail("", 0, 0) for key in _keys(shown)}


def _keys(shown: Shown) -> Iterator[tuple[Side, str]]:
    """Every tile; galleries take turns, so that none goes short alone, then the groups."""
    galleries = shown.galleries().values()
    for i in range(max(len(part.pairs) for part in galleries)):
        for part in galleries:
            for pair in part.pairs[i : i + 1]:
                yield "test", pair.test.id
                yield "train", pair.train.id
    for group in shown.groups.largest if shown.groups else ():
        for member in group.members:
            yield "test", member.item.id


def _context(inputs: ReportInputs, numbers: Numbers, shown: Shown) -> dict[str, Any]:
    split = inputs.split
    threshold = float(split["threshold"])
    rule = charts.Rule(threshold, words.score_name(split))
    bars = numbers.classes[:_CLASS_BARS]
    return {
        "numbers": numbers,
        "split": split,
        "finding": words.finding(split, numbers.share),
        "comparator": words.comparator(split),
        "score_name": rule.score,
        "first_score_name": words.first_score_name(split),
        "rule": words.rule(split),
        "second_look": words.second_look(split),
        "is_reduced": words.is_reduced(split),
        "galleries": shown.galleries(),
        "groups": shown.groups,
        "drawn": _drawn(shown.removed),
        "proportion": charts.both(lambda wide: charts.proportion(split["counts"], wide)),
        "histogram": charts.both(lambda w: charts.histogram(numbers.histogram, rule, w)),
        "sweep": charts.both(lambda wide: charts.sweep(numbers.curve, rule, wide)),
        "classes": charts.both(lambda wide: charts.classes(bars, wide)),
        "class_bars": len(bars),
        **_calibrated(numbers.calibrated, split, rule),
        "score": lambda value: words.score(value, threshold),
        "gauge": lambda value: charts.gauge(value, split["floor"], threshold),
        "detector": list(provenance.flatten(split["detector"], "detector")),
        "artifacts": provenance.artifacts(inputs.manifests),
        "versions": provenance.versions(inputs.manifests),
        "command": inputs.command,
        "rows": _TABLE_ROWS,
        "first_pairs": _FIRST_PAIRS,
        "version": __version__,
    }


def _calibrated(
    data: calibration.Calibrated | None, split: Mapping[str, Any], rule: charts.Rule
) -> dict[str, Any]:
    """What the template needs of a calibration."""
    if data is None:
        return {"calibrated": None}
    measured = _measured(data, split)
    return {
        "calibrated": data,
        "estimate": words.leaked(data, split),
        "quality": words.quality(data, split),
        "sure": words.confidence(data),
        "strengths": sorted({cell.strength for kind in data.kinds for cell in kind.cells}),
        "measured": measured,
        "curves": charts.both(lambda wide: calibration_charts.curves(data, rule, wide))
        if measured
        else None,
        "kinds": charts.both(lambda wide: calibration_charts.kinds(data.kinds, wide)),
    }


def _measured(
    data: calibration.Calibrated, split: Mapping[str, Any]
) -> list[tuple[float, calibration.Point | None, calibration.Point | None]]:
    """(threshold, precision, recall) at readable thresholds, the one in use and the proposed."""
    rows = set(figures.sweep_rows(data.floor, split["threshold"]).tolist()) | {data.proposed}
    precise = {point.threshold: point for point in data.precision}
    complete = {point.threshold: point for point in data.recall}
    found = sorted((precise.keys() | complete.keys()) & rows)
    return [(at, precise.get(at), complete.get(at)) for at in found]


def _facts_of_calibration(
    inputs: ReportInputs, data: calibration.Calibrated | None
) -> dict[str, Any]:
    """The calibration as it is stored, its sentences, and the recall at the threshold in use."""
    if data is None:
        return {}
    facts = {
        **(inputs.calibration or {}),
        "estimate": words.leaked(data, inputs.split),
        "quality": words.quality(data, inputs.split),
        "recall": [asdict(point) for point in data.recall],
        "kinds": {"threshold": data.kinds_at, "rows": [asdict(kind) for kind in data.kinds]},
    }
    return {"calibration": facts}


def _drawn(removed: gallery.Gallery) -> dict[str, int]:
    """How many removed pairs each part of the sample drew."""
    drawn: dict[str, int] = {}
    for pair in removed.pairs:
        drawn[pair.sample] = drawn.get(pair.sample, 0) + 1
    return drawn


def _facts(inputs: ReportInputs, numbers: Numbers, shown: Shown) -> dict[str, Any]:
    """What the page shows, for machines."""
    split = inputs.split
    facts = {
        "format": 1,
        "finding": words.finding(split, numbers.share),
        "split": split,
        "overlap": _share(numbers.share),
        "shards": [_group(row) for row in numbers.shards],
        "classes": [_group(row) for row in numbers.classes],
        "conserved": numbers.conserved,
        "same": asdict(numbers.same),
        "score": words.score_name(split),
        "second_look": words.second_look(split),
        "overflow": numbers.overflow,
        "reasons": [
            {"decision": decision, "reason": reason, "images": number}
            for decision, reason, number in numbers.reasons
        ],
        "failures": numbers.failures,
        "histogram": _histogram(numbers.histogram),
        "sweep": [{"threshold": point.threshold, **_share(point.share)} for point in numbers.sweep],
        **{name: _gallery(part) for name, part in shown.galleries().items()},
        **({"groups": _groups(shown.groups)} if shown.groups else {}),
        **_facts_of_calibration(inputs, numbers.calibrated),
        "manifests": {name: manifest.get("id") for name, manifest in inputs.manifests.items()},
        "versions": provenance.versions(inputs.manifests),
        "command": inputs.command,
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _plain(value: float) -> float:
    """A float32 as people write it: 0.93, not 0.9300000071525574."""
    return float(str(np.float32(value)))


def _histogram(data: figures.Histogram) -> dict[str, Any]:
    bins = [{**asdict(bar), "low": _plain(bar.low), "high": _plain(bar.high)} for bar in data.bins]
    return {"below_floor": data.below_floor, "log": data.log, "bins": bins}


def _share(part: figures.Share) -> dict[str, float]:
    return {**asdict(part), "share": part.value, "confidence": 0.95}


def _group(row: figures.Group) -> dict[str, Any]:
    return {**asdict(row), "share": _share(row.share)}


def _gallery(shown: gallery.Gallery) -> dict[str, Any]:
    pairs = [
        {
            "test_id": pair.test.id,
            "train_id": pair.train.id,
            "score": _plain(pair.score),
            "cosine": None if pair.cosine is None else _plain(pair.cosine),
            "view": pair.view,
            "sample": pair.sample,
            "decision": pair.decision,
            "others": pair.others,
            "same": pair.same,
            "said": pair.said,
            "rejected": pair.rejected,
        }
        for pair in shown.pairs
    ]
    return {"total": shown.total, "shown": len(pairs), "pairs": pairs}


def _groups(shown: groups.Groups) -> dict[str, Any]:
    largest = [
        {
            "size": group.size,
            "kept": group.kept,
            "shown": [{"id": member.item.id, "kept": member.kept} for member in group.members],
        }
        for group in shown.largest
    ]
    sizes = [asdict(row) for row in shown.sizes]
    totals = {"count": shown.count, "images": shown.images, "kept": shown.kept}
    return {**totals, "sizes": sizes, "largest": largest}
