"""The main job end to end: right, reproducible, resumable, and careful with what it is given."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import webdataset
from deduping import PLANTED, configure, members, run, write_sets
from interruptions import run_killing
from pictures import (
    copies,
    encoded,
    picture,
    sample,
    tree,
    tree_digests,
    write_set,
    write_shard,
)

from curate import artifacts
from curate.config import DedupConfig
from curate.detectors import find_detector
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import EncoderSpec, decoding_of
from curate.errors import CurateError
from curate.parts import check_encoders, open_embeddings
from curate.recall import read_recall
from curate.splits import read_decisions
from curate.units import Outcome, run_in_process
from pipelines.dedup import run_dedup
from pipelines.execute import unit_runner
from pipelines.report import write_report
from pipelines.split import SplitRequest, resplit
from pipelines.watch import Watch


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def nothing(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
    assert not units, "nothing was to be done"
    return iter(())


def test_planted_copies_are_found_with_their_originals(sets: Path, tmp_path: Path) -> None:
    result = run(sets, tmp_path / "run")
    decisions = read_decisions(result.split)
    overlap = decisions.filter(pl.col("decision") == "overlap")
    assert overlap["key"].str.starts_with("copy-").all()
    assert overlap.height == 5
    originals = [f"00000:{seed:06d}" for seed in PLANTED]
    assert overlap["train_id"].to_list() == originals
    assert overlap.filter(pl.col("key") == "copy-mirrored")["view"].to_list() == ["mirror"]
    assert result.summary["counts"] == {
        "in": 17,
        "clean": 11,
        "overlap": 5,
        "unknown": 1,
        "control": 11,
    }
    assert decisions.filter(pl.col("decision") == "unknown")["reason"].to_list() == ["not_an_image"]


def test_clean_shards_are_the_originals_without_the_overlap(sets: Path, tmp_path: Path) -> None:
    before = tree(sets, facts=True)
    result = run(sets, tmp_path / "run", write=("clean", "overlap", "control"))
    assert tree(sets, facts=True) == before
    kept = dict.fromkeys(read_decisions(result.split).filter(pl.col("decision") == "clean")["id"])
    for name in ("a", "b"):
        expected = [
            (member, data)
            for member, data in members(sets / "test" / f"{name}.tar")
            if f"{name}:{member.partition('.')[0]}" in kept
        ]
        assert members(result.split / "clean" / f"{name}.tar") == expected
    ids = (result.split / "clean_ids.txt").read_text().splitlines()
    assert ids == list(kept)
    opened = webdataset.WebDataset(
        [str(path) for path in sorted((result.split / "clean").glob("*.tar"))], shardshuffle=False
    )
    assert [row["__key__"] for row in opened] == [id_.partition(":")[2] for id_ in ids]
    overlap = {name for name, _ in members(result.split / "overlap" / "b.tar")}
    assert {name.partition(".")[0] for name in overlap} == {
        f"copy-{kind}" for kind in copies(picture(0))
    }


# --- joined while it is embedded ------------------------------------------------------------------


def test_a_fused_run_gives_the_tables_of_an_unfused_one_without_vectors(
    sets: Path, tmp_path: Path
) -> None:
    plain = run(sets, tmp_path / "plain", cap=2)
    found = run(sets, tmp_path / "run", fused=True, cap=2)
    with unit_runner(2) as runner:
        run(sets, tmp_path / "two", runner, fused=True, cap=2)
    for name in ("pairs.parquet", "nearest.parquet"):
        assert (plain.matches / name).read_bytes() == (found.matches / name).read_bytes()
    assert found.summary["counts"] == plain.summary["counts"]
    assert tree(found.split / "clean") == tree(plain.split / "clean")
    assert tree(tmp_path / "run") == tree(tmp_path / "two")
    assert not list((tmp_path / "run" / "embeddings" / "train").rglob("*.npy"))


def test_a_fused_run_is_reported_split_again_and_verified_like_any_other(
    sets: Path, tmp_path: Path
) -> None:
    run(sets, tmp_path / "run", fused=True, floor=0.7)
    page = write_report(tmp_path / "run")
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.parquet")}
    run(sets, tmp_path / "run", nothing, fused=True, floor=0.7)
    assert write_report(tmp_path / "run") == page
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.parquet")}
    split = resplit(tmp_path / "run", SplitRequest(0.9999, "clean-test"), run_in_process)
    again = run(sets, tmp_path / "plain", threshold=0.9999, floor=0.7)
    assert (split / "clean_ids.txt").read_bytes() == (again.split / "clean_ids.txt").read_bytes()
    assert artifacts.verify_all(list(artifacts.artifacts(tmp_path / "run"))) == []


def test_another_floor_says_that_a_fused_run_embeds_again(sets: Path, tmp_path: Path) -> None:
    said: list[str] = []
    watch = Watch(stage=lambda name, _total: said.append(name))
    for floor in (0.7, 0.7, 0.6):
        run_dedup(configure(sets, tmp_path / "run", fused=True, floor=floor), run_in_process, watch)
    stages = [name for name in said if name.startswith("embed train")]
    plain = "embed train and match test with it"
    assert stages == [plain, plain, f"{plain} again, as the floor changed"]
    expected = run(sets, tmp_path / "plain", floor=0.6)
    pairs = next((tmp_path / "run" / "matches").rglob("pairs.parquet"))
    assert pairs.read_bytes() == (expected.matches / "pairs.parquet").read_bytes()


def test_a_fused_run_leaves_vectors_that_are_there_alone(sets: Path, tmp_path: Path) -> None:
    run(sets, tmp_path / "run")
    vectors = next((tmp_path / "run" / "embeddings" / "train").iterdir())
    before = tree(vectors)
    run(sets, tmp_path / "run", fused=True)
    assert tree(vectors) == before
    with pytest.raises(CurateError, match=r"--fused: .* holds embeddings, .* give the images"):
        run(sets, tmp_path / "again", fused=True, train=(str(vectors),))


@pytest.mark.slow
def test_killed_ten_times_at_random_a_fused_run_ends_in_the_same_bytes(
    sets: Path, tmp_path: Path
) -> None:
    write_set(tmp_path / "train", [range(n, n + 40) for n in range(0, 2000, 40)])
    words = [
        *(sys.executable, "-m", "pipelines", "dedup", "--test", str(sets / "test"), "--fused"),
        *("--train", str(tmp_path / "train"), "--threshold", "0.8"),
        *("--detector", "builtin:layout"),
    ]
    subprocess.run([*words, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    run_killing(words, tmp_path / "run", times=10, seed=1)
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert tree_digests(tmp_path / "run") == tree_digests(tmp_path / "whole")


# --- through an index, and its bytes --------------------------------------------------------------


@pytest.mark.parametrize("search", ["flat", "ivf"])
def test_a_faiss_index_gives_the_pairs_of_the_exact_join(
    sets: Path, tmp_path: Path, search: str
) -> None:
    exact = run(sets, tmp_path / "exact")
    indexed = run(sets, tmp_path / "indexed", search=search, probes=10_000)
    for name in ("pairs.parquet", "nearest.parquet"):
        if search == "flat" or name == "pairs.parquet":
            assert (exact.matches / name).read_bytes() == (indexed.matches / name).read_bytes()
    finished = next((tmp_path / "indexed" / "indices" / "train").iterdir())
    again = run(sets, tmp_path / "given", index=finished)
    assert (again.matches / "pairs.parquet").read_bytes() == (
        exact.matches / "pairs.parquet"
    ).read_bytes()


def test_an_index_of_a_run_shows_its_recall_or_ends_the_run(sets: Path, tmp_path: Path) -> None:
    config = configure(sets, tmp_path / "run", search="ivf", min_recall=0.95)
    run_dedup(config, run_in_process)
    (folder,) = (tmp_path / "run" / "indices").glob("*/*")
    report = read_recall(folder)
    assert report is not None
    assert report.passed
    assert report.settings.threshold == config.chosen_threshold
    with pytest.raises(CurateError, match="cannot show it"):
        run_dedup(configure(sets, tmp_path / "b", search="ivf", min_recall=0.9999), run_in_process)


def test_an_index_of_other_vectors_is_refused(sets: Path, tmp_path: Path) -> None:
    run(sets, tmp_path / "a", search="flat")
    index = next((tmp_path / "a" / "indices" / "train").iterdir())
    write_set(tmp_path / "other", [[1, 2, 3]])
    with pytest.raises(CurateError, match="other vectors"):
        run(sets, tmp_path / "b", train=(str(tmp_path / "other"),), index=index)


def test_two_dask_workers_give_the_same_bytes_as_this_process(sets: Path, tmp_path: Path) -> None:
    run(sets, tmp_path / "one")
    write_report(tmp_path / "one")
    with unit_runner(2) as runner:
        run(sets, tmp_path / "two", runner)
    write_report(tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_second_run_does_nothing(sets: Path, tmp_path: Path) -> None:
    run(sets, tmp_path / "run")
    page = write_report(tmp_path / "run")
    before = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "run.json"
    }
    run(sets, tmp_path / "run", nothing)
    assert write_report(tmp_path / "run") == page
    after = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "run.json"
    }
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"run"}  # the folder in which run.json is replaced
    assert set(before) == set(after)


def test_a_cut_shard_is_reported_and_the_rest_is_done(sets: Path, tmp_path: Path) -> None:
    whole = (sets / "train" / "00001.tar").read_bytes()
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "00000.tar").write_bytes((sets / "train" / "00000.tar").read_bytes())
    (tmp_path / "train" / "00001.tar").write_bytes(whole[: len(whole) // 2])
    result = run(sets, tmp_path / "run", train=(str(tmp_path / "train"),))
    assert list(result.damaged_shards) == ["train/00001"]
    assert result.summary["counts"]["overlap"] == 5


def test_one_set_against_itself_keeps_the_first_of_each_group(sets: Path, tmp_path: Path) -> None:
    rows = [sample("original", encoded(picture(7)))]
    rows += [sample(kind, data) for kind, data in copies(picture(7)).items()]
    rows += [sample("other", encoded(picture(8)))]
    write_shard(tmp_path / "photos" / "0.tar", rows)
    config = DedupConfig(
        test=(str(tmp_path / "photos"),), within=True, threshold=0.8, out=tmp_path / "run",
        detector="builtin:layout",
    )  # fmt: skip
    decisions = read_decisions(run_dedup(config, run_in_process).split)
    assert decisions.filter(pl.col("decision") == "clean")["key"].to_list() == ["original", "other"]
    assert set(decisions.filter(pl.col("decision") == "overlap")["train_id"]) == {"0:original"}


def test_finished_embeddings_can_be_given_as_a_set(sets: Path, tmp_path: Path) -> None:
    first = run(sets, tmp_path / "a")
    train = tmp_path / "a" / "embeddings" / "train" / "builtin-layout"
    again = run(sets, tmp_path / "b", train=(str(train),))
    assert (first.matches / "pairs.parquet").read_bytes() == (
        again.matches / "pairs.parquet"
    ).read_bytes()
    assert not (tmp_path / "b" / "embeddings" / "train").exists()


def test_embeddings_bring_their_detector_and_its_threshold(sets: Path, tmp_path: Path) -> None:
    side = EmbedSettings(EncoderSpec("timm:test_vit/random"), dtype="float32")
    folders = []
    for name in ("test", "train"):
        embed(open_dataset(str(sets / name)), side, tmp_path / name)
        folders.append(str(tmp_path / name))
    given = {"test": (folders[0],), "train": (folders[1],)}
    result = run_dedup(DedupConfig(**given, out=tmp_path / "run"), run_in_process)
    assert result.summary["threshold"] == find_detector("timm:test_vit").threshold
    assert result.summary["detector"]["name"] == "timm:test_vit/random"
    other = DedupConfig(**given, out=tmp_path / "run", detector="builtin:layout")
    with pytest.raises(CurateError, match="embedded by timm:test_vit/random"):
        run_dedup(other, run_in_process)


def test_embeddings_bring_their_decoding(sets: Path, tmp_path: Path) -> None:
    side = EmbedSettings(EncoderSpec("builtin:layout", decode="scaled"))
    embed(open_dataset(str(sets / "train")), side, tmp_path / "train")
    result = run(sets, tmp_path / "run", train=(str(tmp_path / "train"),))
    stated = result.summary["detector"]["preprocessing"]
    assert stated["jpeg"]["decode"] == "scaled"
    with pytest.raises(CurateError, match=r"--decode exact: .*train was embedded with .* scaled"):
        run(sets, tmp_path / "other", train=(str(tmp_path / "train"),), decode="exact")
    assert not (tmp_path / "other" / "embeddings").exists()


def test_sides_of_two_decodings_are_never_compared(sets: Path, tmp_path: Path) -> None:
    folders = {}
    for name, decode in (("test", "exact"), ("train", "scaled")):
        side = EmbedSettings(EncoderSpec("builtin:layout", decode=decode))
        embed(open_dataset(str(sets / name)), side, tmp_path / name)
        folders[name] = (str(tmp_path / name),)
    with pytest.raises(CurateError, match="--decode"):
        run(sets, tmp_path / "run", **folders)
    test, train = (open_embeddings(tmp_path / name) for name in ("test", "train"))
    with pytest.raises(CurateError, match=r"with --decode exact, .* with --decode scaled; embed"):
        check_encoders(test, train)


def test_a_run_with_another_decoding_embeds_both_sides_anew(sets: Path, tmp_path: Path) -> None:
    first = run(sets, tmp_path / "run")
    before, again = write_report(first.run), run(sets, tmp_path / "run", decode="scaled")
    assert "--decode scaled</code>" not in before.read_text()
    assert "--decode scaled</code>" in write_report(again.run).read_text()
    assert "jpeg" not in first.summary["detector"]["preprocessing"]
    assert "jpeg" in again.summary["detector"]["preprocessing"]
    for name in ("test", "train"):
        side = open_embeddings(tmp_path / "run" / "embeddings" / name / "builtin-layout")
        assert decoding_of(side.manifest.config["encoder"]["preprocessing"]) == "scaled"


@pytest.mark.parametrize("name", [".", "..", "a/b", "../x"])
def test_a_name_that_is_no_folder_name_is_refused(name: str, sets: Path, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="names no data set"):
        run(sets, tmp_path / "run", test_name=name)


def test_two_sets_of_one_name_must_be_told_apart(tmp_path: Path) -> None:
    for side in ("a", "b"):
        write_set(tmp_path / side / "data", [[1, 2]])
    test, train = (str(tmp_path / side / "data") for side in ("a", "b"))
    config = DedupConfig(test=(test,), train=(train,), out=tmp_path / "run")
    with pytest.raises(CurateError, match="--test-name"):
        run_dedup(config, run_in_process)


def test_a_clip_benchmark_set_stays_one(sets: Path, tmp_path: Path) -> None:
    root = tmp_path / "bench"
    (root / "test").mkdir(parents=True)
    for number, name in enumerate(("a", "b")):
        (root / "test" / f"{number}.tar").write_bytes((sets / "test" / f"{name}.tar").read_bytes())
    (root / "test" / "nshards.txt").write_text("2")
    (root / "classnames.txt").write_text("cat\ndog\nfrog\n")
    result = run(sets, tmp_path / "run", test=(str(root),))
    clean = result.split / "clean"
    assert (clean / "test" / "nshards.txt").read_text() == "2"
    assert (clean / "classnames.txt").read_text() == "cat\ndog\nfrog\n"
    assert set(read_decisions(result.split)["label"]) <= {"cat", "dog", "frog"}
    again = run(clean, tmp_path / "again", test=(str(clean),), train=(str(sets / "train"),))
    assert again.summary["counts"] == {
        "in": 11,
        "clean": 11,
        "overlap": 0,
        "unknown": 0,
        "control": 11,
    }


def test_verify_finds_a_run_whole_and_then_names_what_was_altered(
    sets: Path, tmp_path: Path
) -> None:
    result = run(sets, tmp_path / "run")
    write_report(tmp_path / "run")
    folders = list(artifacts.artifacts(tmp_path / "run"))
    assert len(folders) == 5
    assert artifacts.verify_all(folders) == []
    shard = result.split / "clean" / "a.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    problems = artifacts.verify_all(folders)
    assert len(problems) == 1
    assert "a.tar: altered" in problems[0]


@pytest.mark.slow
def test_killed_ten_times_at_random_the_run_ends_in_the_same_bytes(
    sets: Path, tmp_path: Path
) -> None:
    """SIGKILL to the whole process group, workers included, at random moments."""
    write_set(tmp_path / "train", [range(n, n + 40) for n in range(0, 2000, 40)])
    words = [
        *(sys.executable, "-m", "pipelines", "dedup", "--test", str(sets / "test")),
        *("--train", str(tmp_path / "train"), "--threshold", "0.8"),
        *("--detector", "builtin:layout"),
    ]
    whole = [*words, "--out", str(tmp_path / "whole")]
    subprocess.run(whole, check=True, capture_output=True)
    run_killing(words, tmp_path / "run", times=10)
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert tree_digests(tmp_path / "run") == tree_digests(tmp_path / "whole")


@pytest.mark.slow
def test_an_open_clip_model_of_ordinary_size_runs_the_same_path(sets: Path, tmp_path: Path) -> None:
    more = {"detector": "open_clip:ViT-B-32/random", "threshold": 0.999, "floor": 0.9}
    result = run(sets, tmp_path / "run", **more)
    decisions = read_decisions(result.split)
    found = dict(decisions.select("key", "train_id").rows())
    assert found["copy-same"] == "00000:000011"
    assert found["copy-mirrored"] == "00000:000015"
    assert (
        decisions.filter(pl.col("key").is_in(["copy-same", "copy-mirrored"]))["score"].min() > 0.999
    )
    run(sets, tmp_path / "run", nothing, **more)
