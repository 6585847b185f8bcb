"""How far the judging of pairs is, and what it says of the run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from curate.review.queue import BANDS, PLAN, Pairs, Queue
from curate.stats import wilson

COPY, NO_COPY, OPEN, UNJUDGED = 1, 0, 2, -1
"""What reviewers together say of a pair, as int8; `OPEN`: unsure or tied."""

REMOVED: Final = ("above", "high")
"""The bands of what is removed at the threshold."""


@dataclass(frozen=True)
class Precision:
    """The share of copies with its 95 % interval; `share` is None where nothing is judged."""

    copies: int
    judged: int
    share: float | None
    low: float
    high: float


@dataclass(frozen=True)
class BandProgress:
    """How far one band is.

    Attributes:
        pairs: all of them.
        images: test images whose best pair is in the band.
        judged: pairs that somebody has judged.
        mine: pairs that this reviewer has judged.
        open: best pairs on which the judging has no result (unsure, or reviewers are tied).
        skipped: best pairs without a label that come before a labelled one; they make the
            estimate one of a sample that is not random.
        precision: of the test images whose best pair was judged. Pairs of a plan are left out here
            and in `skipped`: they were drawn more often where there is more doubt, which `curate
            calibrate` weighs and a plain share does not.
    """

    pairs: int
    images: int
    judged: int
    mine: int
    open: int
    skipped: int
    precision: Precision


def band_progress(
    pairs: Pairs, queue: Queue, verdict: NDArray[np.int8], mine: NDArray[np.bool_]
) -> dict[str, BandProgress]:
    """Progress by band.

    Args:
        pairs: all pairs.
        queue: their bands and orders.
        verdict: (n,) what all reviewers together say.
        mine: (n,) whether this reviewer has judged a pair.
    """
    rows = np.flatnonzero(verdict != UNJUDGED)
    planned = np.zeros(len(verdict), np.bool_)
    planned[queue.orders.get(PLAN, [])] = True
    own = np.bincount(queue.band[np.flatnonzero(mine)], minlength=len(BANDS))
    found = {}
    for number, name in enumerate(BANDS):
        here = rows[queue.band[rows] == number]
        best = verdict[here[pairs.is_best[here] & ~planned[here]]]
        copies, none = int((best == COPY).sum()), int((best == NO_COPY).sum())
        found[name] = BandProgress(
            pairs=len(queue.orders[name]),
            images=queue.images[name],
            judged=len(here),
            mine=int(own[number]),
            open=int((best == OPEN).sum()),
            skipped=_skipped(queue, name, verdict, planned),
            precision=precision(copies, copies + none),
        )
    return found


def _skipped(queue: Queue, name: str, verdict: NDArray[np.int8], planned: NDArray[np.bool_]) -> int:
    """Unlabelled pairs before the last labelled one, among the best pairs of a band."""
    best = queue.orders[name][: queue.images[name]]
    labelled = verdict[best[~planned[best]]] != UNJUDGED
    if not labelled.any():
        return 0
    return len(labelled) - int(labelled[::-1].argmax()) - int(labelled.sum())


def precision(copies: int, judged: int) -> Precision:
    """A share with Wilson's interval."""
    low, high = wilson(copies, judged)
    return Precision(copies, judged, copies / judged if judged else None, low, high)


def removed(bands: Mapping[str, BandProgress]) -> Precision:
    """The precision of what is removed: the test images whose best pair reaches the threshold.

    Bands are strata, weighted by their test images; the interval combines Wilson's of each by
    the square-and-add rule (R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890; G. Y. Zou
    and A. Donner, ibid. 27 (2008) 1693-1702). Without a judged pair in some stratum nothing is
    known of it, and so nothing of the whole.
    """
    strata = [bands[name] for name in REMOVED if bands[name].images]
    copies = sum(band.precision.copies for band in strata)
    judged = sum(band.precision.judged for band in strata)
    total = sum(band.images for band in strata)
    share = below = above = 0.0
    for band in strata:
        part, weight = band.precision, band.images / total
        if part.share is None:
            return Precision(copies, judged, None, 0.0, 1.0)
        share += weight * part.share
        below += (weight * (part.share - part.low)) ** 2
        above += (weight * (part.high - part.share)) ** 2
    if not strata:
        return Precision(0, 0, None, 0.0, 1.0)
    return Precision(
        copies, judged, share,
        max(0.0, share - math.sqrt(below)), min(1.0, share + math.sqrt(above)),
    )  # fmt: skip


def as_json(bands: Mapping[str, BandProgress]) -> list[dict[str, Any]]:
    """The bands in order, for the page."""
    return [
        {
            "name": name,
            **{key: value for key, value in vars(band).items() if key != "precision"},
            "precision": vars(band.precision),
        }
        for name, band in bands.items()
    ]
