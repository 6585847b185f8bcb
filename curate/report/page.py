"""The page itself: numbers, drawings and images put into the template."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate import __version__, files
from curate.report import charts, figures, gallery, groups, provenance, words
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
    """The images of a report; `groups` only of a set that was compared with itself."""

    removed: gallery.Gallery
    below: gallery.Gallery
    groups: groups.Groups | None


@dataclass(frozen=True)
class Numbers:
    """All numbers of a report, before they are put into words."""

    share: figures.Share
    shards: tuple[figures.Group, ...]
    classes: tuple[figures.Group, ...]
    conserved: bool
    same_bytes: int
    overflow: int
    reasons: list[tuple[str, str, int]]
    failures: list[dict[str, str]]
    histogram: figures.Histogram
    curve: tuple[figures.SweepPoint, ...]
    sweep: tuple[figures.SweepPoint, ...]


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
    shown = Shown(
        gallery.removed(run_inputs, options.pairs_per_gallery),
        gallery.just_below(run_inputs, options.pairs_per_gallery),
        groups.find(run_inputs),
    )
    context = _context(run_inputs, numbers, shown)
    bare = render(context | {"tiles": _no_tiles(shown)})
    tiles = _tiles(run_inputs, shown, options.max_bytes - len(bare.encode()))
    files.write_bytes(out / "index.html", render(context | {"tiles": tiles}).encode())
    files.write_json(out / "report.json", _facts(run_inputs, numbers, shown))


def render(context: Mapping[str, Any]) -> str:
    """The template filled in, everything escaped, its style and script inlined and allowed by hash.

    Foreign strings pass `words.visible` on their way, so that no control character reaches a page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def tame(value: object) -> object:
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return words.visible(str(value)) if plain else value

    page = Environment(
        loader=PackageLoader("curate", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=tame,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {"count": words.count, "images": words.images, "percent": words.percent}
    page.filters |= {"interval": words.interval, "cosine": words.cosine, "short": words.shorten}
    page.filters["own"] = Markup  # text that this package made and escaped itself
    style, script = _asset("style.css"), _asset("script.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_source_hash(style)}'; "
        f"script-src '{_source_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    # Both files are this package's own, and neither holds a closing tag.
    inlined = {"style": Markup(style), "script": Markup(script)}  # noqa: S704
    return page.get_template("template.html").render({**context, **inlined}, policy=Markup(policy))  # noqa: S704


def _asset(name: str) -> str:
    return resources.files("curate.report").joinpath(name).read_text(encoding="utf-8")


def _source_hash(block: str) -> str:
    digest = hashlib.sha256(block.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


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
        same_bytes=figures.same_bytes(inputs.pairs, inputs.decisions),
        overflow=int(inputs.nearest["overflow"].fill_null(value=False).sum()),
        reasons=figures.reasons(inputs.decisions),
        failures=_failures(inputs),
        histogram=figures.histogram(scores, readable, floor, threshold),
        curve=figures.sweep(scores, readable, figures.sweep_curve(floor, threshold)),
        sweep=figures.sweep(scores, readable, figures.sweep_rows(floor, threshold)),
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
    """Every tile; both galleries take turns, so that neither goes short alone, then the groups."""
    for i in range(max(len(shown.removed.pairs), len(shown.below.pairs))):
        for part in (shown.removed, shown.below):
            for pair in part.pairs[i : i + 1]:
                yield "test", pair.test.id
                yield "train", pair.train.id
    for group in shown.groups.largest if shown.groups else ():
        for member in group.members:
            yield "test", member.item.id


def _context(inputs: ReportInputs, numbers: Numbers, shown: Shown) -> dict[str, Any]:
    split = inputs.split
    threshold = float(split["threshold"])
    bars = numbers.classes[:_CLASS_BARS]
    return {
        "numbers": numbers,
        "split": split,
        "finding": words.finding(split, numbers.share),
        "comparator": words.comparator(split),
        "galleries": (("removed", shown.removed), ("below", shown.below)),
        "groups": shown.groups,
        "drawn": _drawn(shown.removed),
        "proportion": charts.both(lambda wide: charts.proportion(split["counts"], wide)),
        "histogram": charts.both(lambda w: charts.histogram(numbers.histogram, threshold, w)),
        "sweep": charts.both(lambda wide: charts.sweep(numbers.curve, threshold, wide)),
        "classes": charts.both(lambda wide: charts.classes(bars, wide)),
        "class_bars": len(bars),
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
        "same_bytes": numbers.same_bytes,
        "overflow": numbers.overflow,
        "reasons": [
            {"decision": decision, "reason": reason, "images": number}
            for decision, reason, number in numbers.reasons
        ],
        "failures": numbers.failures,
        "histogram": _histogram(numbers.histogram),
        "sweep": [{"threshold": point.threshold, **_share(point.share)} for point in numbers.sweep],
        "removed": _gallery(shown.removed),
        "below": _gallery(shown.below),
        **({"groups": _groups(shown.groups)} if shown.groups else {}),
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
            "view": pair.view,
            "sample": pair.sample,
            "others": pair.others,
            "same_bytes": pair.same_bytes,
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
