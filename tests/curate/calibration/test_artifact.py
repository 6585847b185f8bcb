import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curate import artifacts, tables
from curate.artifacts import Manifest
from curate.calibration import artifact
from curate.calibration.artifact import Findings, read_calibrated
from curate.calibration.plan import PLAN
from curate.calibration.planted import PLANTED
from curate.errors import CurateError

DETECTOR = {"name": "builtin:layout", "views": ["identity", "mirror"], "verification": None}
PROPOSAL = {"threshold": 0.8, "wanted": 0.95, "precision": 0.97, "low": 0.95, "high": 0.99}


def summary(**more: Any) -> dict[str, Any]:
    return {"format": 1, "detector": DETECTOR, "floor": 0.7, "proposal": PROPOSAL, **more}


def written(run: Path, content: dict[str, Any], *, matches: str = "m") -> Path:
    manifest = Manifest("calibration", {"planted": "key"}, [{"name": "matches", "sha256": matches}])
    plan = pl.DataFrame({"order": [1], "test_id": ["t:a"], "train_id": ["r:1"]}).select(
        pl.col(name).cast(kind) if name in ("order", "test_id", "train_id") else
        pl.lit(None, kind).alias(name) for name, kind in PLAN.items()
    )  # fmt: skip
    return artifact.write(run, manifest, Findings(content, plan=plan))


def test_a_calibration_is_one_artifact_with_its_plan_for_people(tmp_path: Path) -> None:
    folder = written(tmp_path, summary())
    assert {path.name for path in folder.iterdir()} == {
        "calibration.json", "manifest.json", "plan.csv", "plan.parquet",
    }  # fmt: skip
    assert artifacts.verify(folder) == []
    assert (folder / "plan.csv").read_text().splitlines()[1].startswith("1,t:a,r:1,")


def test_the_last_plan_is_that_of_the_same_matches(tmp_path: Path) -> None:
    assert artifact.last_plan(tmp_path, "m") is None
    written(tmp_path, summary())
    plan = artifact.last_plan(tmp_path, "m")
    assert plan is not None
    assert plan["test_id"].to_list() == ["t:a"]
    assert artifact.last_plan(tmp_path, "other") is None
    assert artifact.last_planted(tmp_path, "key") is None  # nothing was planted


def test_scores_of_planted_copies_that_were_cut_are_none(tmp_path: Path) -> None:
    work = artifacts.work_folder(tmp_path / "calibration", "key")
    tables.write_table(work / "planted.parquet", pl.DataFrame(schema=PLANTED), PLANTED)
    artifacts.commit(
        work, tmp_path / "calibration", Manifest("calibration", {"planted": "key"}, [])
    )
    assert artifact.last_planted(tmp_path, "key") is not None
    path = tmp_path / "calibration" / "planted.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert artifact.last_planted(tmp_path, "key") is None


@pytest.mark.parametrize("place", [".", "calibration", "calibration/calibration.json"])
def test_a_run_its_folder_and_its_file_name_the_same_threshold(tmp_path: Path, place: str) -> None:
    folder = written(tmp_path, summary())
    found = read_calibrated(tmp_path / place)
    assert (found.threshold, found.floor) == (0.8, 0.7)
    stated = {name: value for name, value in PROPOSAL.items() if name != "threshold"}
    assert found.to_json() == {"id": artifacts.read_manifest(folder).id, **stated}


def test_a_file_that_was_copied_out_is_known_by_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(summary()))
    assert len(read_calibrated(file).id) == 64


def test_another_detector_is_told_by_what_differs(tmp_path: Path) -> None:
    written(tmp_path, summary())
    found = read_calibrated(tmp_path)
    found.check(DETECTOR)
    with pytest.raises(CurateError, match=r"\(they differ in verification, views\)"):
        found.check({**DETECTOR, "views": ["identity"], "verification": {"name": "pixels"}})


@pytest.mark.parametrize(("content", "message"), [
    ({"format": 2}, "format 1"),
    ([], "format 1"),
    ({"format": 1}, "'proposal' is missing"),
    (summary(floor=None), "missing or odd"),
    (summary(floor="low"), "missing or odd"),
    (summary(proposal={"threshold": None, "reason": "too few pairs are judged"}),
     "proposes no threshold, as too few pairs"),
])  # fmt: skip
def test_what_is_no_calibration_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(content))
    with pytest.raises(CurateError, match=message):
        read_calibrated(file)
