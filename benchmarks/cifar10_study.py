"""What a finished run of the flow `cifar10` says, as the figures of `docs/studies/cifar10.md`.

    curate run cifar10 --set variables.data=cifar10 --out study
    python benchmarks/cifar10_study.py --data cifar10 --run study --out results.json

The ciFAIR pair list (Barz and Denzler 2020) and the labels beside this file judge what was flagged;
they take part in nothing else.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from cifar10_copies import listed_pairs
from cifar10_detectors import judgements, labels, ranking
from record import write_result

from curate.files import read_json
from curate.stats import wilson
from eval.figures.effective import Pair, effective_robustness, find_baseline, fit
from eval.figures.overlap import Comparison, adjust, compare, effective_change
from eval.results import read_results
from pipelines.flow.measuring import OVERLAP_FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eval.figures.rates import Number, Rate

CLEAN = "cifar10"
SHIFTS = tuple(
    f"cifar10.{name}"
    for name in (
        "typographic", "gaussian_noise.3", "motion_blur.3", "fog.3", "jpeg_compression.3",
    )
)  # fmt: skip
ARMS = ("all", "without", "control")
SEEDS = 5
FIRST_SEEDS = 3
"""With these alone the interval over seeds left open whether there is a difference."""
SHORT = ("short-1", "short-2", "short-4")
ADAPTED = ("tecoa", "tecoa-leaky", "prompt")
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
DRAWS = 10_000
_LACKED = 20

Compared = dict[tuple[str, str], Comparison]


def main() -> None:
    """Read, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = {
        (one.model, str(one.setting)): one.samples for one in read_results(arguments.run / "eval")
    }
    compared = {key: compare(samples) for key, samples in rows.items()}
    result = {
        "detection": detection(arguments.data, arguments.run),
        "accuracy": accuracies(compared),
        "sentence": read_json(arguments.run / "overlap" / OVERLAP_FILE)["sentence"],
        "memory": memory(rows),
        "effective": effective(compared),
        "trained": {name: trained(arguments.run, name) for name in ADAPTED},
    }
    write_result(arguments.out, result)


# --- what was flagged -----------------------------------------------------------------------------


def detection(data: Path, run: Path) -> dict[str, Any]:
    """What the detector flagged, against the list and against what was judged by eye."""
    ranked = ranking(data, run / "dedup" / "copies")
    counts = {name: _split(run / "dedup" / name)["counts"] for name in ("copies", "leaks")}
    chosen = _split(run / "dedup" / "copies")["threshold"]
    listed = listed_pairs(data)
    return {
        "counts": counts,
        "threshold": chosen,
        "listed": listed.height,
        "near_duplicates": listed.filter(judgment=1).height,
        "labels": labels(data),
        "sweep": [_at(ranked, listed.height, threshold) for threshold in THRESHOLDS],
        "lacked": _lacked(ranked.filter(pl.col("score") >= chosen)),
    }


def _split(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(run / read_json(run / "run.json")["split"] / "split.json")
    return found


def _at(ranked: pl.DataFrame, listed: int, threshold: float) -> dict[str, Any]:
    """Recall of the list and precision by what was judged, at a threshold."""
    flagged = ranked.filter(pl.col("score") >= threshold)
    found = judgements(flagged)
    on_list = found["near_duplicates"] + found["very_similar"]
    decided = found["copies"] + found["none"]
    return {
        "threshold": threshold,
        "flagged": flagged.height,
        "recall": share(on_list, listed),
        "recall_near": share(found["near_duplicates"], int(ranked["listed"].sum())),
        "precision": share(found["copies"], decided),
        "judged": found["judged"],
        "not_on_the_list": found["copies"] - on_list,
    }


def share(hits: int, total: int) -> dict[str, float]:
    """A share with Wilson's 95 % interval."""
    low, high = wilson(hits, total)
    return {"hits": hits, "total": total, "value": hits / total, "low": low, "high": high}


def _lacked(flagged: pl.DataFrame) -> dict[str, Any]:
    """Copies by eye whose test image the list does not have."""
    unlisted = flagged.filter(
        pl.col("copy").fill_null(value=False), pl.col("listed").is_null(),
        pl.col("similar").is_null(),
    )  # fmt: skip
    first = unlisted.head(_LACKED)
    return {
        "images": unlisted.height,
        "mirrored": unlisted.filter(pl.col("view") != "identity").height,
        "first": first.select("test_index", "train_index", "score", "view").to_dicts(),
    }


# --- accuracies -----------------------------------------------------------------------------------


def accuracies(compared: Compared) -> list[dict[str, Any]]:
    """Every result on its splits; tests are adjusted by Holm over all of them."""
    adjusted = adjust({" on ".join(key): item.p for key, item in compared.items()})
    return [
        {
            "model": model,
            "setting": setting,
            "full": _rate(item.full),
            "clean": _rate(item.clean),
            "overlap": _rate(item.overlap),
            "control": None if item.control is None else _rate(item.control),
            "change": _number(item.change),
            "p": item.p,
            "p_adjusted": adjusted[f"{model} on {setting}"],
            "visible": item.visible,
            "random_removal": None if item.random is None else asdict(item.random),
        }
        for (model, setting), item in compared.items()
    ]


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "hits": rate.hits, "total": rate.total, "value": rate.value, "low": rate.low,
        "high": rate.high,
    }  # fmt: skip


def _number(number: Number) -> dict[str, Any]:
    return {"value": number.value, "low": number.low, "high": number.high}


# --- with and without -----------------------------------------------------------------------------


def memory(rows: dict[tuple[str, str], pl.DataFrame]) -> dict[str, Any]:
    """What training on the leaked images adds to accuracy, on images that have copies and others.

    The models of an arm differ in their seed. Two intervals: of the difference of mean accuracies
    when images are resampled and the models stay, and Welch's when the seeds are the sample.
    """
    arms = {arm: _correct(rows, arm) for arm in ARMS}
    splits = rows[f"{ARMS[0]}-seed-0", CLEAN].sort("id")["split"].to_numpy()
    found: dict[str, Any] = {"seeds": SEEDS, "accuracy": {}, "difference": {}}
    for split in ("overlap", "clean"):
        chosen = {arm: right[:, splits == split] for arm, right in arms.items()}
        found["accuracy"][split] = {
            arm: {"images": right.shape[1], "seeds": right.mean(axis=1).tolist(),
                  "mean": float(right.mean())}
            for arm, right in chosen.items()
        }  # fmt: skip
        for other in ARMS[1:]:
            name = f"all less {other}"
            found["difference"].setdefault(name, {})[split] = difference(
                chosen["all"], chosen[other]
            )
        if split == "overlap":
            few = (chosen[arm][:FIRST_SEEDS] for arm in ("all", "without"))
            found["first"] = {"seeds": FIRST_SEEDS, **difference(*few)}
    return found


def _correct(rows: dict[tuple[str, str], pl.DataFrame], arm: str) -> NDArray[np.float64]:
    """(seeds, images) whether each was right, images by their ids."""
    frames = [rows[f"{arm}-seed-{seed}", CLEAN].sort("id") for seed in range(SEEDS)]
    return np.array([frame["correct"].to_numpy() for frame in frames], dtype=np.float64)


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Any]:
    """Mean accuracy of some models less that of others on the same images, with both intervals.

    Args:
        one: (models, images) of 0 and 1.
        other: likewise.
    """
    from scipy.stats import ttest_ind

    by_image = one.mean(axis=0) - other.mean(axis=0)
    generator = np.random.default_rng(0)
    rows = generator.integers(len(by_image), size=(DRAWS, len(by_image)))
    low, high = np.percentile(by_image[rows].mean(axis=1), (2.5, 97.5))
    welch = ttest_ind(one.mean(axis=1), other.mean(axis=1), equal_var=False)
    of_seeds = welch.confidence_interval(0.95)
    return {
        "value": float(by_image.mean()),
        "images_low": float(low),
        "images_high": float(high),
        "seeds_low": float(of_seeds.low),
        "seeds_high": float(of_seeds.high),
        "seeds_p": float(welch.pvalue),
    }


# --- effective robustness -------------------------------------------------------------------------


def effective(compared: Compared) -> dict[str, Any]:
    """How far adapted models are above the line of models of ordinary training.

    The line is refitted on clean images for the figure on clean images; the change of both with its
    interval is against the line of all images, as `eval.figures.overlap.effective_change` has it.
    """
    natural = [f"{arm}-seed-{seed}" for arm in ARMS for seed in range(SEEDS)]
    natural += [*SHORT, "builtin:tiny-clip"]
    pairs = [Pair(CLEAN, shift) for shift in SHIFTS]
    lines = {split: fit(_table(compared, natural, split), pairs) for split in ("full", "clean")}
    return {
        "natural": natural,
        "lines": [
            {"setting": one.y, **asdict(one.lines[0]), "points": [list(p) for p in one.points]}
            for one in lines["full"]
        ],
        "rows": [
            {
                "model": model,
                "setting": shift,
                **{split: _above(compared, model, lines[split], shift, split) for split in lines},
                "change": _number(effective_change(
                    find_baseline(lines["full"], shift), compared[model, CLEAN],
                    compared[model, shift],
                )),
            }
            for model in ADAPTED for shift in SHIFTS
        ],
    }  # fmt: skip


def _table(compared: Compared, models: list[str], split: str) -> pl.DataFrame:
    """Accuracies in percent, one row a model."""
    return pl.DataFrame(
        [
            {"model": model}
            | {
                setting: 100 * getattr(compared[model, setting], split).known
                for setting in (CLEAN, *SHIFTS)
            }
            for model in models
        ]
    )


def _above(compared: Compared, model: str, lines: Any, shift: str, split: str) -> dict[str, Any]:
    rates = [getattr(compared[model, setting], split) for setting in (CLEAN, shift)]
    return _number(effective_robustness(find_baseline(lines, shift), *rates))


def trained(run: Path, name: str) -> dict[str, Any]:
    """On how many samples a model was trained, and what was measured on held-out ones."""
    facts = read_json(run / "train" / name / "train.json")
    return {"samples": facts["data"]["samples"], "updates": facts["updates"],
            "before": facts["before"], "after": facts["after"]}  # fmt: skip


if __name__ == "__main__":
    main()
