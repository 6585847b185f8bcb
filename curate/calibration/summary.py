"""The content of `calibration.json` from what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.calibration import precision, recall
from curate.calibration.judgements import Judgements
from curate.calibration.precision import At, Sample
from curate.copies import TRANSFORMATIONS

NO_PLAN = "no pairs were drawn to be judged (curate calibrate RUN --plan 200)"
NO_LABELS = "no pair of the plan is judged yet (curate review RUN)"


@dataclass(frozen=True)
class Wanted:
    """What is asked of a threshold: the least precision, and how sure its interval is."""

    precision: float
    confidence: float = 0.95


def labelled(
    units: pl.DataFrame,
    plan: pl.DataFrame | None,
    judgements: Judgements | None,
    thresholds: Sequence[float],
    wanted: Wanted,
) -> dict[str, Any]:
    """What judged pairs say: plan, labels, precision, leaked and proposal.

    Args:
        units: `UNITS`.
        plan: `PLAN`; None: nothing was drawn.
        judgements: None: there are none.
        thresholds: rising, from the floor.
        wanted: of the threshold that is proposed.
    """
    empty: dict[str, Any] = {"plan": None, "labels": None, "precision": [], "leaked": None}
    if plan is None:
        return {**empty, "proposal": _none(wanted, NO_PLAN)}
    words = _no_words() if judgements is None else judgements.table
    sample = Sample(units["score"].to_numpy(), precision.answered(plan, words))
    found: dict[str, Any] = {"plan": _plan(sample), "labels": _labels(plan, judgements)}
    if not sample.plan["answer"].is_not_null().any():
        return {**empty, **found, "proposal": _none(wanted, NO_LABELS)}
    rows = precision.curve(sample, thresholds, wanted.precision, wanted.confidence)
    return {
        **found,
        "precision": [row.to_json() for row in rows],
        "leaked": _leaked(rows[0]) if rows else None,
        "proposal": _proposal(sample, rows, wanted),
    }


def _no_words() -> pl.DataFrame:
    return pl.DataFrame(schema={"test_id": pl.String, "train_id": pl.String, "copy": pl.Boolean})


def _plan(sample: Sample) -> dict[str, Any]:
    zones = []
    for zone in sample.zones():
        rows = sample.plan.filter(pl.col("zone") == zone.number)
        counts = {word: int((rows["answer"] == word).sum()) for word in ("copy", "different")}
        passed = int(rows["passed_over"].sum())
        unsure = int((rows["answer"] == "unsure").sum()) - passed
        zones.append({
            "zone": zone.number, "low": zone.low, "high": zone.high, "units": zone.units,
            "planned": rows.height, "judged": sum(counts.values()) + unsure,
            "copies": counts["copy"], "different": counts["different"], "unsure": unsure,
            "passed_over": passed,
        })  # fmt: skip
    return {"units": len(sample.scores), "pairs": sample.plan.height, "zones": zones}


def _labels(plan: pl.DataFrame, judgements: Judgements | None) -> dict[str, Any] | None:
    if judgements is None:
        return None
    inside = judgements.table.join(plan, on=["test_id", "train_id"], how="semi").height
    return {
        "sha256": judgements.sha256, "reviewers": judgements.reviewers,
        "in_plan": inside, "outside_plan": judgements.table.height - inside,
    }  # fmt: skip


def _leaked(row: At) -> dict[str, Any]:
    return {
        "threshold": row.threshold, "units": row.flagged, "copies": row.copies.value,
        "low": row.copies.low, "high": row.copies.high,
    }  # fmt: skip


# --- the proposal --------------------------------------------------------------------------------


def _none(wanted: Wanted, reason: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    numbers = dict.fromkeys(("threshold", "precision", "low", "high", "flagged"))
    words = {"reason": reason, "rule": precision.RULE, "more_labels": more}
    return {"wanted": wanted.precision, **numbers, **words}


def _proposal(sample: Sample, rows: Sequence[At], wanted: Wanted) -> dict[str, Any]:
    chosen = precision.propose(rows, wanted.precision)
    hope = precision.hopeful(rows, wanted.precision)
    more = None
    if hope is not None and (chosen is None or hope.threshold < chosen.threshold):
        more = _more(sample, hope, wanted)
    if chosen is None:
        return _none(wanted, _why_none(rows, hope, more, wanted), more)
    return {
        "wanted": wanted.precision, "threshold": chosen.threshold,
        "precision": chosen.precision.value, "low": chosen.precision.low,
        "high": chosen.precision.high, "flagged": chosen.flagged,
        "reason": "the low end of the interval of the precision reaches what is wanted down to it",
        "rule": precision.RULE, "more_labels": more,
    }  # fmt: skip


def _more(sample: Sample, hope: At, wanted: Wanted) -> dict[str, Any] | None:
    """How many more labels would be expected to show the precision of a lower threshold."""
    zones = precision.more_labels(sample, hope.threshold, wanted.precision, wanted.confidence)
    if not zones:  # no number shows it, or it is shown and a higher threshold is not
        return None
    return {
        "threshold": hope.threshold, "pairs": sum(zones.values()),
        "zones": [{"zone": number, "pairs": count} for number, count in zones.items()],
    }  # fmt: skip


def _why_none(
    rows: Sequence[At], hope: At | None, more: dict[str, Any] | None, wanted: Wanted
) -> str:
    if hope is None:
        known = [row for row in rows if row.precision.value is not None]
        if not known:
            return "too few pairs of the plan are judged to estimate any precision"
        best = max(known, key=lambda row: (row.precision.value or 0, -row.threshold))
        return (
            f"no threshold is estimated to reach a precision of {wanted.precision:g} (the highest "
            f"is {best.precision.value:.3f}, at {best.threshold:g})"
        )
    needed = "" if more is None else f"; about {more['pairs']} more are needed"
    return (
        f"too few pairs are judged to show a precision of {wanted.precision:g}: at "
        f"{hope.threshold:g} it is estimated at {hope.precision.value:.3f}, but may be as low as "
        f"{hope.precision.low:.3f}{needed}"
    )


# --- planted copies ------------------------------------------------------------------------------


def planted(copies: pl.DataFrame, curves: pl.DataFrame, threshold: float) -> dict[str, Any]:
    """What planted copies say: all kinds together at every threshold, each kind at one.

    Args:
        copies: `PLANTED`.
        curves: `RECALL`, with this threshold in it.
        threshold: at which each kind is stated.
    """
    kinds = curves.filter(
        (pl.col("transformation") != recall.ALL) & (pl.col("threshold") == threshold)
    )
    order = {name: number for number, name in enumerate(TRANSFORMATIONS)}
    rows = sorted(kinds.to_dicts(), key=lambda row: (order[row["transformation"]], row["strength"]))
    words = [TRANSFORMATIONS[row["transformation"]].text(row["strength"]) for row in rows]
    pooled = curves.filter(pl.col("transformation") == recall.ALL).drop("transformation")
    return {
        "images": copies["train_id"].n_unique(),
        "copies": copies.height,
        "failed": copies["score"].null_count(),
        "pooled": pooled.to_dicts(),
        "by_transformation": [row | {"words": text} for row, text in zip(rows, words, strict=True)],
    }
