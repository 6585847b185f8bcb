"""The calibration of a run: what its threshold finds, and how often it is right."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from curate import artifacts
from curate.artifacts import Manifest
from curate.calibration import artifact, plan, precision, recall, summary
from curate.calibration.artifact import CALIBRATION_FILE, Findings
from curate.calibration.judgements import Judgements, read_judgements
from curate.calibration.planted import Planting, PlantUnit, SecondLook, choose, plant_all
from curate.calibration.summary import Wanted
from curate.calibration.units import decision_units
from curate.config import DedupConfig, make_config
from curate.embed import EmbedSettings, source_of
from curate.encoders import cached_encoder, fingerprint
from curate.errors import CurateError
from curate.files import digest, read_json
from curate.labels import FOLDER as LABELS
from curate.parts import Embeddings
from curate.published import Published
from curate.shards import Dataset
from curate.splits import SPLIT_FILE
from curate.units import RunUnits
from pipelines.dedup import normalisation_of
from pipelines.runs import RunParts, open_run, read_settings
from pipelines.split import detector_of
from pipelines.watch import Watch, watched


@dataclass(frozen=True)
class CalibrationRequest:
    """What is asked of a calibration.

    Attributes:
        planting: which copies are planted; no images: none.
        wanted: of the threshold that is proposed.
        labels: where labels are; None: the run's own, if it has some.
        plan: how many pairs to draw for judging; None: the plan that is there stays.
        embedding: settings of `curate dedup` that are other now, such as weights that were moved.
    """

    planting: Planting
    wanted: Wanted
    labels: Path | None = None
    plan: int | None = None
    embedding: Mapping[str, Any] | None = None


def run_calibrate(
    run: Path, request: CalibrationRequest, run_units: RunUnits, watch: Watch | None = None
) -> dict[str, Any]:
    """Calibrate a finished run into its folder `calibration`; returns `calibration.json`.

    Copies that were planted before by the same settings are not planted again.

    Raises:
        PartialRunError: some shards could not be read; the others are kept.
        CurateError: the run is not finished, or its encoder cannot be had as it was.
    """
    with artifacts.run_lock(run):
        subject = _subject(run, request)
        source = _Source(subject, request)
        manifest = Manifest("calibration", _config(subject, request, source), _inputs(subject))
        if artifacts.finished(run / artifact.FOLDER, manifest.key):
            return dict(read_json(run / artifact.FOLDER / CALIBRATION_FILE))
        copies = source.planted(run_units, watch or Watch())
        findings = _findings(subject, request, copies, source.hindrance)
        artifact.write(run, manifest, findings)
        shutil.rmtree(source.folder, ignore_errors=True)
        return findings.summary


@dataclass(frozen=True)
class _Subject:
    """A run as it is, with the units that may be judged, and what was said of them.

    Attributes:
        last: the content of the run's `split.json`.
        units: `UNITS`.
        plan: `PLAN`; None: nothing was drawn.
    """

    run: Path
    found: RunParts
    last: dict[str, Any]
    units: pl.DataFrame
    judgements: Judgements | None
    plan: pl.DataFrame | None = None

    @property
    def floor(self) -> float:
        return float(self.found.matches.manifest.config["floor"])

    @property
    def detector(self) -> dict[str, Any]:
        return detector_of(self.found.matches, self.found.test)


def _subject(run: Path, request: CalibrationRequest) -> _Subject:
    found = open_run(run)
    last = read_json(found.split / SPLIT_FILE)
    of_train = last["policy"] == "strip-train"
    units = decision_units(found.matches.pairs(), of_train=of_train)
    subject = _Subject(run, found, last, units, _judgements(run, request.labels))
    return replace(subject, plan=_plan(subject, request))


def _judgements(run: Path, labels: Path | None) -> Judgements | None:
    if labels is not None:
        return read_judgements(labels)
    return read_judgements(run / LABELS) if (run / LABELS).is_dir() else None


def _inputs(subject: _Subject) -> list[dict[str, Any]]:
    return [
        {"name": "matches", "sha256": subject.found.matches.manifest.id},
        {"name": "train", "sha256": subject.found.train.manifest.id},
    ]


def _config(subject: _Subject, request: CalibrationRequest, source: "_Source") -> dict[str, Any]:
    return {
        **asdict(request.wanted),
        "planting": asdict(request.planting),
        "planted": source.key,
        "labels": subject.judgements.sha256 if subject.judgements else None,
        "plan": None if subject.plan is None else digest(subject.plan.rows()),
        "policy": subject.last["policy"],
        "threshold": subject.last["threshold"],
    }


# --- what people are asked -----------------------------------------------------------------------


def _plan(subject: _Subject, request: CalibrationRequest) -> pl.DataFrame | None:
    """The plan that the run has for its matches, or a new one; labels at hand shape the new one."""
    before = artifact.last_plan(subject.run, subject.found.matches.manifest.id)
    if request.plan is None:
        return before
    scores = subject.units["score"].to_numpy()
    seen: dict[float, float] = {}
    if before is not None and subject.judgements is not None:
        answered = precision.answered(before, subject.judgements.table)
        seen = {zone.low: zone.expected for zone in precision.Sample(scores, answered).zones()}
    zones = plan.zones(scores, subject.floor, subject.last["threshold"], seen)
    return plan.draw(subject.units, zones, request.plan, request.planting.seed)


# --- planted copies ------------------------------------------------------------------------------


class _Source:
    """The train images of a run, and how a test image of it is embedded and scored.

    Attributes:
        key: of all that decides on the scores; None: nothing is planted.
        hindrance: why nothing is planted, or None.
        folder: where interrupted work is.
    """

    def __init__(self, subject: _Subject, request: CalibrationRequest) -> None:
        self._run = subject.run
        self._found = subject.found
        self._planting = request.planting
        self.key: str | None = None
        self.folder = subject.run / "planted"
        self.hindrance = self._why_not()
        if self.hindrance:
            return
        self._settings = _settings(subject.run, request.embedding or {})
        self._embedding = _embedding(self._settings, subject.found.test)
        sides = (subject.found.test, subject.found.train)
        self.key = digest({
            "planting": asdict(self._planting), "train": subject.found.train.manifest.id,
            "detector": subject.detector, "limits": sides[0].manifest.config["limits"],
            "dtypes": [side.manifest.config["dtype"] for side in sides],
            "candidates": self._settings.match_settings().floor,
        })  # fmt: skip
        self.folder = artifacts.work_path(self.folder, self.key)

    def _why_not(self) -> str | None:
        if not self._planting.images:
            return "none was asked for (--copies 0)"
        if isinstance(self._found.train, Published):
            return "the train set is published vectors, of which there are no images"
        return None

    def _second(self) -> SecondLook | None:
        spec = self._settings.verifier
        return None if spec is None else SecondLook(spec, self._settings.match_settings().floor)

    def planted(self, run_units: RunUnits, watch: Watch) -> pl.DataFrame | None:
        """The scores of planted copies; None: nothing is planted."""
        if self.key is None:
            return None
        before = artifact.last_planted(self._run, self.key)
        if before is not None:
            return before
        train = self._found.train
        dataset = _same_shards(train)
        chosen = choose(train, self._planting)
        artifacts.work_folder(self._run / "planted", self.key)
        watch.stage(f"plant copies of {train.name}", len(chosen))
        base = PlantUnit(
            dataset, dataset.shards[0], 0, (), self._planting, self._embedding,
            str(train.manifest.config["dtype"]),
            normalisation_of(self._settings, self._found.test), self._second(), str(self.folder),
        )  # fmt: skip
        return plant_all(dataset, chosen, base, watched(run_units, watch.step))


def _same_shards(train: Embeddings) -> Dataset:
    """The data set of the train embeddings, shard for shard."""
    dataset = source_of(train)
    names = [entry["name"] for entry in train.manifest.inputs]
    if [shard.name for shard in dataset.shards] != names:
        raise CurateError(
            f"{dataset.root}: holds other shards than were embedded; run `curate dedup` again."
        )
    return dataset


def _settings(run: Path, changed: Mapping[str, Any]) -> DedupConfig:
    return make_config(DedupConfig, {**read_settings(run), **changed}, "curate calibrate")


def _embedding(settings: DedupConfig, test: Embeddings) -> EmbedSettings:
    """How the run embedded its test images.

    Raises:
        CurateError: the encoder is not the same any more.
    """
    config = test.manifest.config
    embedding = replace(settings.embed_settings(tuple(config["views"])), dtype=config["dtype"])
    if fingerprint(cached_encoder(embedding.encoder)) != config["encoder"]:
        raise CurateError(
            f"{test.place}: embedded by {config['encoder']['name']} with other weights, precision "
            "or libraries than are used now, so planted copies could not be compared; give the "
            "same --weights and --precision, or run `curate dedup` again."
        )
    return embedding


# --- all together --------------------------------------------------------------------------------


def _findings(
    subject: _Subject,
    request: CalibrationRequest,
    copies: pl.DataFrame | None,
    hindrance: str | None,
) -> Findings:
    last, floor = subject.last, subject.floor
    thresholds = plan.grid(floor, last["threshold"])
    judged = summary.labelled(
        subject.units, subject.plan, subject.judgements, thresholds, request.wanted
    )
    proposed = judged["proposal"]["threshold"]
    at = last["threshold"] if proposed is None else proposed
    curves = planted = None
    if copies is not None:
        curves = recall.recall_table(copies, thresholds)
        planted = summary.planted(copies, curves, at)
    content = {
        "format": artifact.FORMAT,
        **{name: last[name] for name in ("test", "train", "policy")},
        "matches": subject.found.matches.manifest.id,
        "detector": subject.detector,
        "floor": floor,
        "run_threshold": last["threshold"],
        "at_threshold": at,
        "thresholds": thresholds,
        "confidence": request.wanted.confidence,
        "seed": request.planting.seed,
        "planted": planted,
        "planted_reason": hindrance,
        **judged,
    }
    return Findings(content, copies, curves, subject.plan)
