"""The calibration of a run on disk: written whole, read back, and used as a threshold."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate import artifacts, tables
from curate.artifacts import MANIFEST, Manifest
from curate.calibration.plan import PLAN
from curate.calibration.planted import PLANTED
from curate.calibration.recall import RECALL
from curate.errors import CurateError
from curate.files import atomic_write, file_digest, read_json, write_json
from curate.storage import below, first_file

FOLDER = "calibration"
CALIBRATION_FILE = "calibration.json"
PLANTED_FILE = "planted.parquet"
RECALL_FILE = "recall.parquet"
PLAN_FILE = "plan.parquet"
PLAN_CSV = "plan.csv"
FORMAT = 1


@dataclass(frozen=True)
class Findings:
    """All that a calibration is.

    Attributes:
        summary: the content of `calibration.json`.
        planted: `PLANTED`; None: nothing was planted.
        recall: `RECALL`, likewise.
        plan: `PLAN`; None: none was asked for.
    """

    summary: dict[str, Any]
    planted: pl.DataFrame | None = None
    recall: pl.DataFrame | None = None
    plan: pl.DataFrame | None = None


def write(run: Path, manifest: Manifest, findings: Findings) -> Path:
    """Write the calibration of a run, whole, in place of an older one; returns its folder."""
    out = run / FOLDER
    work = artifacts.work_folder(out, manifest.key)
    write_json(work / CALIBRATION_FILE, findings.summary)
    for name, frame, schema in (
        (PLANTED_FILE, findings.planted, PLANTED),
        (RECALL_FILE, findings.recall, RECALL),
        (PLAN_FILE, findings.plan, PLAN),
    ):
        if frame is not None:
            tables.write_table(work / name, frame, schema)
    if findings.plan is not None:
        with atomic_write(work / PLAN_CSV) as stream:
            findings.plan.write_csv(stream)
    artifacts.commit(work, out, manifest)
    return out


def last_manifest(run: Path) -> Manifest | None:
    """The manifest of the calibration that a run has; None: it has none."""
    folder = run / FOLDER
    return artifacts.read_manifest(folder) if (folder / MANIFEST).is_file() else None


def last_plan(run: Path, matches: str) -> pl.DataFrame | None:
    """The plan that a run has for these matches; None: none, or for others."""
    manifest = last_manifest(run)
    path = run / FOLDER / PLAN_FILE
    if manifest is None or not path.is_file():
        return None
    if {"name": "matches", "sha256": matches} not in manifest.inputs:
        return None
    return tables.read_table(path, PLAN)


def last_planted(run: Path, key: str) -> pl.DataFrame | None:
    """The scores of copies that were planted by just these settings, if a run has them whole."""
    manifest = last_manifest(run)
    path = run / FOLDER / PLANTED_FILE
    if manifest is None or manifest.config.get("planted") != key or not path.is_file():
        return None
    if PLANTED_FILE in artifacts.missing_outputs(path.parent, manifest):
        return None
    return tables.read_table(path, PLANTED)


# --- a threshold from it -------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibrated:
    """A threshold that was measured, with what it was measured for.

    Attributes:
        place: the file.
        id: of the artifact.
        detector: encoder, views and further steps that scores come from.
        floor: lowest score that was stored.
        wanted: precision that was asked for.
        precision: measured share of the flagged items that are copies.
        low: of its interval.
        high: likewise.
    """

    place: Path
    id: str
    detector: dict[str, Any]
    floor: float
    threshold: float
    wanted: float
    precision: float
    low: float
    high: float

    def check(self, detector: dict[str, Any]) -> None:
        """Check that a run's scores mean what they meant in the calibration.

        Raises:
            CurateError: they come from another detector; it names what differs.
        """
        names = sorted(self.detector.keys() | detector.keys())
        odd = [name for name in names if self.detector.get(name) != detector.get(name)]
        if odd:
            raise CurateError(
                f"{self.place}: made with another detector than this run's (they differ in "
                f"{', '.join(odd)}), so its threshold means something else here; run `curate "
                "calibrate` on this run, or give --threshold a number."
            )

    def to_json(self) -> dict[str, Any]:
        """What a split states of it."""
        stated = asdict(self)
        return {name: stated[name] for name in ("id", "wanted", "precision", "low", "high")}


def read_calibrated(path: Path) -> Calibrated:
    """The threshold that a calibration proposes.

    Args:
        path: a `calibration.json`, or the folder or the run that holds it.

    Raises:
        CurateError: there is none, it was altered, or it proposes no threshold.
    """
    names = (CALIBRATION_FILE, f"{FOLDER}/{CALIBRATION_FILE}")
    file = first_file([path, *(below(path, name) for name in names)])
    if file is None:
        raise CurateError(
            f"{path}: no calibration is there. Run `curate calibrate` on a finished run, and name "
            "that run's with --calibration."
        )
    summary = read_json(file)
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        raise CurateError(f"{file}: not a calibration of format {FORMAT}; calibrate again.")
    try:
        return _calibrated(file, summary)
    except (KeyError, TypeError, ValueError) as error:
        raise CurateError(f"{file}: {error} is missing or odd; calibrate again.") from error


def _calibrated(file: Path, summary: dict[str, Any]) -> Calibrated:
    proposal = summary["proposal"]
    if proposal["threshold"] is None:
        raise CurateError(
            f"{file}: proposes no threshold, as {proposal['reason']}. Judge more pairs and "
            "calibrate again, or give --threshold a number."
        )
    numbers = ("threshold", "wanted", "precision", "low", "high")
    return Calibrated(
        file, _id_of(file), summary["detector"], float(summary["floor"]),
        *(float(proposal[name]) for name in numbers),
    )  # fmt: skip


def _id_of(file: Path) -> str:
    """Id of the artifact that the file is in; of a file that was copied out, its digest."""
    if not (file.parent / MANIFEST).is_file():
        return file_digest(file)
    manifest = artifacts.read_manifest(file.parent)
    known = {entry["path"]: entry["sha256"] for entry in manifest.outputs}
    if known.get(file.name) != file_digest(file):
        raise CurateError(f"{file}: altered by hand; run `curate calibrate` again.")
    return manifest.id
