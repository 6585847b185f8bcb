"""A made-up finished run: procedural images, hostile names, scores around the threshold."""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from curate import tables
from curate.calibration import plan, summary
from curate.calibration.judgements import Judgements
from curate.calibration.planted import PLANTED
from curate.calibration.recall import recall_table
from curate.calibration.summary import Wanted
from curate.calibration.units import decision_units
from curate.copies import STRENGTHS
from curate.report import ReportInputs, Side

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "'--><svg/onload=alert(3)>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(4)",
    "right\u202eto left\x00nul",
    "</style></title></textarea><script>alert(5)</script>",
)
SCORE = pl.Float32


@dataclass(frozen=True)
class Recipe:
    """What a made-up run looks like; `score` is drawn for each test image that has a match."""

    tests: int = 240
    trains: int = 80
    threshold: float = 0.93
    floor: float = 0.8
    labels: bool = True
    unknown_every: int = 40
    matched: float = 0.6
    scores: tuple[float, float] = (0.8, 1.0)
    side: int = 32
    extra: Mapping[str, Any] = field(default_factory=dict)


def picture(seed: int, side: int) -> bytes:
    """A textured gradient with a disc: the bytes of a PNG (tiny) or a JPEG (larger)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0 : side * 3 // 2] / side
    base = np.stack([np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0, 9, (3, 3))], axis=-1)
    disc = (x - rng.uniform()) ** 2 + (y - rng.uniform()) ** 2 < 0.06
    pixels = 127 + 90 * base + 60 * disc[..., None] + rng.normal(0, 4, base.shape)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(buffer, "PNG" if side <= 64 else "JPEG")
    return buffer.getvalue()


def item_id(side: str, i: int) -> str:
    return f"{side}-{i // 100:05d}:{HOSTILE[i % len(HOSTILE)]}{i}"


def _matches(recipe: Recipe) -> list[dict[str, Any] | None]:
    rng = np.random.default_rng(7)
    found: list[dict[str, Any] | None] = []
    for _ in range(recipe.tests):
        has, score, train = rng.uniform(), rng.uniform(*recipe.scores), rng.integers(recipe.trains)
        match = {"train_id": item_id("train", int(train)), "score": float(np.float32(score))}
        view = "mirror" if rng.uniform() < 0.2 else "identity"
        found.append({**match, "view": view} if has < recipe.matched else None)
    return found


def _rows(recipe: Recipe) -> list[dict[str, Any]]:
    """The decisions, one a test image, in order."""
    rows = []
    none = {"train_id": None, "score": None, "view": None}
    for i, match in enumerate(_matches(recipe)):
        unknown = bool(recipe.unknown_every) and i % recipe.unknown_every == 0
        best = none if unknown or match is None else match
        flagged = best["score"] is not None and best["score"] >= np.float32(recipe.threshold)
        decision = "unknown" if unknown else "overlap" if flagged else "clean"
        name = item_id("test", i)
        rows.append(
            {
                "id": name,
                "shard": name.split(":")[0],
                "key": name.split(":", 1)[1],
                "position": i % 100,
                "label": HOSTILE[i % 3] if recipe.labels else None,
                "decision": decision,
                "reason": {"unknown": "failed_to_decode"}.get(decision, "score"),
                **best,
                "control": i % 2 == 0,
            }
        )
    return rows


def _tally(rows: list[dict[str, Any]], column: str) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for row in rows:
        entry = table.setdefault(row[column], {"in": 0, "clean": 0, "overlap": 0, "unknown": 0})
        entry["in"] += 1
        entry[row["decision"]] += 1
    return table


def _pairs(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """The best pair of each matched image, and a second train image for every third of them."""
    pairs = []
    for i, row in enumerate(rows):
        if row["train_id"] is None:
            continue
        digest = hashlib.sha256(row["id"].encode()).hexdigest()
        other_file = digest if i % 5 == 0 else "0" * 64
        same = "bytes" if i % 5 == 0 else "pixels" if i % 7 == 0 else None
        base = {"test_id": row["id"], "score": row["score"], "view": row["view"], "rank": 1}
        pairs.append({
            **base, "train_id": row["train_id"], "test_sha256": digest, "train_sha256": other_file,
            "same": same,
        })  # fmt: skip
        if i % 3 == 0:
            other = {"train_id": f"second:{i}", "rank": 2, "train_sha256": "1" * 64}
            pairs.append({**base, "test_sha256": digest, **other})
    return tables.rows(pairs, tables.PAIRS)


def _metadata(side: str, number: int, recipe: Recipe) -> pl.DataFrame:
    rows = [
        {
            "id": item_id(side, i),
            "label": HOSTILE[i % 4] if recipe.labels else None,
            "caption": HOSTILE[(i + 1) % len(HOSTILE)],
            "width": recipe.side * 3 // 2,
            "height": recipe.side,
        }
        for i in range(number)
    ]
    kinds = {"id": pl.String, "label": pl.String, "caption": pl.String}
    return pl.DataFrame(rows, schema={**kinds, "width": pl.Int32, "height": pl.Int32})


def _split(recipe: Recipe, rows: list[dict[str, Any]]) -> dict[str, Any]:
    made = [row["decision"] for row in rows]
    parts = {name: made.count(name) for name in ("clean", "overlap", "unknown")}
    return {
        "test": "<b>tests</b>",
        "train": "pretraining & more",
        "detector": {"encoder": "builtin:x", "fingerprint": {"weights": "f" * 64, "mean": [0.5]}},
        "threshold": recipe.threshold,
        "comparator": ">=",
        "floor": recipe.floor,
        "seed": 0,
        "counts": {"in": len(rows), **parts, "control": sum(row["control"] for row in rows)},
        "per_shard": _tally(rows, "shard"),
        "per_class": _tally(rows, "label") if recipe.labels else {},
        "failures": {"failed_to_decode": parts["unknown"]},
        "conservation": True,
        **recipe.extra,
    }


def load_pictures(side: int) -> Callable[[Side, list[str]], dict[str, bytes]]:
    """All images but every ninth one asked for, and one that is no image."""

    def load(which: Side, ids: list[str]) -> dict[str, bytes]:
        found = {
            name: picture(i + 1000 * (which == "test"), side)
            for i, name in enumerate(ids)
            if i % 9 != 8
        }
        return {**found, **({ids[2]: b"no image"} if len(ids) > 2 else {})}

    return load


def make_run(recipe: Recipe | None = None) -> ReportInputs:
    recipe = recipe or Recipe()
    rows = _rows(recipe)
    kinds = {"score": SCORE, "train_id": pl.String, "view": pl.String, "label": pl.String}
    decisions = pl.DataFrame(rows, schema_overrides=kinds, infer_schema_length=None)
    nearest = decisions.filter(pl.col("decision") != "unknown").select(
        pl.col("id").alias("test_id"), "train_id", "score", "view", overflow=pl.lit(value=False)
    )
    failed = pl.col("decision") == "unknown"
    status = decisions.select(
        "id",
        status=pl.when(failed).then(pl.lit("failed_to_decode")).otherwise(pl.lit("success")),
        error=pl.when(failed).then(pl.lit(HOSTILE[1])).otherwise(None),
    )
    inputs = [{"name": f"{i}.tar", "sha256": f"{i:064x}", "bytes": 10} for i in range(3)]
    manifest = {"kind": "matches", "id": "a" * 64, "config": {"k": 1}, "inputs": inputs}
    return ReportInputs(
        split=_split(recipe, rows),
        decisions=decisions,
        pairs=_pairs(rows),
        nearest=nearest,
        status=status,
        manifests={HOSTILE[0]: {**manifest, "versions": {"torch": "2"}}},
        load_images=load_pictures(recipe.side),
        test_metadata=_metadata("test", recipe.tests, recipe),
        train_metadata=_metadata("train", recipe.trains, recipe),
        command=f"curate dedup --test '{HOSTILE[0]}' --threshold {recipe.threshold}",
    )


def _said(units: pl.DataFrame) -> Judgements:
    """Of every unit one person's word; those that score more are copies more often."""
    rng = np.random.default_rng(3)
    copy = rng.uniform(size=units.height) < (units["score"].to_numpy() - 0.75) * 5
    table = units.select("test_id", "train_id", copy=pl.Series(copy))
    return Judgements("labels", table, "0" * 64, 1)


def _planted(rng: np.random.Generator) -> pl.DataFrame:
    """12 copies of each kind, of which the strong and the rotated ones score less."""
    rows = [
        {
            "train_id": f"train:{image}",
            "transformation": name,
            "strength": strength,
            "score": float(np.clip(rng.normal(mean - 0.05 * strength, 0.03), -1, 1)),
            "view": "identity",
        }
        for name, mean in (("rotate", 0.9), ("crop_centre", 1.0), ("jpeg", 1.05))
        for strength in STRENGTHS
        for image in range(12)
    ]
    return tables.rows(rows, PLANTED)


def calibrated(
    inputs: ReportInputs,
    *,
    judged: bool = True,
    planted: bool = True,
    labels: int = 90,
    wanted: float = 0.5,
) -> ReportInputs:
    """The same run with a calibration, whose numbers are computed as those of a real one are."""
    floor, threshold = inputs.split["floor"], inputs.split["threshold"]
    units = decision_units(inputs.pairs)
    drawn = plan.draw(units, plan.zones(units["score"].to_numpy(), floor, threshold), labels, 0)
    thresholds = plan.grid(floor, threshold)
    said = summary.labelled(
        units, drawn, _said(units) if judged else None, thresholds, Wanted(wanted)
    )
    copies = _planted(np.random.default_rng(5))
    curves = recall_table(copies, thresholds) if planted else None
    content = {
        "format": 1,
        "floor": floor,
        "run_threshold": threshold,
        "thresholds": thresholds,
        "confidence": 0.95,
        "planted": None if curves is None else summary.planted(copies, curves, threshold),
        **said,
    }
    return replace(inputs, calibration=content, recall=curves)


@pytest.fixture(scope="session")
def run() -> ReportInputs:
    """A run with everything in it."""
    return make_run()


@pytest.fixture(scope="session")
def a_run() -> Callable[..., ReportInputs]:
    """Make a run from the fields of a recipe."""
    return lambda **fields: make_run(Recipe(**fields))


@pytest.fixture(scope="session")
def calibrate() -> Callable[..., ReportInputs]:
    """Give a run a calibration."""
    return calibrated


@pytest.fixture(scope="session")
def verified_run() -> ReportInputs:
    """A run with a second look by pixels, which rejected every fourth test image's pairs."""
    inputs = make_run(Recipe(threshold=0.93))
    position = {name: i for i, name in enumerate(inputs.decisions["id"])}
    out = pl.col("test_id").replace_strict(position, return_dtype=pl.Int64) % 4 == 3
    clean = inputs.decisions.with_row_index("at").select(
        pl.exclude("at"), gone=pl.col("score").is_not_null() & (pl.col("at") % 4 == 3)
    )
    gone = clean.filter("gone")["id"].to_list()
    none = [
        pl.when(~pl.col("gone")).then(name).alias(name) for name in ("score", "train_id", "view")
    ]
    decision = pl.when("gone").then(pl.lit("clean")).otherwise("decision").alias("decision")
    decisions = clean.with_columns(*none, decision).drop("gone")
    counts = dict(decisions["decision"].value_counts().iter_rows())
    detector = {"name": "builtin:x", "verify": {"name": "pixels", "top": 20}}
    split = {**inputs.split, "counts": {**inputs.split["counts"], **counts}, "detector": detector}
    nearest = inputs.nearest.filter(~pl.col("test_id").is_in(gone))
    score = pl.when(out).then(pl.lit(0.01, SCORE)).otherwise("score")
    why = pl.when(out).then(pl.lit("pixels do not agree <b>"))
    pairs = inputs.pairs.with_columns(cosine=pl.col("score") - 0.05, score=score, rejected=why)
    return replace(
        inputs, decisions=decisions, nearest=nearest, split=split, pairs=pairs.cast(tables.PAIRS)
    )


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture(scope="session")
def draw() -> Callable[[int, int], bytes]:
    return picture
