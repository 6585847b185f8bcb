"""Score normalisation: a cosine, less how near its test image is to images it is no copy of.

A sky is near to every sky, and a cosine of 0.8 says less of it than of a market scene. With
background vectors b, copies of nothing that is compared, the score of a pair becomes

    s'(q, x) = s(q, x) - beta * mean of s(q, b) over the k background vectors nearest to q

This is equation 8 of Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection (CVPR
2022), with their evaluation's beta = 1 and k = 3 as defaults; on DISC it raises the recall of SSCD
at 90 % precision from 0.38 to 0.63. The term depends on the query alone, so a score means the same
in every run with the same background, whatever else is compared. It is no cosine any more: it lies
within -1 - beta to 1 + beta, and a threshold for cosines says nothing of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.background import Background
from curate.errors import CurateError
from indices.pairs import Pairs
from indices.stored import Stored
from indices.topk import top_k

_ROUNDING = 1e-6
"""More than rounding to float32 can move a score, a floor or a term of up to 3."""

Terms = NDArray[np.float64]


@dataclass(frozen=True)
class Normalisation:
    """How scores are normalised.

    Attributes:
        background: what test images are compared with.
        beta: weight of the term.
        neighbours: k, background vectors that the term is the mean of.
    """

    background: Background
    beta: float = 1.0
    neighbours: int = 3

    def __post_init__(self) -> None:
        count = len(self.background.vectors)
        if count < self.neighbours:
            raise CurateError(
                f"--background {self.background.place}: holds {count} vectors, fewer than the "
                f"{self.neighbours} neighbours that are asked for."
            )

    def config(self) -> dict[str, Any]:
        """What decides on the scores, for a manifest."""
        return {
            "beta": self.beta,
            "neighbours": self.neighbours,
            "background": self.background.digest,
            "vectors": len(self.background.vectors),
        }

    def terms(self, queries: Stored, device: str = "cpu") -> Terms:
        """What is subtracted from the scores of each query: (q,), from exact nearest vectors.

        Queries are finite and not zero.
        """
        if not queries.count:
            return np.empty(0)
        found = top_k(queries, [self.background.vectors], self.neighbours, device=device)
        cosines = found.score.astype(np.float64).reshape(queries.count, self.neighbours)
        return np.asarray(self.beta * cosines.mean(axis=1))

    @staticmethod
    def least_cosine(floor: float, terms: list[Terms]) -> float:
        """A cosine that every pair with a normalised score at or above the floor reaches."""
        return (
            floor + min((float(term.min()) for term in terms if len(term)), default=0) - _ROUNDING
        )


def normalised(found: Pairs, terms: Terms, floor: float, *, nearest: bool) -> Pairs:
    """The pairs of a search with normalised scores, those at or above the floor alone.

    Args:
        found: all pairs with at least `Normalisation.least_cosine`, or the best of each query; then
            `count` becomes the number of these that remain.
        terms: (q,) of the queries.
        floor: lowest normalised score.
        nearest: the nearest items in `found` were searched for, so they stay below the floor too.
    """
    score = (found.score - terms[found.query]).astype(np.float32)
    kept = np.flatnonzero(score >= np.float32(floor))
    # cosines that differ in their last bit can have equal scores, of which the first item is best
    kept = kept[np.lexsort((found.item[kept], -score[kept], found.query[kept]))]
    best = (found.nearest_score - terms).astype(np.float32)
    known = (best >= np.float32(floor)) | nearest
    return Pairs(
        found.query[kept],
        found.item[kept],
        score[kept],
        np.bincount(found.query[kept], minlength=len(terms)),
        np.where(known, found.nearest_item, -1),
        np.where(known, best, np.float32(-np.inf)),
        found.unusable,
    )
