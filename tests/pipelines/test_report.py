"""The report of a run shows what the run says, for every way of deciding."""

import html
import re
import shutil
from pathlib import Path

import pytest
from pictures import copies, encoded, picture, sample, write_set, write_shard

from curate.config import DedupConfig
from curate.files import read_json
from curate.units import run_in_process
from pipelines.dedup import SplitRequest, resplit, run_dedup
from pipelines.report import write_report


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
    }
    run_dedup(DedupConfig(**{**values, **more}), run_in_process)
    return write_report(out).read_text()


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


def test_images_that_have_gone_leave_a_report_without_them(sets: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "gone", [range(10, 20)])
    report(sets, tmp_path / "run", train=(str(tmp_path / "gone"),))
    (tmp_path / "gone" / "00000.tar").unlink()
    (tmp_path / "gone").rmdir()
    shutil.rmtree(tmp_path / "run" / "report")
    page = write_report(tmp_path / "run").read_text()
    assert "1 of 2 test images" in page
