"""A study killed over and over: what was killed, while what was being done, and how it ended.

Runs the campaign of `tests/faults/test_kills.py` as two commands side by side, one with training
and one without, and adds up what they count.

    python benchmarks/faults.py --kills 240 --out benchmarks/results/faults.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from record import write_result

from curate.files import read_json

CAMPAIGN = "tests/faults/test_kills.py"
PARTS = ("training", "not training")


def main() -> None:
    """Kill, add up, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    given = {"CURATE_KILLS": f"{arguments.kills}", "CURATE_FAULTS_SEED": f"{arguments.seed}"}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.json" for number in range(len(PARTS))]
        running = [start(part, file, given) for part, file in zip(PARTS, files, strict=True)]
        failed = [part for part, one in zip(PARTS, running, strict=True) if one.wait()]
        if failed:
            sys.exit(f"{CAMPAIGN}: failed: {failed}")
        write_result(arguments.out, together([read_json(file) for file in files]))


def start(part: str, out: Path, given: dict[str, str]) -> subprocess.Popen[bytes]:
    """Begin a part of the campaign."""
    words = [sys.executable, "-m", "pytest", CAMPAIGN, "-m", "slow", "-k", part]
    return subprocess.Popen(words, env={**os.environ, **given, "CURATE_FAULTS_RESULTS": f"{out}"})


def together(files: list[dict[str, Any]]) -> dict[str, Any]:
    """The tallies of all campaigns of some files, added up."""
    tallies = [tally for file in files for tally in file.values()]
    kills: dict[str, Counter[str]] = {}
    ends: Counter[str] = Counter()
    for tally in tallies:
        ends.update(tally["ends"])
        for victim, steps in tally["kills"].items():
            kills.setdefault(victim, Counter()).update(steps)
    return {
        "kills": {victim: dict(sorted(kills[victim].items())) for victim in sorted(kills)},
        "total": sum(count for steps in kills.values() for count in steps.values()),
        "ends": dict(ends),
        "seconds": sum(tally["seconds"] for tally in tallies),
    }


if __name__ == "__main__":
    main()
