"""Calibration of a run end to end, and what its threshold and people's labels do to a split."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pictures import encoded, picture, sample, tree, write_set, write_shard
from slow_twins import cosine
from typer.testing import CliRunner

from curate import artifacts, words
from curate.calibration import planted as planting
from curate.calibration.artifact import read_calibrated
from curate.calibration.planted import PLANTED, Planting
from curate.calibration.recall import RECALL
from curate.calibration.summary import Wanted
from curate.config import DedupConfig
from curate.copies import plant
from curate.encoders import EncoderSpec, cached_encoder
from curate.errors import CurateError
from curate.images import decode
from curate.matches import open_matches
from curate.splits import read_decisions
from curate.tables import read_table
from curate.units import Outcome, run_in_process
from curate.views import VIEWS
from pipelines.calibrate import CalibrationRequest, run_calibrate
from pipelines.cli import app
from pipelines.dedup import run_dedup
from pipelines.execute import unit_runner
from pipelines.runs import open_run
from pipelines.split import SplitRequest, resplit

KINDS = ("crop_centre", "jpeg", "mirror")


def settings(root: Path, out: Path, **more: Any) -> DedupConfig:
    values = {"test": (str(root / "test"),), "train": (str(root / "train"),), "out": out,
              "detector": "builtin:layout", "floor": 0.3}  # fmt: skip
    return DedupConfig(**{**values, **more})


def nothing(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
    assert not units, "nothing was to be done"
    return iter(())


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 train pictures in two shards; as test 30 copies of all degrees, and 30 other pictures."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "train", [range(20), range(20, 40)])
    rng = np.random.default_rng(0)
    rows = [
        sample(f"copy-{n:03d}", encoded(plant(picture(n), "noise", 1 + n % 3, rng)), n % 3)
        for n in range(30)
    ]
    rows += [sample(f"other-{n}", encoded(picture(n)), n % 3) for n in range(100, 130)]
    write_shard(root / "test" / "a.tar", rows)
    return root


@pytest.fixture
def run(sets: Path, tmp_path: Path) -> Path:
    run_dedup(settings(sets, tmp_path / "run"), run_in_process)
    return tmp_path / "run"


def request(**more: Any) -> CalibrationRequest:
    plan, labels = more.pop("plan", None), more.pop("labels", None)
    values = {"images": 5, "transformations": KINDS, "seed": 0, **more}
    wanted = Wanted(values.pop("wanted", 0.6))
    return CalibrationRequest(Planting(**values), wanted, labels, plan)


def write_labels(run: Path, *, but: Sequence[str] = ()) -> Path:
    """Everything on the plan judged right: a pair is a copy when the keys say so."""
    plan = pl.read_parquet(run / "calibration" / "plan.parquet")
    lines = ["test_id,train_id,label"]
    for test_id, train_id in plan.select("test_id", "train_id").rows():
        same = test_id.endswith(f"copy-{int(train_id[-6:]):03d}")
        if test_id not in but:
            lines.append(f"{test_id},{train_id},{'same' if same else 'different'}")
    path = run / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


# --- planted copies ------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"verify": "pixels"}])
def test_planted_copies_are_scored_as_a_run_scores_them(
    sets: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    config = settings(sets, tmp_path / "run", **more)
    run_dedup(config, run_in_process)
    run_calibrate(config.out, request(), run_in_process)
    found = read_table(config.out / "calibration" / "planted.parquet", PLANTED)
    rows = []
    for number, (id_, name, strength) in enumerate(found.select(PLANTED.names()[:3]).rows()):
        seed = int(planting._digest(0, id_, name, strength), 16)
        copy = plant(picture(int(id_[-6:])), name, strength, np.random.default_rng(seed))
        rows.append(sample(f"{number:04d}", encoded(copy)))
    write_shard(tmp_path / "again" / "a.tar", rows)
    others = settings(sets, tmp_path / "other", test=(str(tmp_path / "again"),), **more)
    pairs = open_matches(run_dedup(others, run_in_process).matches).pairs()
    asked = found.with_columns(test_id=pl.Series([f"a:{n:04d}" for n in range(found.height)]))
    asked = asked.join(pairs, on=["test_id", "train_id"], how="left", maintain_order="left")
    stored = asked.filter(pl.col("score_right").is_not_null())
    assert 10 < stored.height < found.height
    assert stored["score"].to_list() == stored["score_right"].to_list()
    assert stored["view"].to_list() == stored["view_right"].to_list()
    assert stored["rejected"].to_list() == stored["rejected_right"].to_list()
    lost = asked.filter(pl.col("score_right").is_null())
    assert (lost["score"] < 0.3).all()
    assert lost["rejected"].is_not_null().all() == bool(more)


def test_copies_of_a_reduced_original_are_compared_with_its_stored_vector(tmp_path: Path) -> None:
    stored = [encoded(picture(n).resize((300, 260)), "JPEG") for n in range(4)]
    write_shard(tmp_path / "train" / "a.tar", [sample(f"{n}", s) for n, s in enumerate(stored)])
    write_shard(tmp_path / "test" / "b.tar", [sample("other", encoded(picture(9)))])
    config = settings(tmp_path, tmp_path / "run", decode="scaled")
    run_dedup(config, run_in_process)
    run_calibrate(config.out, request(images=4), run_in_process)
    found = read_table(config.out / "calibration" / "planted.parquet", PLANTED)
    train = open_run(config.out).train
    assert "jpeg" in train.manifest.config["encoder"]["preprocessing"]
    vectors = dict(zip(train.all_metadata()["id"], train.all_vectors(), strict=True))
    encoder = cached_encoder(EncoderSpec("builtin:layout"))
    for id_, name, strength, score, view in found.select(PLANTED.names()[:5]).iter_rows():
        seed = int(planting._digest(0, id_, name, strength), 16)
        whole = decode(stored[int(id_[-1])])
        copy = VIEWS[view](plant(whole, name, strength, np.random.default_rng(seed)))
        vector = encoder.encode(encoder.preprocess(copy)[None])[0].astype(np.float16)
        assert score == cosine(vector, vectors[id_])


def test_recall_falls_with_the_threshold_and_the_strength(run: Path) -> None:
    found = run_calibrate(run, request(images=8), run_in_process)
    table = read_table(run / "calibration" / "recall.parquet", RECALL)
    for _, rows in table.group_by("transformation", "strength", maintain_order=True):
        assert rows["recall"].is_sorted(descending=True)
        assert (rows["low"] <= rows["recall"]).all()
        assert (rows["recall"] <= rows["high"]).all()
    kinds = {(r["transformation"], r["strength"]): r for r in
             found["planted"]["by_transformation"]}  # fmt: skip
    assert kinds["jpeg", 1]["recall"] == kinds["mirror", 1]["recall"] == 1.0
    assert kinds["crop_centre", 3]["recall"] < 0.5
    assert kinds["jpeg", 1]["words"] == "quality 75"
    assert found["planted"]["images"] == 8
    assert found["planted"]["copies"] == 8 * 9


def test_the_number_of_workers_shows_in_no_byte(sets: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_dedup(settings(sets, tmp_path / name), run_in_process)
    run_calibrate(tmp_path / "one", request(plan=20), run_in_process)
    with unit_runner(2) as runner:
        run_calibrate(tmp_path / "two", request(plan=20), runner)
    assert tree(tmp_path / "one" / "calibration") == tree(tmp_path / "two" / "calibration")


def test_a_second_calibration_does_nothing_and_labels_plant_nothing_again(run: Path) -> None:
    first = run_calibrate(run, request(plan=20), run_in_process)
    assert run_calibrate(run, request(plan=20), nothing) == first
    assert run_calibrate(run, request(), nothing) == first
    again = run_calibrate(run, request(labels=write_labels(run)), nothing)
    assert again["planted"]["pooled"] == first["planted"]["pooled"]
    assert again["precision"]
    assert artifacts.verify_all(list(artifacts.artifacts(run))) == []
    assert not list(run.rglob("*.partial"))


def test_interrupted_planting_goes_on_where_it_was(run: Path, tmp_path: Path) -> None:
    def fails_late(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        yield Outcome(units[0], function(units[0]))
        yield from (Outcome(unit, error="broken") for unit in units[1:])

    with pytest.raises(CurateError, match="1 of 2 units failed"):
        run_calibrate(run, request(images=20), fails_late)
    done: list[str] = []

    def counting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        done.extend(unit.shard.name for unit in units)
        yield from run_in_process(function, units)

    run_calibrate(run, request(images=20), counting)
    assert len(done) == 1


def test_a_train_set_that_has_changed_is_not_planted_from(sets: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "train", [range(10)])
    config = settings(sets, tmp_path / "run", train=(str(tmp_path / "train"),))
    run_dedup(config, run_in_process)
    rows = [sample(f"{n:06d}", encoded(picture(n + 50))) for n in range(10)]
    write_shard(tmp_path / "train" / "00000.tar", rows)
    with pytest.raises(CurateError, match="has changed since it was embedded"):
        run_calibrate(config.out, request(), run_in_process)


def test_a_set_that_was_joined_while_it_was_embedded_is_planted_from(
    sets: Path, run: Path, tmp_path: Path
) -> None:
    config = settings(sets, tmp_path / "fused", fused=True)
    run_dedup(config, run_in_process)
    plain = run_calibrate(run, request(), run_in_process)
    found = run_calibrate(config.out, request(), run_in_process)
    assert found["planted"] == plain["planted"]


def test_without_copies_the_reason_is_stated(run: Path) -> None:
    found = run_calibrate(run, request(images=0), nothing)
    assert found["planted"] is None
    assert "--copies 0" in found["planted_reason"]


# --- labels --------------------------------------------------------------------------------------


def test_without_labels_no_precision_is_claimed(run: Path) -> None:
    bare = run_calibrate(run, request(images=0), nothing)
    assert (bare["plan"], bare["precision"], bare["leaked"]) == (None, [], None)
    assert "--plan" in bare["proposal"]["reason"]
    drawn = run_calibrate(run, request(images=0, plan=10), nothing)
    assert drawn["plan"]["pairs"] == 10
    assert drawn["proposal"]["threshold"] is None
    assert "judged yet" in drawn["proposal"]["reason"]
    with pytest.raises(CurateError, match="proposes no threshold, as no pair of the plan"):
        read_calibrated(run)


def test_labels_on_all_pairs_tell_how_many_copies_there_are(run: Path) -> None:
    run_calibrate(run, request(images=0, plan=1000), nothing)
    found = run_calibrate(run, request(images=0, labels=write_labels(run)), nothing)
    pairs = open_run(run).matches.pairs().filter(pl.col("rank") == 1)
    true = sum(
        test.endswith(f"copy-{int(train[-6:]):03d}")
        for test, train in pairs.select("test_id", "train_id").rows()
    )
    leaked = found["leaked"]
    assert (leaked["copies"], leaked["low"], leaked["high"]) == (true, true, true)
    assert leaked["units"] == pairs.height
    assert found["labels"]["in_plan"] == pairs.height


def test_labels_outside_of_the_plan_are_counted_and_not_used(run: Path) -> None:
    run_calibrate(run, request(images=0, plan=1000), nothing)
    labels = write_labels(run)
    run_calibrate(run, request(images=0, plan=10), nothing)
    found = run_calibrate(run, request(images=0, labels=labels), nothing)
    assert found["labels"]["in_plan"] == 10
    assert found["labels"]["outside_plan"] > 0
    assert sum(zone["judged"] for zone in found["plan"]["zones"]) == 10


def test_a_plan_of_other_matches_is_given_up(sets: Path, run: Path) -> None:
    run_calibrate(run, request(images=0, plan=10), nothing)
    run_dedup(settings(sets, run, floor=0.5), run_in_process)
    assert run_calibrate(run, request(images=0), nothing)["plan"] is None


# --- the threshold -------------------------------------------------------------------------------


def calibrated(run: Path, wanted: float = 0.6) -> float:
    run_calibrate(run, request(images=2, plan=1000), run_in_process)
    found = run_calibrate(run, request(images=2, labels=write_labels(run), wanted=wanted), nothing)
    assert found["proposal"]["low"] >= wanted
    return float(found["proposal"]["threshold"])


def test_auto_splits_at_the_proposed_threshold_and_states_the_calibration(
    sets: Path, run: Path
) -> None:
    threshold = calibrated(run)
    result = run_dedup(settings(sets, run, threshold="auto", floor=None), run_in_process)
    assert result.summary["threshold"] == threshold
    assert result.summary["threshold_from"] == "calibration"
    stated = result.summary["calibration"]
    assert stated["id"] == artifacts.read_manifest(run / "calibration").id
    assert stated["wanted"] == 0.6
    assert stated["low"] >= 0.6
    assert artifacts.read_manifest(result.split).config["calibration"] == stated


def test_another_run_of_the_same_detector_may_use_a_calibration(
    sets: Path, run: Path, tmp_path: Path
) -> None:
    threshold = calibrated(run)
    found = run_dedup(
        settings(sets, tmp_path / "b", threshold="auto", calibration=run), run_in_process
    )
    assert found.summary["threshold"] == threshold
    with pytest.raises(CurateError, match=r"another detector than this run's .*views"):
        run_dedup(
            settings(sets, tmp_path / "c", threshold="auto", calibration=run, views=("identity",)),
            run_in_process,
        )


def test_auto_without_a_calibration_says_what_to_do(sets: Path, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"no calibration is there\. Run `curate calibrate`"):
        run_dedup(settings(sets, tmp_path / "run", threshold="auto"), nothing)


def test_a_calibration_altered_by_hand_is_refused(run: Path) -> None:
    calibrated(run)
    path = run / "calibration" / "calibration.json"
    content = json.loads(path.read_text())
    content["proposal"]["threshold"] = 0.31
    path.write_text(json.dumps(content))
    with pytest.raises(CurateError, match="altered by hand"):
        read_calibrated(run)
    path.write_text("{}")
    with pytest.raises(CurateError, match="not a calibration of format 1"):
        read_calibrated(path)


def test_a_test_set_can_have_a_threshold_of_its_own(sets: Path, tmp_path: Path) -> None:
    given = {"test": 0.9, "other": 0.4}
    found = run_dedup(settings(sets, tmp_path / "a", threshold_for=given), run_in_process)
    assert (found.summary["threshold"], found.summary["threshold_from"]) == (0.9, "threshold-for")
    named = settings(sets, tmp_path / "b", threshold_for=["other=0.4"], test_name="other")
    assert run_dedup(named, run_in_process).summary["threshold"] == 0.4
    plain = run_dedup(settings(sets, tmp_path / "c", threshold_for={"x": 0.9}), run_in_process)
    assert plain.summary["threshold_from"] == "detector"


# --- labels in a split ---------------------------------------------------------------------------


def test_peoples_words_count_more_than_scores(sets: Path, run: Path) -> None:
    pairs = open_run(run).matches.pairs().filter(pl.col("rank") == 1).sort("score")
    lowest, highest = pairs.row(0, named=True), pairs.row(-1, named=True)
    labels = run / "words.csv"
    labels.write_text(
        "test_id,train_id,label\n"
        f"{lowest['test_id']},{lowest['train_id']},near\n"
        f"{highest['test_id']},{highest['train_id']},different\n"
        "elsewhere:1,elsewhere:2,same\n"
    )
    result = run_dedup(settings(sets, run, labels=labels), run_in_process)
    decisions = {row["id"]: row for row in read_decisions(result.split).to_dicts()}
    added, freed = decisions[lowest["test_id"]], decisions[highest["test_id"]]
    assert (added["decision"], added["reason"]) == ("overlap", words.JUDGED_COPY)
    assert (freed["decision"], freed["reason"]) == ("clean", words.JUDGED_DIFFERENT)
    stated = result.summary["labels"]
    assert (stated["pairs"], stated["unknown"]) == (3, 1)
    assert (stated["judged_copy"], stated["judged_different"]) == (1, 1)
    manifest = artifacts.read_manifest(result.split)
    assert manifest.config["labels"] == stated["sha256"]
    assert result.split.name.endswith("-judged")
    other = resplit(run, SplitRequest(0.82, "clean-test"), run_in_process)
    assert "labels" not in artifacts.read_manifest(other).config


def test_labels_of_another_run_are_refused(sets: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("test_id,train_id,label\nx:1,y:2,same\n")
    with pytest.raises(CurateError, match="none of its 1 pairs is in this run"):
        run_dedup(settings(sets, tmp_path / "run", labels=labels), run_in_process)


# --- the command ---------------------------------------------------------------------------------


def test_the_command_says_what_was_found_and_what_to_do_next(run: Path) -> None:
    words_ = ["calibrate", str(run), "--copies", "2", "--transformations", "jpeg", "--plan", "9"]
    said = CliRunner().invoke(app, words_)
    assert said.exit_code == 0, said.output
    assert "jpeg" in said.output
    assert "no threshold is proposed: no pair of the plan is judged yet" in said.output
    labels = str(write_labels(run))
    more = ["--copies", "2", "--transformations", "jpeg", "--labels", labels]
    said = CliRunner().invoke(app, ["calibrate", str(run), *more, "--json"])
    assert json.loads(said.output)["labels"]["in_plan"] == 9


def test_the_split_command_takes_auto_and_labels(run: Path) -> None:
    threshold = calibrated(run)
    words_ = ["--threshold", "auto", "--labels", str(run / "labels.csv"), "--no-report", "--json"]
    said = CliRunner().invoke(app, ["split", str(run), *words_])
    assert said.exit_code == 0, said.output
    found = json.loads(said.output)
    assert found["threshold"] == threshold
    assert found["labels"]["unknown"] == 0


@pytest.mark.parametrize(("words_", "message"), [
    (["--precision", "1.5"], "--precision 1.5"),
    (["--plan", "0"], "--plan 0"),
    (["--copies", "-1"], "--copies -1"),
    (["--transformations", "sepia"], "transformation sepia"),
])  # fmt: skip
def test_impossible_demands_are_refused(tmp_path: Path, words_: list[str], message: str) -> None:
    said = CliRunner().invoke(app, ["calibrate", str(tmp_path), *words_])
    assert isinstance(said.exception, CurateError)
    assert message in str(said.exception)
