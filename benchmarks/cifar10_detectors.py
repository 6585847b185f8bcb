"""How well each detector finds the hand-labelled near-duplicates of CIFAR-10.

Runs `curate dedup` with every method below and scores what it flags with the ciFAIR pair list
(Barz and Denzler 2020), which takes part in nothing else. The list is incomplete, so the first
pairs that it lacks were judged by eye; those labels lie beside this file and give the precision,
and by `curate calibrate` an estimate of how many test images have a copy at all.

    python benchmarks/cifar10_detectors.py --data cifar10 --out results.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from cifar10_copies import FLAGGED, listed_pairs, measure
from record import write_result

from curate.files import read_json
from curate.labels import agreement, judged, read_labels

LABELS = Path(__file__).with_name("cifar10_labels.csv")
JUDGED = (500, 700)
"""Among so many of the best-scored test images, copies are counted; and among those flagged."""
ESTIMATED = "builtin:copy"
PLAN = 320
METHODS = {
    "builtin:copy": ["--detector", "builtin:copy"],
    "builtin:copy, unmirrored view alone": ["--detector", "builtin:copy", "--views", "identity"],
    "builtin:copy, no second look": ["--detector", "builtin:copy", "--verify", "none"],
    "builtin:layout": ["--detector", "builtin:layout"],
    "builtin:layout, second look": [
        *("--detector", "builtin:layout", "--verify", "pixels", "--floor", "0.6"),
    ],
    "phash": ["--detector", "phash:phash", "--floor", "0.5"],
    "dhash": ["--detector", "phash:dhash", "--floor", "0.5"],
    "builtin:tiny-clip": ["--detector", "builtin:tiny-clip", "--floor", "0.95", "--cap", "3"],
}


def main() -> None:
    """Run, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--method", action="append", choices=METHODS, help="some only")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    arguments = parser.parse_args()
    chosen = {name: METHODS[name] for name in arguments.method or METHODS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        methods = {
            name: run(name, words, arguments.data, folder, arguments.workers)
            for name, words in chosen.items()
        }
        result = {"methods": methods, "labels": labels(arguments.data)}
        if ESTIMATED in chosen:
            result["estimate"] = estimate(folder / folder_name(ESTIMATED))
    write_result(arguments.out, result)
    print(json.dumps(result, indent=1))


def folder_name(method: str) -> str:
    """Where the run of a method is."""
    return method.replace(":", "-").replace(" ", "-").replace(",", "")


def run(name: str, words: list[str], data: Path, folder: Path, workers: int) -> dict[str, Any]:
    """One run of the command, its cost, and what it found."""
    out = folder / folder_name(name)
    cost = measure([
        *(sys.executable, "-m", "pipelines", "dedup", *words, "--out", str(out)),
        *("--test", f"{data}/test", "--train", f"{data}/train", "--workers", str(workers)),
        *("--no-report", "--write", "overlap"),
    ])  # fmt: skip
    split = read_json(out / read_json(out / "run.json")["split"] / "split.json")
    ranked = ranking(data, out)
    found = {"threshold": split["threshold"], "flagged": split["counts"]["overlap"]}
    return {**cost, **found, **scores(ranked, found["flagged"])}


def ranking(data: Path, out: Path) -> pl.DataFrame:
    """Test images by falling score, with the list's judgement on them and ours on the pair."""
    matches = out / read_json(out / "run.json")["matches"]
    nearest = pl.read_parquet(matches / "nearest.parquet").with_columns(
        test_index=_number("test_id"), train_index=_number("train_id")
    )
    listed = listed_pairs(data)
    near = listed.filter(judgment=1).select("test_index", listed=True)
    similar = listed.filter(judgment=2).select("test_index", similar=True)
    pairs = listed.select("test_index", "train_index", pair_listed=True)
    ours = judged(read_labels(LABELS)).select(
        test_index=_number("test_id"), train_index=_number("train_id"), copy="copy", seen=True
    )
    frame = nearest
    for words in (near, similar):
        frame = frame.join(words, on="test_index", how="left", maintain_order="left")
    for words in (pairs, ours):
        keys = ["test_index", "train_index"]
        frame = frame.join(words, on=keys, how="left", maintain_order="left")
    return frame.sort("score", "test_id", descending=[True, False], nulls_last=True)


def _number(column: str) -> pl.Expr:
    """CIFAR-10's own number of an image, which its key is."""
    return pl.col(column).str.extract(r":0*(\d+)$").cast(pl.Int64)


def scores(ranked: pl.DataFrame, flagged: int) -> dict[str, Any]:
    """Recall of the listed images, and what the first of them are by list or by eye."""
    total = ranked["listed"].sum()
    recall = {str(k): round(ranked[:k]["listed"].sum() / total, 3) for k in (*FLAGGED, flagged)}
    return {
        "recall": recall,
        "of_first": {str(k): judgements(ranked[:k]) for k in sorted({*JUDGED, flagged})},
    }


def judgements(first: pl.DataFrame) -> dict[str, int]:
    """How many test images are copies, none, or could not be told; how many the list has."""
    by_list = pl.col("pair_listed").fill_null(value=False)
    copy = by_list | pl.col("copy").fill_null(value=False)
    judged = by_list | pl.col("seen").is_not_null()
    none = ~copy & ~pl.col("copy").fill_null(value=True)
    found = first.select(
        copies=copy.sum(), copies_by_list=by_list.sum(), none=none.sum(), judged=judged.sum(),
        near_duplicates=pl.col("listed").sum(), very_similar=pl.col("similar").sum(),
    )  # fmt: skip
    return found.row(0, named=True)


def labels(data: Path) -> dict[str, Any]:
    """How far the readings agree, and how many test images have a copy that was seen."""
    said = read_labels(LABELS)
    between = agreement(said)
    listed = listed_pairs(data)["test_index"]
    seen = judged(said).filter("copy").select(_number("test_id")).to_series()
    return {
        "pairs_by_both": between.pairs, "agreement": between.share, "kappa": between.kappa,
        "images_with_a_copy": len({*listed, *seen}), "images_listed": listed.n_unique(),
    }  # fmt: skip


def estimate(run_folder: Path) -> dict[str, Any]:
    """How many test images have a copy, by the judged pairs of a plan."""
    words = ("--copies", "0", "--plan", str(PLAN), "--labels", str(LABELS))
    subprocess.run(
        [sys.executable, "-m", "pipelines", "calibrate", str(run_folder), *words], check=True
    )
    found = read_json(run_folder / "calibration" / "calibration.json")
    return {"plan": PLAN, "judged": found["labels"]["in_plan"], **found["leaked"]}


if __name__ == "__main__":
    main()
