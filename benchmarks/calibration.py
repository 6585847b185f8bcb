"""Whether intervals of the precision hold what they promise, and how many labels a plan saves.

    python benchmarks/calibration.py --out benchmarks/results/calibration.json

Populations of scores are made up whose true copies are known. Each is surveyed again and again:
pairs are drawn by the plan, their true answers are the labels, and it is counted how often the
95 % interval holds the true number of copies, and how often the proposed threshold is in truth
less precise than was asked for. CPU only, one core.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import effort
import numpy as np
from record import write_result

from curate.calibration import plan, precision

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from made_up_truths import FLOOR, LIKELY, TRUTHS, population, surveyed

UNITS = 1500
LABELS = (60, 200)
THRESHOLDS = (0.70, 0.75, 0.82, 0.85, 0.90)
WANTED = 0.95
WIDTH = 0.02


def main() -> None:
    """Survey, count, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=2000)
    given = parser.parse_args()
    began = time.perf_counter()
    surveys = []
    for truth in TRUTHS:
        for labels in LABELS:
            surveys.append(repeated(truth, labels, given.repeats))
            print(surveys[-1], flush=True)
    result = {
        "units": UNITS,
        "repeats": given.repeats,
        "nominal": 0.95,
        "wanted_precision": WANTED,
        "surveys": surveys,
        "least_coverage": min(min(row["coverage"].values()) for row in surveys),
        "labels_for_two_points": [row for truth in TRUTHS for row in savings(truth)],
        "seconds": round(time.perf_counter() - began),
    }
    write_result(given.out, result)


def repeated(truth: str, labels: int, repeats: int) -> dict[str, Any]:
    """How often intervals hold the truth, how wide they are, and how often a proposal is wrong."""
    hits = dict.fromkeys(THRESHOLDS, 0)
    widths = dict.fromkeys(THRESHOLDS, 0.0)
    proposed = wrong = 0
    for seed in range(repeats):
        sample, is_copy = surveyed(truth, UNITS, labels, seed)
        for threshold in THRESHOLDS:
            found = precision.at(sample, threshold, WANTED)
            true = int(is_copy[plan.at_least(sample.scores, threshold)].sum())
            hits[threshold] += found.copies.low - 1e-6 <= true <= found.copies.high + 1e-6
            widths[threshold] += (found.precision.high - found.precision.low) / 2
        rows = precision.curve(sample, plan.grid(FLOOR)[::4], WANTED)
        chosen = precision.propose(rows, WANTED)
        if chosen is not None:
            proposed += 1
            wrong += is_copy[plan.at_least(sample.scores, chosen.threshold)].mean() < WANTED
    return {
        "truth": truth,
        "labels": labels,
        "coverage": {f"{t:g}": round(count / repeats, 3) for t, count in hits.items()},
        "half_width": {f"{t:g}": round(width / repeats, 3) for t, width in widths.items()},
        "thresholds_proposed": proposed,
        "of_these_not_precise_enough": int(wrong),
    }


def savings(truth: str) -> list[dict[str, Any]]:
    """Labels until the precision at the likely threshold is known to +- 2 points."""
    rows = []
    for units in (UNITS, 20_000):
        scores = population(units, 0)
        zones = plan.zones(scores, FLOOR, LIKELY)
        chance = TRUTHS[truth](scores)
        shares = [float(chance[inside(scores, zone)].mean()) for zone in zones]
        flagged, everything = effort.plain_labels(zones, shares, LIKELY, WIDTH)
        rows.append({
            "truth": truth, "units": units, "flagged": int(plan.at_least(scores, LIKELY).sum()),
            "plan": effort.planned_labels(zones, shares, LIKELY, WIDTH),
            "plain_of_all_units": everything, "plain_of_flagged_units": flagged,
        })  # fmt: skip
    return rows


def inside(scores: np.ndarray, zone: plan.Zone) -> np.ndarray:
    """Which scores lie in a zone."""
    found = plan.at_least(scores, zone.low)
    return found if zone.high is None else found & ~plan.at_least(scores, zone.high)


if __name__ == "__main__":
    main()
