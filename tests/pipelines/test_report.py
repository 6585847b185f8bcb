"""The report of a run shows what the run says, for every way of deciding."""

import html
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pictures import copies, encoded, picture, sample, write_set, write_shard
from servers import web_server

from curate.calibration.planted import Planting
from curate.calibration.summary import Wanted
from curate.config import DedupConfig
from curate.errors import PartialRunError
from curate.files import read_json
from curate.units import run_in_process
from pipelines.calibrate import CalibrationRequest, run_calibrate
from pipelines.dedup import run_dedup
from pipelines.report import write_report
from pipelines.runs import open_run
from pipelines.split import SplitRequest, resplit


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "train", [range(10, 20)])
    rows = [sample("copy", copies(picture(12))["mirrored"]), sample("new", encoded(picture(99)))]
    write_shard(root / "test" / "0.tar", rows)
    return root


def words(page: str) -> str:
    """The text of a page, without its markup."""
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def report(sets: Path, out: Path, **more: object) -> str:
    values = {
        "test": (str(sets / "test"),),
        "train": (str(sets / "train"),),
        "out": out,
        "threshold": 0.8,
        "detector": "builtin:layout",
    }
    run_dedup(DedupConfig(**{**values, **more}), run_in_process)
    return write_report(out).read_text()


def read_pairs(run: Path) -> pl.DataFrame:
    return open_run(run).matches.pairs()


def test_it_states_the_finding_and_the_command(sets: Path, tmp_path: Path) -> None:
    page = report(sets, tmp_path / "run")
    assert "1 of 2 test images" in page
    assert (
        "curate dedup --test test --train train --detector builtin:layout --threshold 0.8"
        in words(page)
    )
    assert page.count("data:image/webp") >= 2


def test_it_follows_the_latest_split(sets: Path, tmp_path: Path) -> None:
    first = report(sets, tmp_path / "run", floor=0.5)
    resplit(tmp_path / "run", SplitRequest(0.99999, "clean-test"), run_in_process)
    second = write_report(tmp_path / "run").read_text()
    assert first != second
    manifest = read_json(tmp_path / "run" / "report" / "manifest.json")
    assert [entry["name"] for entry in manifest["inputs"]] == ["split", "matches"]


def calibrate(run: Path, images: int) -> None:
    planting = Planting(images, ("jpeg", "mirror"), 0)
    run_calibrate(run, CalibrationRequest(planting, Wanted(0.5), plan=9), run_in_process)


def test_a_new_calibration_renews_the_report(sets: Path, tmp_path: Path) -> None:
    before = report(sets, tmp_path / "run", floor=0.5)
    pages = []
    for images in (3, 4):
        calibrate(tmp_path / "run", images)
        pages.append(words(write_report(tmp_path / "run").read_text()))
        manifest = read_json(tmp_path / "run" / "report" / "manifest.json")
        made = read_json(tmp_path / "run" / "calibration" / "manifest.json")
        assert {"name": "calibration", "sha256": made["id"]} in manifest["inputs"]
        assert f"copies of {images} train images" in pages[-1]
    assert "is not measured" in words(before)
    facts = read_json(tmp_path / "run" / "report" / "report.json")
    assert {row["name"] for row in facts["calibration"]["kinds"]["rows"]} == {"jpeg", "mirror"}
    assert "calibration" in facts["manifests"]


def test_a_calibration_of_other_matches_is_left_out(sets: Path, tmp_path: Path) -> None:
    report(sets, tmp_path / "run", floor=0.5)
    calibrate(tmp_path / "run", 3)
    page = report(sets, tmp_path / "run", floor=0.6)
    assert "is not measured" in words(page)
    facts = read_json(tmp_path / "run" / "report" / "report.json")
    assert "calibration" not in facts


def test_train_images_are_shown_with_their_labels(sets: Path, tmp_path: Path) -> None:
    page = report(sets, tmp_path / "run")
    label = sample_label(sets / "train" / "00000.tar", "000012")
    assert f"train {label} " in words(page).replace("\n", " ")


def sample_label(path: Path, key: str) -> str:
    with tarfile.open(path) as tar:
        member = tar.extractfile(f"{key}.cls")
        assert member is not None
        return member.read().decode()


@pytest.mark.parametrize(
    ("more", "flags"),
    [
        ({}, "--detector builtin:layout --threshold 0.8 --floor 0.7"),
        ({"views": ("identity", "mirror")}, "--detector builtin:layout --threshold"),
        (
            {"views": ("identity", "mirror", "trim"), "verify": "phash:phash", "verify_top": 5},
            "--views identity,mirror,trim --verify phash:phash --verify-top 5 --threshold 0.8",
        ),
        (
            {"verify": "pixels", "threshold": 0.3, "floor": 0.6},
            "--verify pixels --threshold 0.3 --floor 0.6 --seed 0",
        ),
        ({"verify": "pixels", "threshold": 0.3}, "--verify pixels --threshold 0.3 --seed 0"),
    ],
)
def test_the_command_states_what_is_other_than_the_detectors_defaults(
    sets: Path, tmp_path: Path, more: dict[str, Any], flags: str
) -> None:
    page = words(report(sets, tmp_path / "run", **more))
    assert flags in " ".join(page.split())


def test_labels_of_people_are_in_the_command(sets: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("test_id,train_id,label\n0:copy,00000:000012,different\n")
    page = words(report(sets, tmp_path / "run", labels=labels))
    assert "--labels LABELS" in page
    assert "stays: matches were judged different" in page
    assert str(tmp_path) not in page


def test_a_rejected_pair_is_no_match_of_a_train_image_either(sets: Path, tmp_path: Path) -> None:
    page = words(report(sets, tmp_path / "run", strip="train", verify="phash:whash", floor=-1))
    facts = read_json(tmp_path / "run" / "report" / "report.json")
    pairs = read_pairs(tmp_path / "run")
    refused = pairs.filter(pl.col("rejected").is_not_null())
    assert facts["rejected"]["total"] == refused["train_id"].n_unique() > 0
    kept = pairs.filter(pl.col("rejected").is_null())["train_id"].n_unique()
    binned = sum(row["count"] for row in facts["histogram"]["bins"])
    assert binned == kept > 0
    assert "phash:whash: " in page


def test_stripping_the_train_set_is_told_from_the_train_side(sets: Path, tmp_path: Path) -> None:
    page = report(sets, tmp_path / "run", strip="train")
    assert "00000:000012" in page
    assert "--strip train" in words(page)


def test_one_set_against_itself_has_a_report(sets: Path, tmp_path: Path) -> None:
    rows = [sample("a", encoded(picture(1))), sample("b", copies(picture(1))["jpeg"])]
    write_shard(tmp_path / "photos" / "0.tar", rows)
    page = report(sets, tmp_path / "run", test=(str(tmp_path / "photos"),), train=(), within=True)
    assert "--within" in words(page)
    assert "1 of 2" in page
    assert "--keep" not in words(page)
    assert "1 group of 2 images in all" in words(page)
    resplit(tmp_path / "run", SplitRequest(0.8, "within", keep="farthest"), run_in_process)
    again = words(write_report(tmp_path / "run").read_text())
    assert "--within --keep farthest" in again


def test_a_copy_that_comes_first_but_goes_is_shown_as_the_same_file(
    sets: Path, tmp_path: Path
) -> None:
    near = sample("small", encoded(picture(1).resize((40, 40))))
    write_shard(tmp_path / "photos" / "0.tar", [near, sample("large", encoded(picture(1)))])
    values = {"test": (str(tmp_path / "photos"),), "train": (), "within": True, "keep": "largest"}
    report(sets, tmp_path / "run", **values)
    (shown,) = read_json(tmp_path / "run" / "report" / "report.json")["removed"]["pairs"]
    assert (shown["test_id"], shown["train_id"]) == ("0:small", "0:large")
    assert shown["others"] == 0


def test_a_store_that_fails_leaves_no_report_without_images(sets: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "web" / "train", [range(10, 20)])
    with web_server(tmp_path / "web") as (address, faults):
        report(sets, tmp_path / "run", train=(f"{address}/train/00000.tar",))
        before = (tmp_path / "run" / "report" / "index.html").read_bytes()
        shutil.rmtree(tmp_path / "run" / "report")
        faults.broken["/train/00000.tar"] = 10**6
        with pytest.raises(PartialRunError, match=r"00000\.tar"):
            write_report(tmp_path / "run")
        assert not (tmp_path / "run" / "report").exists()
        faults.broken.clear()
        assert write_report(tmp_path / "run").read_bytes() == before


def test_images_that_have_gone_leave_a_report_without_them(sets: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "gone", [range(10, 20)])
    report(sets, tmp_path / "run", train=(str(tmp_path / "gone"),))
    (tmp_path / "gone" / "00000.tar").unlink()
    (tmp_path / "gone").rmdir()
    shutil.rmtree(tmp_path / "run" / "report")
    page = write_report(tmp_path / "run").read_text()
    assert "1 of 2 test images" in page
