"""From judged pairs to the precision at every threshold, the number of copies, and a proposal."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.calibration.counts import CONFIDENCE, Estimate, Judged, total
from curate.calibration.plan import Zone, at_least

RULE = (
    "from the highest threshold down, the last one before the low end of the interval of the "
    "precision first falls below what is wanted; thresholds at which so few pairs are judged that "
    "not even copies throughout could show it are passed over"
)
"""Testing in a fixed order, each time at the full level, and stopping at the first failure keeps
the chance that the proposed threshold is in truth not precise enough at (1 - confidence) / 2,
however many thresholds are looked at (fixed-sequence testing; A. Angelopoulos et al., "Learn then
Test", 2021, use it so). Choosing the lowest of all that pass would not."""

COPY, DIFFERENT, UNSURE = "copy", "different", "unsure"
_PAIR = ["test_id", "train_id"]


@dataclass(frozen=True)
class At:
    """What is known of a threshold.

    Attributes:
        flagged: items at or above it.
        judged: drawn pairs among these of which something is known.
        precision: share of the flagged items whose best pair is a copy.
        copies: how many these are.
        testable: enough is judged to show the wanted precision, if all were copies.
    """

    threshold: float
    flagged: int
    judged: int
    precision: Estimate
    copies: Estimate
    testable: bool

    def to_json(self) -> dict[str, Any]:
        """A row of `calibration.json`."""
        row = {name: getattr(self, name) for name in ("threshold", "flagged", "judged", "testable")}
        precise, copies = asdict(self.precision), asdict(self.copies)
        return {
            **row, "precision": precise["value"], "low": precise["low"], "high": precise["high"],
            "copies": copies["value"], "copies_low": copies["low"], "copies_high": copies["high"],
        }  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """All units, and the answers to those that were drawn.

    Attributes:
        scores: of all units: (n,) float32.
        plan: `PLAN`, with `answer`: "copy", "different", "unsure"; null: not reached.
    """

    scores: NDArray[np.float32]
    plan: pl.DataFrame

    @cached_property
    def _bounds(self) -> list[tuple[int, float, float | None, int]]:
        """Number, low, high and units of each zone, the highest first."""
        rows = self.plan.select("zone", "low", "high", "units").unique().sort("zone")
        return list(rows.iter_rows())

    @cached_property
    def _drawn(self) -> dict[int, tuple[NDArray[np.float32], NDArray[np.str_]]]:
        """Scores and answers of the pairs of each zone in the plan ("" where not reached)."""
        parts = self.plan.partition_by("zone", as_dict=True)
        return {
            int(key[0]): (rows["score"].to_numpy(), rows["answer"].fill_null("").to_numpy())
            for key, rows in parts.items()
        }

    def zones(self) -> list[Zone]:
        """The zones of the plan, the highest first, each with the share of copies seen."""
        found = []
        for number, low, high, units in self._bounds:
            judged = self._judged(number, units, low)
            said = judged.copies + judged.different
            found.append(Zone(number, low, high, units, (judged.copies + 1) / (said + 2)))
        return found

    def groups(self, threshold: float) -> dict[int, Judged]:
        """The part of each zone at or above a threshold, where it has one."""
        found = {}
        for number, low, high, _ in self._bounds:
            least = max(low, threshold)
            inside = at_least(self.scores, least)
            if high is not None:
                inside &= ~at_least(self.scores, high)
            if units := int(inside.sum()):
                found[number] = self._judged(number, units, least)
        return found

    def _judged(self, zone: int, units: int, least: float) -> Judged:
        scores, answers = self._drawn[zone]
        reached = answers[at_least(scores, least)]
        copies, different, unsure = (
            int((reached == word).sum()) for word in (COPY, DIFFERENT, UNSURE)
        )
        said = np.isin(answers, (COPY, DIFFERENT)).sum()
        share = float((answers == COPY).sum() / said) if said else None
        return Judged(units, copies, different, unsure, share)


def answered(plan: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """The plan with `answer` and `passed_over` beside each pair.

    A pair without a label that stands before a labelled one of its zone was passed over: it may
    have been left out for being hard, so it is "unsure" and not missing at random. Those after
    the last labelled one of their zone were not reached, which says nothing of them.

    Args:
        plan: `PLAN`.
        judged: test_id, train_id, copy (null: nobody could tell), as `curate.labels.judged` gives.
    """
    words = judged.select(
        *_PAIR,
        said=pl.when("copy").then(pl.lit(COPY)).when(~pl.col("copy")).then(pl.lit(DIFFERENT))
        .otherwise(pl.lit(UNSURE)),
    )  # fmt: skip
    frame = plan.join(words, on=_PAIR, how="left", maintain_order="left")
    last = pl.col("order").filter(pl.col("said").is_not_null()).max().over("zone")
    passed = (pl.col("said").is_null() & (pl.col("order") < last)).fill_null(value=False)
    answer = pl.when(passed).then(pl.lit(UNSURE)).otherwise("said")
    return frame.with_columns(passed_over=passed, answer=answer).drop("said")


def at(
    sample: Sample, threshold: float, wanted: float, confidence: float = CONFIDENCE
) -> At | None:
    """What is known of a threshold; None where nothing is flagged at it."""
    groups = list(sample.groups(threshold).values())
    flagged = sum(group.items for group in groups)
    if not flagged:
        return None
    copies = total(groups, confidence)
    best = total([Judged(group.items, group.drawn) for group in groups], confidence)
    return At(
        threshold, flagged, sum(group.drawn for group in groups), copies.of(flagged), copies,
        best.low / flagged >= wanted,
    )  # fmt: skip


def curve(
    sample: Sample, thresholds: Sequence[float], wanted: float, confidence: float = CONFIDENCE
) -> list[At]:
    """What is known of each threshold at which anything is flagged, the lowest first."""
    found = (at(sample, threshold, wanted, confidence) for threshold in thresholds)
    return [row for row in found if row is not None]


def propose(rows: Sequence[At], wanted: float) -> At | None:
    """The lowest threshold that is shown to be precise enough by `RULE`; None: none is.

    Args:
        rows: by rising threshold.
        wanted: the least precision.
    """
    chosen = None
    for row in reversed(rows):
        if not row.testable:
            continue
        if row.precision.low < wanted:
            return chosen
        chosen = row
    return chosen


def hopeful(rows: Sequence[At], wanted: float) -> At | None:
    """The lowest threshold down to which the estimates reach what is wanted, shown or not."""
    chosen = None
    for row in reversed(rows):
        if row.precision.value is None:
            continue
        if row.precision.value < wanted:
            return chosen
        chosen = row
    return chosen


def more_labels(
    sample: Sample, threshold: float, wanted: float, confidence: float = CONFIDENCE
) -> dict[int, int] | None:
    """Further pairs to judge per zone until a threshold is expected to be shown precise enough.

    It is taken that the shares of copies stay as they are, and that each zone's draw grows by the
    same factor. None: not even judging every unit would show it.
    """
    groups = sample.groups(threshold)
    flagged = sum(group.items for group in groups.values())
    factor = 1.0
    while True:
        grown = {number: _grown(group, factor) for number, group in groups.items()}
        if total(list(grown.values()), confidence).low / flagged >= wanted:
            more = {number: grown[number].drawn - group.drawn for number, group in groups.items()}
            return {number: count for number, count in more.items() if count}
        if all(group.drawn == group.items for group in grown.values()):
            return None
        factor *= 1.15


def _grown(group: Judged, factor: float) -> Judged:
    drawn = min(group.items, int(np.ceil(max(1, group.drawn) * factor)))
    said = group.copies + group.different
    share = group.copies / said if said else 0.5
    unsure = round(drawn * group.unsure / group.drawn) if group.drawn else 0
    copies = round((drawn - unsure) * share)
    return Judged(group.items, copies, drawn - unsure - copies, unsure)
