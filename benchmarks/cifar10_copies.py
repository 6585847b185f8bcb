"""How well `curate dedup` finds the hand-labelled near-duplicates of CIFAR-10, and what it costs.

Runs the command in a process of its own for every search method, and scores its nearest.parquet
with the ciFAIR pair list (Barz and Denzler 2020; used for scoring only). The list is incomplete, so
it gives recall, not precision. Writes a JSON with the figures and the machine in words.

    python benchmarks/cifar10_copies.py --data cifar10 --out cifar10.json
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from record import write_result

FLAGGED = (250, 500, 1000)
THRESHOLDS = (0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96)


def main() -> None:
    """Run, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "runs": [
                run(arguments.data, Path(folder) / search, search, arguments.workers)
                for search in ("exact", "flat", "ivf")
            ],
            **compare(Path(folder)),
            "again": again(arguments.data, Path(folder) / "exact", arguments.workers),
            "recall": recall(scored(arguments.data, Path(folder) / "exact")),
            "recall_without_mirrored_views": recall(
                as_seen(scored(arguments.data, Path(folder) / "exact"), Path(folder) / "exact")
            ),
            "sweep": sweep(arguments.data, Path(folder) / "exact"),
        }
    write_result(arguments.out, result)
    print(json.dumps(result, indent=2))


def run(data: Path, out: Path, search: str, workers: int) -> dict[str, Any]:
    """One fresh run of the command: wall seconds, CPU seconds, peak memory of all its processes."""
    shutil.rmtree(out, ignore_errors=True)
    return {"search": search, "workers": workers, **measure(command(data, out, search, workers))}


def again(data: Path, out: Path, workers: int) -> dict[str, Any]:
    """The same command on a finished run."""
    return measure(command(data, out, "exact", workers))


def command(data: Path, out: Path, search: str, workers: int) -> list[str]:
    """The command line that is measured."""
    return [
        *(sys.executable, "-m", "pipelines", "dedup"),
        *("--test", f"{data}/test", "--train", f"{data}/train", "--out", str(out)),
        *("--search", search, "--workers", str(workers), "--detector", "builtin:layout"),
    ]


def measure(words: list[str]) -> dict[str, Any]:
    """Run a command; sample the memory of it and its children, shared pages counted once (PSS)."""
    start = time.perf_counter()
    process = psutil.Popen(words)
    peak = 0
    cpu: dict[int, float] = {}
    while process.poll() is None:
        total = 0
        for member in _family(process):
            try:
                total += member.memory_full_info().pss
                times = member.cpu_times()
                cpu[member.pid] = times.user + times.system
            except psutil.Error:
                continue
        peak = max(peak, total)
        time.sleep(0.3)
    if process.returncode != 0:
        sys.exit(f"{words}: exit code {process.returncode}")
    return {
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(sum(cpu.values()), 1),
        "peak_mb": round(peak / 1e6),
    }


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def compare(folder: Path) -> dict[str, Any]:
    """Share of the exact join's pairs that the indices found, at the floor and at 0.9."""
    pairs = {name: _pairs(folder / name) for name in ("exact", "flat", "ivf")}
    keys = ["test_id", "train_id", "score"]
    found = {}
    for name in ("flat", "ivf"):
        for threshold in (0.7, 0.9):
            wanted = pairs["exact"].filter(pl.col("score") >= threshold)
            got = wanted.join(pairs[name], on=keys, how="semi")
            found[f"{name} at {threshold}"] = f"{got.height} of {wanted.height}"
        extra = pairs[name].join(pairs["exact"], on=keys, how="anti").height
        found[f"{name} beyond exact"] = str(extra)
    return {"index_pairs_found": found}


def _pairs(run_folder: Path) -> pl.DataFrame:
    return pl.read_parquet(run_folder / "matches" / "test-vs-train" / "pairs.parquet")


def listed_pairs(data: Path) -> pl.DataFrame:
    """Barz and Denzler's list; `judgment` is 1 for near-duplicates, 2 for very similar images."""
    path = data / "pairs_test_train.csv"
    if not path.is_file():
        sys.exit(f"{path}: missing; it lists ciFAIR's pairs: test_index, train_index, judgment")
    return pl.read_csv(path)


def scored(data: Path, run_folder: Path) -> pl.DataFrame:
    """Test images by falling best score, with their ciFAIR judgement (null: not listed)."""
    nearest = pl.read_parquet(run_folder / "matches" / "test-vs-train" / "nearest.parquet")
    listed = listed_pairs(data).select("test_id", "judgment", listed="train_id")
    names = pl.read_parquet(data / "manifest.parquet", columns=["id", "split", "index", "label"])
    number = pl.col("test_id").str.extract(r":0*(\d+)$").cast(pl.Int64)
    test = names.filter(pl.col("split") == "test").rename({"id": "test_name"})
    train = names.filter(pl.col("split") == "train").select("index", train_label="label")
    of_train = pl.col("train_id").str.extract(r":0*(\d+)$").cast(pl.Int64)
    return (
        nearest.with_columns(index=number, train_index=of_train)
        .join(test, on="index", how="left", maintain_order="left")
        .join(train, left_on="train_index", right_on="index", how="left", maintain_order="left")
        .join(listed, left_on="test_name", right_on="test_id", how="left", maintain_order="left")
        .sort("score", "test_id", descending=[True, False], nulls_last=True)
    )


def as_seen(frame: pl.DataFrame, run_folder: Path) -> pl.DataFrame:
    """The same test images ranked by their unmirrored view alone."""
    vectors = {
        side: [
            np.load(path).astype(np.float32)
            for path in sorted(run_folder.glob(f"embeddings/{side}/*/img_emb/*.npy"))
        ]
        for side in ("test", "train")
    }
    test = np.concatenate(vectors["test"])
    best = np.max([np.max(test @ part.T, axis=1) for part in vectors["train"]], axis=0)
    return (
        frame.sort("index")
        .with_columns(score=pl.Series(best))
        .sort("score", descending=True, nulls_last=True)
    )


def recall(frame: pl.DataFrame) -> dict[str, float]:
    """Share of the 249 images with a near-duplicate (judgement 1) among the best-scored ones."""
    total = frame.filter(pl.col("judgment") == 1).height
    return {
        f"@{count}": round(frame.head(count).filter(pl.col("judgment") == 1).height / total, 3)
        for count in FLAGGED
    }


def sweep(data: Path, run_folder: Path) -> list[dict[str, Any]]:
    """Flagged images, recall and label agreement at thresholds."""
    frame = scored(data, run_folder)
    total = frame.filter(pl.col("judgment") == 1).height
    rows = []
    for threshold in THRESHOLDS:
        flagged = frame.filter(pl.col("score") >= pl.lit(threshold, dtype=pl.Float32))
        same = flagged.filter(pl.col("label") == pl.col("train_label")).height
        rows.append({
            "threshold": threshold,
            "flagged": flagged.height,
            "mirrored": flagged.filter(pl.col("view") == "mirror").height,
            "recall": round(flagged.filter(pl.col("judgment") == 1).height / total, 3),
            "same_class": round(same / max(1, flagged.height), 3),
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
