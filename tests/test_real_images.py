"""The main job on real images with hand-labelled near-duplicates, where they are present."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import polars as pl
import pytest
from interruptions import run_killing
from pictures import tree_digests

pytestmark = pytest.mark.slow

DEDUP = (sys.executable, "-m", "pipelines", "dedup", "--detector", "builtin:layout", "--json")


def dedup(data: Path, out: Path, *more: str) -> dict[str, object]:
    words = [*DEDUP, "--test", f"{data}/test", "--train", f"{data}/train", "--out", str(out), *more]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def digests(path: Path) -> list[tuple[str, str]]:
    with tarfile.open(path) as archive:
        read = [(m.name, (archive.extractfile(m) or io.BytesIO()).read()) for m in archive]
    return [(name, hashlib.sha256(data).hexdigest()) for name, data in read]


@pytest.fixture(scope="module")
def cifar10(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The data, and a finished run with two workers."""
    data = shared_data / "cifar10"
    out = tmp_path_factory.mktemp("cifar10") / "run"
    dedup(data, out, "--workers", "2")
    return data, out


def test_every_test_image_is_accounted_for(cifar10: tuple[Path, Path]) -> None:
    data, out = cifar10
    counts = dedup(data, out)["counts"]
    assert isinstance(counts, dict)
    assert counts["clean"] + counts["overlap"] + counts["unknown"] == counts["in"] == 10_000
    assert counts["unknown"] == 0


def test_hand_labelled_near_duplicates_rank_first(cifar10: tuple[Path, Path]) -> None:
    data, out = cifar10
    nearest = pl.read_parquet(out / "matches" / "test-vs-train" / "nearest.parquet")
    found = nearest.drop_nulls("score")  # null: no train image reaches the floor
    best = found.sort("score", "test_id", descending=[True, False])["test_id"]
    assert 1000 <= len(best) < 10_000
    numbers = [int(id_.rpartition(":")[2]) for id_ in best]
    pairs = pl.read_csv(data / "pairs_test_train.csv").filter(pl.col("judgment") == 1)
    listed = set(pairs["test_index"])
    assert len(listed) == 249
    recall = {count: len(listed & set(numbers[:count])) / 249 for count in (250, 500, 1000)}
    assert recall[250] > 0.58
    assert recall[500] > 0.85
    assert recall[1000] > 0.93


def test_mirrored_copies_are_found(cifar10: tuple[Path, Path]) -> None:
    _, out = cifar10
    pairs = pl.read_parquet(out / "matches" / "test-vs-train" / "pairs.parquet")
    assert pairs.filter((pl.col("view") == "mirror") & (pl.col("score") > 0.9)).height >= 10


def test_the_members_of_clean_shards_are_the_originals(cifar10: tuple[Path, Path]) -> None:
    data, out = cifar10
    split = next((out / "splits").iterdir())
    kept = set((split / "clean_ids.txt").read_text().splitlines())
    written = 0
    for path in sorted((data / "test").glob("*.tar.gz")):
        shard = path.name.removesuffix(".tar.gz")
        expected = [row for row in digests(path) if f"{shard}:{row[0].partition('.')[0]}" in kept]
        assert digests(split / "clean" / path.name) == expected
        written += len(expected)
    assert written == 3 * len(kept)


def test_the_number_of_workers_changes_no_byte(cifar10: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = cifar10
    expected = tree_digests(out)
    for workers in ("1", "4"):
        dedup(data, tmp_path / workers, "--workers", workers)
        assert tree_digests(tmp_path / workers) == expected


def test_ten_kills_change_no_byte(cifar10: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = cifar10
    words = [*DEDUP, "--test", f"{data}/test", "--train", f"{data}/train"]
    run_killing(words, tmp_path / "run", times=10)
    assert tree_digests(tmp_path / "run") == tree_digests(out)
