"""Splits from stored matches: nothing is embedded or searched again, by threshold or policy."""

from pathlib import Path

import polars as pl
import pytest
from deduping import PLANTED, members, run, run_within, write_photos, write_sets
from pictures import encoded, picture, sample, tree, write_shard

from curate.errors import CurateError
from curate.splits import read_components, read_decisions
from curate.units import run_in_process
from pipelines.split import SplitRequest, parse_threshold, request_again, resplit


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


def test_another_threshold_embeds_and_searches_nothing(sets: Path, tmp_path: Path) -> None:
    first = run(sets, tmp_path / "run", floor=0.7)
    stamps = {p: p.stat().st_mtime_ns for p in first.matches.iterdir()}
    request = SplitRequest(0.9999, "clean-test")
    split = resplit(tmp_path / "run", request, run_in_process)
    assert split.name == "test-at-0.9999"
    assert read_decisions(split)["decision"].to_list().count("overlap") < 5
    assert stamps == {p: p.stat().st_mtime_ns for p in first.matches.iterdir()}
    again = run(sets, tmp_path / "fresh", threshold=0.9999, floor=0.7)
    assert tree(again.split) == tree(split)
    with pytest.raises(CurateError, match="below the floor"):
        resplit(tmp_path / "run", SplitRequest(0.5, "clean-test"), run_in_process)


def test_a_shard_that_changes_after_embedding_is_not_written_as_clean(
    sets: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "sets"
    for path, data in tree(sets, facts=True).items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(data)
    run(copy, tmp_path / "run", floor=0.7)
    write_shard(copy / "test" / "a.tar", [sample("new", encoded(picture(1)))])
    with pytest.raises(CurateError, match="changed since it was embedded"):
        resplit(tmp_path / "run", SplitRequest(0.9, "clean-test"), run_in_process)


def test_strip_train_lists_what_to_drop_from_pretraining(sets: Path, tmp_path: Path) -> None:
    result = run(sets, tmp_path / "run", strip="train")
    dropped = (result.split / "overlap_ids.txt").read_text().splitlines()
    assert dropped == [f"00000:{seed:06d}" for seed in PLANTED]
    assert not (result.split / "clean").exists()
    assert result.summary["counts"]["in"] == 20


def test_the_largest_of_those_that_match_can_be_kept(photos: Path, tmp_path: Path) -> None:
    result = run_within(photos, tmp_path / "run", keep="largest")
    decisions = read_decisions(result.split)
    assert decisions["decision"].to_list() == ["overlap", "clean", "overlap", "clean", "unknown"]
    assert set(decisions["train_id"].drop_nulls()) == {"0:large"}
    assert result.summary["keep"] == "largest"
    assert result.summary["groups"] == {
        "count": 1, "items": 3, "kept": 1, "sizes": {"3": 1}, "unproven": 0,
    }  # fmt: skip
    components = read_components(result.split)
    assert components is not None
    assert components.rows() == [
        ("0:small", 0, 3, False), ("0:large", 0, 3, True), ("0:medium", 0, 3, False),
    ]  # fmt: skip
    names = [name.partition(".")[0] for name, _ in members(result.split / "clean" / "0.tar")]
    assert set(names) == {"large", "other"}


def test_another_policy_embeds_and_searches_nothing(photos: Path, tmp_path: Path) -> None:
    first = run_within(photos, tmp_path / "run")
    assert read_decisions(first.split)["decision"].to_list()[:3] == ["clean", "overlap", "overlap"]
    stamps = {p: p.stat().st_mtime_ns for p in first.matches.iterdir()}
    for policy in ("largest", "closest", "farthest"):
        request = request_again(first.summary, 0.9, policy)
        split = resplit(tmp_path / "run", request, run_in_process)
        fresh = run_within(photos, tmp_path / policy, keep=policy)
        assert tree(fresh.split) == tree(split)
        assert read_decisions(split)["decision"].to_list().count("clean") == 2
    assert stamps == {p: p.stat().st_mtime_ns for p in first.matches.iterdir()}


def test_a_new_threshold_goes_by_the_policy_of_the_last_split(photos: Path, tmp_path: Path) -> None:
    last = run_within(photos, tmp_path / "run", keep="largest").summary
    assert request_again(last, 0.95) == SplitRequest(0.95, "within", keep="largest")
    assert request_again(last, 0.95, "first").keep == "first"
    with pytest.raises(CurateError, match="--keep best: one of first, largest"):
        request_again(last, 0.95, "best")


def test_a_policy_for_one_set_is_refused_where_two_are_compared(sets: Path, tmp_path: Path) -> None:
    last = run(sets, tmp_path / "run").summary
    assert "keep" not in last
    with pytest.raises(CurateError, match=r"--keep largest: .* this run compared two"):
        request_again(last, 0.9, "largest")


def test_more_copies_than_are_stored_leave_no_two_that_match(photos: Path, tmp_path: Path) -> None:
    """Of eight copies those with more than two earlier ones are cut: the first three remain."""
    image = picture(7)
    sides = (64, 70, 80, 90, 100, 110, 120, 130)
    rows = [sample(f"{side:03d}", encoded(image.resize((side, side)))) for side in sides]
    write_shard(tmp_path / "photos" / "0.tar", rows)
    result = run_within(tmp_path / "photos", tmp_path / "run", keep="largest", cap=2)
    kept = read_decisions(result.split).filter(pl.col("decision") == "clean")["key"].to_list()
    assert kept == ["080"]
    whole = run_within(tmp_path / "photos", tmp_path / "whole", keep="largest")
    assert (whole.split / "clean_ids.txt").read_text() == "0:130\n"


def test_a_threshold_is_a_number_or_that_of_a_calibration(tmp_path: Path) -> None:
    value, origin = parse_threshold("0.9", tmp_path)
    assert (value, origin.to_json()) == (0.9, {"threshold_from": "given"})
    with pytest.raises(CurateError, match="--threshold high: a number or auto was expected"):
        parse_threshold("high", tmp_path)
    with pytest.raises(CurateError, match=str(tmp_path)):
        parse_threshold("auto", tmp_path)
