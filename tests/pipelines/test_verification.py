"""The second look in the main job: from a flag to splits, report and review."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from interruptions import run_killing
from pictures import copies, encoded, picture, sample, tree, write_set, write_shard
from typer.testing import CliRunner

from curate import artifacts
from curate.config import DedupConfig, make_config
from curate.errors import CurateError
from curate.review.session import Session
from curate.splits import read_decisions
from curate.units import RunUnits, run_in_process
from curate.verification.verifiers import TOP
from pipelines.cli import app
from pipelines.dedup import DedupResult, run_dedup
from pipelines.execute import unit_runner
from pipelines.report import write_report
from pipelines.review import review_inputs
from pipelines.split import request_again, resplit

HASH = "phash:phash"
LOW = {"threshold": 0.1, "floor": -0.1}
TABLES = ("pairs.parquet", "nearest.parquet")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train pictures 10..21; test: five copies of 12, and three pictures of their own."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "train", [range(10, 16), range(16, 22)])
    rows = [sample(f"copy-{kind}", data) for kind, data in copies(picture(12)).items()]
    write_shard(root / "test" / "0.tar", rows)
    write_shard(
        root / "test" / "1.tar", [sample(f"new{n}", encoded(picture(n))) for n in range(60, 63)]
    )
    return root


def configure(sets: Path, out: Path, **more: Any) -> DedupConfig:
    sides = {"test": (str(sets / "test"),), "train": (str(sets / "train"),), "out": out}
    return make_config(DedupConfig, {**sides, "detector": "builtin:layout", **more}, "here")


def run(sets: Path, out: Path, runner: RunUnits = run_in_process, **more: Any) -> DedupResult:
    return run_dedup(configure(sets, out, **more), runner)


def overlap(split: Path) -> set[str]:
    return set(read_decisions(split).filter(decision="overlap")["key"])


def pairs(result: DedupResult) -> pl.DataFrame:
    return pl.read_parquet(result.matches / "pairs.parquet")


COPIES = {f"copy-{kind}" for kind in copies(picture(0))}


def test_what_a_detector_refuses_is_clean(sets: Path, tmp_path: Path) -> None:
    plain = run(sets, tmp_path / "plain", **LOW)
    assert overlap(plain.split) > COPIES
    found = run(sets, tmp_path / "run", **LOW, verify=HASH)
    assert overlap(found.split) == COPIES
    stated = found.summary["detector"]["verify"]
    assert (stated["name"], stated["threshold"], stated["top"]) == (HASH, 0.75, TOP)
    counts = found.summary["counts"]
    assert counts["in"] == counts["clean"] + counts["overlap"] + counts["unknown"] == 8
    assert found.summary["conservation"]
    assert pairs(found).height == pairs(plain).height
    assert artifacts.verify_all(list(artifacts.artifacts(tmp_path / "run"))) == []


def test_nobody_looks_again_where_none_is_asked(sets: Path, tmp_path: Path) -> None:
    plain = run(sets, tmp_path / "plain")
    none = run(sets, tmp_path / "none", verify="none")
    assert tree(plain.run) == tree(none.run)
    assert "verify" not in none.summary["detector"]


def test_pixels_have_a_threshold_and_a_floor_of_their_own(sets: Path, tmp_path: Path) -> None:
    found = run(sets, tmp_path, verify="pixels")
    assert found.summary["threshold"] == 0.5
    assert found.summary["floor"] == 0.02
    assert found.summary["first_floor"] == 0.7
    assert {"copy-same", "copy-smaller", "copy-mirrored"} <= overlap(found.split)
    decided = read_decisions(found.split).filter(decision="overlap")
    assert decided["score"].min() >= 0.5  # type: ignore[operator]
    assert set(pairs(found)["cosine"] >= np.float32(0.7)) == {True}


@pytest.mark.parametrize(
    "more",
    [
        {"fused": True},
        {"search": "flat"},
        {"workers": 2},
    ],
)
def test_the_tables_are_the_same_however_they_are_found(
    sets: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    asked = {**LOW, "verify": HASH}
    plain = run(sets, tmp_path / "plain", **asked)
    with unit_runner(more.get("workers", 1)) as runner:
        other = run(sets, tmp_path / "other", runner, **asked, **more)
    for name in TABLES:
        assert (plain.matches / name).read_bytes() == (other.matches / name).read_bytes()
    assert overlap(other.split) == COPIES


@pytest.mark.slow
def test_the_number_of_workers_changes_no_share(sets: Path, tmp_path: Path) -> None:
    one = run(sets, tmp_path / "one", verify="pixels", floor=-0.1)
    with unit_runner(2) as runner:
        two = run(sets, tmp_path / "two", runner, verify="pixels", floor=-0.1)
    assert tree(one.run) == tree(two.run)


def test_only_a_number_of_candidates_is_looked_at(sets: Path, tmp_path: Path) -> None:
    found = pairs(run(sets, tmp_path, **LOW, verify=HASH, verify_top=1))
    unseen = found.filter(pl.col("rejected").str.starts_with("not among the 1 most similar"))
    assert unseen.height == found.height - found["test_id"].n_unique()


def test_one_set_is_compared_with_itself(sets: Path, tmp_path: Path) -> None:
    asked = {"train": (), "within": True, "verify": HASH, **LOW}
    found = run(sets, tmp_path, **asked)
    assert overlap(found.split) == COPIES - {"copy-same"}


def test_train_items_whose_pairs_were_refused_stay(sets: Path, tmp_path: Path) -> None:
    plain = run(sets, tmp_path / "plain", **LOW, strip="train")
    assert len(overlap(plain.split)) > 1
    found = run(sets, tmp_path / "run", **LOW, strip="train", verify=HASH)
    assert overlap(found.split) == {"000012"}


def test_a_second_run_does_nothing(sets: Path, tmp_path: Path) -> None:
    run(sets, tmp_path, **LOW, verify=HASH)
    before = tree(tmp_path, facts=True)

    def nothing(function: Any, units: Any) -> Any:
        assert not units
        return iter(())

    run(sets, tmp_path, nothing, **LOW, verify=HASH)
    assert tree(tmp_path, facts=True) == before


def test_another_split_a_report_and_a_review_are_made_of_it(sets: Path, tmp_path: Path) -> None:
    found = run(sets, tmp_path, **LOW, verify=HASH)
    split = resplit(tmp_path, request_again(found.summary, 0.97), run_in_process)
    assert overlap(split) == COPIES
    assert json.loads((split / "split.json").read_text())["detector"] == found.summary["detector"]
    page = write_report(tmp_path).read_text()
    assert "copy-jpeg" in page
    inputs = review_inputs(tmp_path, "anna")
    assert inputs.pairs == found.matches / "pairs.parquet"
    with closing(Session(inputs)) as session:
        assert {band["name"] for band in session.state()["bands"]} >= {"rejected"}


def test_a_split_below_the_pixels_floor_is_refused(sets: Path, tmp_path: Path) -> None:
    found = run(sets, tmp_path, verify="pixels")
    resplit(tmp_path, request_again(found.summary, 0.05), run_in_process)
    with pytest.raises(CurateError, match=r"below the floor 0\.02"):
        resplit(tmp_path, request_again(found.summary, 0.01), run_in_process)


# --- settings ------------------------------------------------------------------------------------


def test_a_detector_brings_its_own_second_look(tmp_path: Path) -> None:
    asked = configure(tmp_path, tmp_path, detector="builtin:copy")
    assert asked.verifier is not None
    assert asked.verifier.encoder.name == "pixels"
    assert (asked.chosen_threshold, asked.chosen_floor) == (0.5, asked.preset.floor)
    alone = configure(tmp_path, tmp_path, detector="builtin:copy", verify="none")
    assert alone.verifier is None
    assert alone.chosen_threshold == alone.preset.threshold
    other = configure(tmp_path, tmp_path, detector="builtin:copy", verify=HASH, verify_top=3)
    assert other.verifier is not None
    assert (other.verifier.encoder.name, other.verifier.top) == (HASH, 3)


def test_the_recall_of_an_index_is_that_of_candidates(tmp_path: Path) -> None:
    index = {"search": "ivf", "min_recall": 0.9}
    by_pixels = configure(tmp_path, tmp_path, verify="pixels", **index)
    assert by_pixels.recall_settings().threshold == 0.7
    assert configure(tmp_path, tmp_path, **index).recall_settings().threshold == 0.82


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"verify": "pixel"}, r"verify: pixels, none or a detector was expected .*pixel"),
        ({"verify": "phash:phsah"}, r"did you mean phash:phash"),
        ({"verify_top": 0}, r"verify_top"),
        ({"verify": "pixels", "verify_weights": "w.pt"}, r"verify-weights are those of a detector"),
        ({"verify_weights": "w.pt"}, r"verify-weights are those of a detector"),
        (
            {"verify": "sscd:disc_mixup", "verify_weights": "w.pt"},
            r"--verify: .*w\.pt is not there.*--verify-weights",
        ),
        ({"verify": "torchscript:nowhere.pt"}, r"nowhere\.pt"),
    ],
)
def test_a_wrong_verifier_is_refused_before_anything_is_embedded(
    sets: Path, tmp_path: Path, more: dict[str, Any], why: str
) -> None:
    with pytest.raises(CurateError, match=why):
        run(sets, tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


def test_published_vectors_are_refused_before_anything_is_embedded(
    sets: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "img_emb_0.npy", np.ones((3, 128), np.float16))
    with pytest.raises(CurateError, match=r"--verify pixels: .*nobody can look.*--verify none"):
        run(sets, tmp_path / "run", train=(str(tmp_path / "img_emb_0.npy"),), verify="pixels")
    assert not (tmp_path / "run" / "embeddings").exists()


# --- the command line ----------------------------------------------------------------------------


def dedup(sets: Path, out: Path, *more: str) -> list[str]:
    sides = ["--test", str(sets / "test"), "--train", str(sets / "train"), "--out", str(out)]
    return ["dedup", *sides, "--detector", "builtin:layout", "--no-report", *more]


def test_flags_reach_the_run(sets: Path, tmp_path: Path) -> None:
    words = dedup(sets, tmp_path, "--verify", HASH, "--verify-top", "3", "--threshold", "0.5")
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["detector"]["verify"]["top"] == 3
    text = CliRunner().invoke(app, words).output
    assert f"at cosine, confirmed by {HASH}, >= 0.5 (builtin:layout)" in text


def test_scores_of_pixels_are_called_so(sets: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, dedup(sets, tmp_path, "--verify", "pixels"))
    assert "at score of aligned pixels >= 0.5 (builtin:layout)" in done.output
    again = CliRunner().invoke(app, ["split", str(tmp_path), "--threshold", "0.6"])
    assert "in, at score of aligned pixels >= 0.6" in again.output
    assert CliRunner().invoke(app, ["verify", str(tmp_path)]).exit_code == 0
    wrong = CliRunner().invoke(app, dedup(sets, tmp_path / "b", "--verify", "pixel"))
    assert isinstance(wrong.exception, CurateError)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bytes(
    sets: Path, tmp_path: Path
) -> None:
    whole = run(sets, tmp_path / "whole", verify="pixels", floor=-0.1)
    words = dedup(sets, tmp_path)
    words = [sys.executable, "-m", "pipelines", *words[: words.index("--out")],
             *words[words.index("--out") + 2 :], "--verify", "pixels", "--floor=-0.1"]  # fmt: skip
    run_killing(words, tmp_path / "run", 5)
    assert tree(tmp_path / "run") == tree(whole.run)
