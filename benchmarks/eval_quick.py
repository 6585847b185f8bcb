"""The quick suite on the tiny CLIP, and what the copies in its test set add to each figure.

SPLIT is a split of CIFAR-10's test set that `curate dedup` wrote, SURROGATE a model of `curate
train` that transferred attacks are made on. A suite that is there is not measured again, and its
processor seconds are those of this run.

    python benchmarks/eval_quick.py --data cifar10/test --split run/splits/test-at-0.5 \
        --surrogate trained/tecoa --folder eval --out benchmarks/results/eval-quick.json
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import write_result

MODEL = "builtin:tiny-clip"
KEPT = (
    "setting", "all", "clean", "overlap", "control", "images", "change", "p", "p_adjusted",
)  # fmt: skip


def main() -> None:
    """Measure, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "split", "surrogate", "folder", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="images; default: the suite's")
    given = parser.parse_args()
    before = os.times()
    words = ["run", MODEL, "--data", f"cifar10={given.data}", "--suite", "quick"]
    words += ["--split", f"cifar10={given.split}", "--surrogate", str(given.surrogate)]
    words += [] if given.limit is None else ["--limit", str(given.limit)]
    evaluate(*words, "--out", str(given.folder / "tiny"))
    after = os.times()
    overlap = json.loads(evaluate("overlap", str(given.folder), "--json"))
    summary = json.loads(evaluate("summary", str(given.folder), "--base", MODEL, "--json"))
    result = {
        "cpu_seconds": round(sum(after[2:4]) - sum(before[2:4])),
        "settings": [{key: one[key] for key in KEPT} for one in overlap["settings"]],
        "sentence": overlap["sentence"],
        "summary": summary,
    }
    write_result(given.out, result)


def evaluate(*words: str) -> str:
    """What `curate eval` prints."""
    command: list[Any] = [sys.executable, "-m", "pipelines", "eval", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
