"""The report of a run, made from its artifacts and the images that they name."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate import artifacts, shards, tables
from curate.artifacts import Manifest
from curate.calibration import artifact
from curate.calibration.recall import RECALL
from curate.detectors import find_detector
from curate.discover import expand
from curate.embed import SOURCE, source_of
from curate.encoders import WHITENED
from curate.errors import CurateError, PartialRunError
from curate.files import read_json
from curate.parts import Embeddings
from curate.published import Published
from curate.remote import exists
from curate.report import ReportInputs, Side, build_report
from curate.shards import is_remote
from curate.splits import SPLIT_FILE, read_components, read_decisions
from curate.verification.verifiers import NOBODY, PIXELS, TOP
from pipelines.runs import SETTINGS_FILE, RunParts, open_run, read_settings
from pipelines.split import detector_of

_LAYOUT = 2
"""Of the page and its numbers, so that a report of an older version is made anew."""

_ITEM = pl.Schema({
    name: tables.METADATA[name] for name in ("id", "label", "caption", "width", "height")
})  # fmt: skip


def write_report(run: Path) -> Path:
    """Write `report/index.html` of a run, or keep it when nothing changed; returns its path."""
    with artifacts.run_lock(run):
        found = open_run(run)
        split = artifacts.read_manifest(found.split)
        calibration = _calibration_of(run, found, split)
        inputs = [
            {"name": "split", "sha256": split.id},
            {"name": "matches", "sha256": found.matches.manifest.id},
            *([{"name": "calibration", "sha256": calibration.manifest.id}] if calibration else []),
        ]
        config = {"encoder": split.config["encoder"], "layout": _LAYOUT}
        manifest = Manifest("report", config, inputs)
        out = run / "report"
        if not artifacts.finished(out, manifest.key):
            work = artifacts.work_folder(out, manifest.key)
            build_report(_inputs(run, found, split, calibration), work)
            artifacts.commit(work, out, manifest)
        return out / "index.html"


def report_inputs(run: Path) -> ReportInputs:
    """What the report of a run is made from."""
    found = open_run(run)
    split = artifacts.read_manifest(found.split)
    return _inputs(run, found, split, _calibration_of(run, found, split))


@dataclass(frozen=True)
class _Calibration:
    """A calibration that says something of a run.

    Attributes:
        manifest: the artifact's.
        summary: the content of `calibration.json`.
        recall: `recall.parquet`; None: no copies were planted.
    """

    manifest: Manifest
    summary: dict[str, Any]
    recall: pl.DataFrame | None


def _calibration_of(run: Path, found: RunParts, split: Manifest) -> _Calibration | None:
    """The calibration of a run; None: it has none, or one of other matches or another policy."""
    manifest = artifact.last_manifest(run)
    if manifest is None:
        return None
    folder = run / artifact.FOLDER
    summary = read_json(folder / artifact.CALIBRATION_FILE)
    belongs = (
        summary["matches"] == found.matches.manifest.id
        and summary["policy"] == split.config["policy"]
        and summary["detector"] == detector_of(found.matches, found.test)
    )
    if not belongs:
        return None
    curves = folder / artifact.RECALL_FILE
    recall = tables.read_table(curves, RECALL) if curves.is_file() else None
    return _Calibration(manifest, summary, recall)


def _inputs(
    run: Path, found: RunParts, split: Manifest, calibration: _Calibration | None
) -> ReportInputs:
    summary = read_json(found.split / SPLIT_FILE)
    command = _command(summary, _settings(run))
    sides = {"test": found.test, "train": found.train}
    pairs, nearest = found.matches.pairs(), found.matches.nearest()
    if summary["policy"] == "strip-train":
        sides = {"test": found.train, "train": found.test}
        summary |= {"test": found.train.name, "train": found.test.name}
        pairs, nearest = _from_the_other_side(pairs)
    if summary["policy"] == "within":
        pairs = _both_ways(pairs)
    manifests = {
        "split": split.to_json(),
        "matches": found.matches.manifest.to_json(),
        **{f"{name} embeddings": side.manifest.to_json() for name, side in sides.items()},
        **({"calibration": calibration.manifest.to_json()} if calibration else {}),
    }

    def load_images(side: Side, ids: list[str]) -> dict[str, bytes]:
        return _images(sides[side], set(ids))

    return ReportInputs(
        split=summary,
        decisions=read_decisions(found.split),
        pairs=pairs,
        nearest=nearest,
        status=sides["test"].all_status(),
        manifests=manifests,
        load_images=load_images,
        test_metadata=sides["test"].all_metadata(),
        train_metadata=_metadata_of(sides["train"], pairs["train_id"]),
        components=read_components(found.split),
        calibration=calibration.summary if calibration else None,
        recall=calibration.recall if calibration else None,
        command=command,
    )


def _from_the_other_side(pairs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pairs and nearest as they look when the train items are the ones that are decided on."""
    turned = _turned(pairs)
    nearest = (
        turned.filter(pl.col("rejected").is_null())
        .sort("test_id", "score", "train_id", descending=[False, True, False])
        .unique("test_id", keep="first", maintain_order=True)
        .with_columns(pairs=pl.lit(1), overflow=pl.lit(value=False))
        .select(tables.NEAREST.names())
    )
    return turned, nearest


def _turned(pairs: pl.DataFrame) -> pl.DataFrame:
    swap = {"test_id": "train_id", "test_sha256": "train_sha256"}
    return pairs.rename({**swap, **{there: here for here, there in swap.items()}})


def _both_ways(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of one set, stored with the later item first, from the side of either item."""
    return pl.concat([pairs, _turned(pairs).select(pairs.columns)])


def _images(side: Embeddings, ids: set[str]) -> dict[str, bytes]:
    """The images of some ids; none when the shards have gone, so that the report can be made.

    Raises:
        PartialRunError: they are in a store that fails, which will pass.
    """
    try:
        return shards.read_images(source_of(side), ids)
    except CurateError as error:
        if _will_be_back(side):
            raise PartialRunError(f"report: {error}") from error
        return {}


def _will_be_back(side: Embeddings) -> bool:
    """Whether the images of a set are in a store that fails, and have not gone from it."""
    if isinstance(side, Published):
        return False
    first = str(read_json(side.root / SOURCE)["specs"][0])
    try:
        return is_remote(first) and any(exists(url) for url in expand(first)[:1])
    except CurateError:
        return True


def _metadata_of(side: Embeddings, ids: pl.Series) -> pl.DataFrame | None:
    """What is known of the train images in pairs; None of vectors that were published.

    Only the parts that hold one of them are read.
    """
    if isinstance(side, Published):
        return None
    wanted = ids.unique()
    shards_of = set(wanted.str.split_exact(":", 1).struct.field("field_0").unique())
    frames = [
        side.metadata(part, _ITEM).filter(pl.col("id").is_in(wanted.implode()))
        for part, entry in enumerate(side.manifest.inputs)
        if entry["name"] in shards_of
    ]
    return pl.concat([pl.DataFrame(schema=_ITEM), *frames])


def _settings(run: Path) -> dict[str, Any]:
    """The settings with which the run was made last; none of a run of an older version."""
    return read_settings(run) if (run / SETTINGS_FILE).is_file() else {}


def _command(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The command line that gives this split, with the sets, files and people's words by name."""
    train = ["--within"] if summary["policy"] == "within" else ["--train", summary["train"]]
    strip = ["--strip", "train"] if summary["policy"] == "strip-train" else []
    keep = ["--keep", summary["keep"]] if summary.get("keep", "first") != "first" else []
    labels = ["--labels", "LABELS"] if "labels" in summary else []
    return shlex.join([
        *("curate", "dedup", "--test", summary["test"], *train, *strip, *keep),
        *_detector_flags(summary["detector"]),
        *("--threshold", f"{summary['threshold']:g}"),
        *_floor_flags(summary, settings),
        *("--seed", str(summary["seed"]), *labels),
    ])  # fmt: skip


def _detector_flags(detector: Mapping[str, Any]) -> list[str]:
    """The detector, and what is other than its defaults."""
    name = str(detector["name"]).removesuffix(WHITENED)
    preset, views = find_detector(name), tuple(detector["views"])
    flags = ["--detector", name]
    if views != preset.views:
        flags += ["--views", ",".join(views)]
    normalisation, whiten = detector.get("normalisation"), detector["name"] != name
    if normalisation or whiten:
        flags += ["--background", "BACKGROUND", *(["--whiten"] if whiten else [])]
    if normalisation:
        flags += ["--beta", f"{normalisation['beta']:g}"]
        flags += ["--neighbours", str(normalisation["neighbours"])]
    return [*flags, *_second_look_flags(detector.get("verify"), preset.verify)]


def _second_look_flags(verify: Mapping[str, Any] | None, usual: str | None) -> list[str]:
    if verify is None:
        return ["--verify", NOBODY] if usual else []
    flags = ["--verify", str(verify["name"])] if verify["name"] != usual else []
    return [*flags, *(["--verify-top", str(verify["top"])] if verify["top"] != TOP else [])]


def _floor_flags(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The floor of the first search; with a second look by pixels, that of the split is another."""
    verify = summary["detector"].get("verify")
    floor = settings.get("floor") if verify and verify["name"] == PIXELS else summary["floor"]
    return [] if floor is None else ["--floor", f"{floor:g}"]
