"""Planted copies among painted look-alikes: what detectors find, and what they flag wrongly.

Draws the pictures of `curate demo` for some seeds and cleans their test set. A tenth of it shares
the plan of a train picture (palette, composition, size) but not its details, and is no copy.

    python benchmarks/look_alikes.py --out benchmarks/results/look-alikes.json
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from cifar10_copies import measure
from record import write_result

from curate.demo import ANSWER_FILE, score_demo, write_demo
from curate.files import read_json
from curate.splits import read_decisions

RUNS = (
    ("builtin:copy", 201),
    ("builtin:copy", 202),
    ("builtin:copy", 203),
    ("builtin:copy", 0),
    ("builtin:layout", 0),
)


def main() -> None:
    """Draw, clean, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for detector, seed in RUNS:
            runs.append(run(detector, seed, Path(folder)))
            print(runs[-1], flush=True)
    write_result(arguments.out, {"runs": runs})


def run(detector: str, seed: int, folder: Path) -> dict[str, Any]:
    """One cleaning: its score against the answer, and its cost."""
    pictures = folder / f"pictures-{seed}"
    if not pictures.exists():
        write_demo(pictures, seed=seed)
    out = folder / f"{detector.replace(':', '-')}-{seed}"
    cost = measure([
        *(sys.executable, "-m", "pipelines", "dedup", "--detector", detector),
        *("--test", f"{pictures}/test", "--train", f"{pictures}/train", "--out", str(out)),
    ])  # fmt: skip
    split = out / read_json(out / "run.json")["split"]
    score = score_demo(pl.read_parquet(pictures / ANSWER_FILE), read_decisions(split))
    counts = read_json(split / "split.json")["counts"]
    return {
        "detector": detector, "seed": seed, "planted": score.planted, "found": score.found,
        "others": counts["in"] - counts["unknown"] - score.planted,
        "wrongly_flagged": len(score.wrongly_flagged), "tests": counts["in"],
        "unknown": counts["unknown"], **cost,
    }  # fmt: skip


if __name__ == "__main__":
    main()
