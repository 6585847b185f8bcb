"""What a calibration says of a run: how precise thresholds are, and which copies they find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.calibration.counts import Estimate
from curate.calibration.recall import ALL
from curate.report.inputs import ReportInputs


@dataclass(frozen=True)
class Point:
    """A share at a threshold.

    Attributes:
        threshold: lowest score that counts.
        number: items flagged, or copies found.
        seen: hand-labelled pairs, or planted copies.
        share: of the flagged items those that are copies, or of the copies those found.
    """

    threshold: float
    number: int
    seen: int
    share: Estimate


@dataclass(frozen=True)
class Cell:
    """What is found of the copies of one kind and strength; `words` say what was done to them."""

    strength: int
    words: str
    copies: int
    found: int
    share: Estimate


@dataclass(frozen=True)
class Kind:
    """One transformation, its strengths rising."""

    name: str
    cells: tuple[Cell, ...]

    @property
    def recall(self) -> float:
        """Of all strengths together."""
        return sum(cell.found for cell in self.cells) / sum(cell.copies for cell in self.cells)


@dataclass(frozen=True)
class Calibrated:
    """The calibration of a run.

    Attributes:
        confidence: of all intervals.
        floor: lowest score of the pairs that could be judged.
        units: images with a pair at or above it.
        judged: pairs of the plan that people judged.
        leaked: estimated number of the units that have a copy; None: nothing was judged.
        precision: by rising threshold; empty where nothing was judged.
        recall: of all planted copies, by rising threshold; empty where none were planted.
        wanted: precision that was asked for.
        proposed: threshold that was found for it; None: none was.
        reason: why it is this one, or none.
        planted: train images that copies were made of.
        unreadable: planted copies that could not be embedded.
        kinds: recall of each transformation at `kinds_at`, the least recall first.
        kinds_at: the threshold in use, or the next one above it that was measured.
    """

    confidence: float
    floor: float
    units: int
    judged: int
    leaked: Estimate | None
    precision: tuple[Point, ...]
    recall: tuple[Point, ...]
    wanted: float
    proposed: float | None
    reason: str
    planted: int
    unreadable: int
    kinds: tuple[Kind, ...]
    kinds_at: float

    def precision_at(self, threshold: float) -> Point | None:
        """What was measured at just this threshold."""
        return next((point for point in self.precision if point.threshold == threshold), None)

    def recall_at(self, threshold: float) -> Point | None:
        """What was measured at this threshold or the next one above it: no more than is true."""
        return next((point for point in self.recall if point.threshold >= threshold), None)


def find(inputs: ReportInputs) -> Calibrated | None:
    """The calibration of a run; None: it has none."""
    said, curves = inputs.calibration, inputs.recall
    if said is None:
        return None
    planted = said["planted"] or {"images": 0, "failed": 0, "by_transformation": ()}
    at = _measured(said["thresholds"], inputs.split["threshold"])
    proposal, plan = said["proposal"], said["plan"] or {"units": 0, "zones": ()}
    return Calibrated(
        confidence=said["confidence"],
        floor=said["floor"],
        units=plan["units"],
        judged=sum(zone["judged"] for zone in plan["zones"]),
        leaked=_leaked(said["leaked"]),
        precision=tuple(_precision(row) for row in said["precision"]),
        recall=_pooled(curves) if curves is not None else (),
        wanted=proposal["wanted"],
        proposed=proposal["threshold"],
        reason=proposal["reason"],
        planted=planted["images"],
        unreadable=planted["failed"],
        kinds=_kinds(curves, at, planted["by_transformation"]) if curves is not None else (),
        kinds_at=at,
    )


def _measured(thresholds: Sequence[float], wanted: float) -> float:
    """The lowest measured threshold that is not below the wanted one, else the highest."""
    return next((value for value in thresholds if value >= wanted), thresholds[-1])


def _leaked(found: Mapping[str, Any] | None) -> Estimate | None:
    return None if found is None else Estimate(found["copies"], found["low"], found["high"])


def _precision(row: Mapping[str, Any]) -> Point:
    share = Estimate(row["precision"], row["low"], row["high"])
    return Point(row["threshold"], row["flagged"], row["judged"], share)


def _pooled(curves: pl.DataFrame) -> tuple[Point, ...]:
    rows = curves.filter((pl.col("transformation") == ALL) & (pl.col("strength") == 0))
    return tuple(
        Point(
            row["threshold"], row["found"], row["copies"],
            Estimate(row["recall"], row["low"], row["high"]),
        )
        for row in rows.sort("threshold").iter_rows(named=True)
    )  # fmt: skip


def _kinds(
    curves: pl.DataFrame, threshold: float, said: Sequence[Mapping[str, Any]]
) -> tuple[Kind, ...]:
    words = {(row["transformation"], row["strength"]): row["words"] for row in said}
    rows = curves.filter((pl.col("transformation") != ALL) & (pl.col("threshold") == threshold))
    cells: dict[str, list[Cell]] = {}
    for row in rows.sort("strength").iter_rows(named=True):
        share = Estimate(row["recall"], row["low"], row["high"])
        text = str(words.get((row["transformation"], row["strength"]), ""))
        cell = Cell(row["strength"], text, row["copies"], row["found"], share)
        cells.setdefault(row["transformation"], []).append(cell)
    found = (Kind(name, tuple(row)) for name, row in cells.items())
    return tuple(sorted(found, key=lambda kind: (kind.recall, kind.name)))
