"""How many of a finite number of items are copies, judged by a few drawn from groups of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
_HALVINGS = 60


@dataclass(frozen=True)
class Judged:
    """A group of items and what was said of those drawn from it at random.

    Attributes:
        items: how many there are.
        copies: drawn and judged copies.
        different: drawn and judged none.
        unsure: drawn, and nobody could tell.
        share: of copies among like items, taken for the estimate where nothing is said of these;
            no interval rests on it.
    """

    items: int
    copies: int = 0
    different: int = 0
    unsure: int = 0
    share: float | None = None

    @property
    def drawn(self) -> int:
        """How many were drawn."""
        return self.copies + self.different + self.unsure

    @property
    def estimate(self) -> float | None:
        """Expected copies among all; unsure ones are left out, None where nothing is said."""
        said = self.copies + self.different
        share = self.copies / said if said else self.share
        return None if share is None else self.items * share


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; `value` is None where a group that counts has no judgment."""

    value: float | None
    low: float
    high: float

    def of(self, whole: int) -> "Estimate":
        """The same as a share of a number that is known."""
        value = None if self.value is None else self.value / whole
        return Estimate(value, self.low / whole, self.high / whole)


def total(groups: Sequence[Judged], confidence: float = CONFIDENCE) -> Estimate:
    """Copies in all groups together, each of which was drawn from on its own, without replacement.

    The interval holds every total T that a score test does not reject: with shares p_h that are
    the likeliest among those with sum(N_h p_h) = T, the estimate is off T by at most z standard
    errors of just these shares, sqrt(sum(N_h^2 p_h (1 - p_h) / m_h)). There m_h = (n_h - 1 + 1/H)
    (N_h - 1) / (N_h - n_h) are the draws n_h counted as from an endless group, less the part of a
    degree of freedom that each of H shares takes. For one group that is Wilson's interval, so
    labels that are all alike leave room for others. No share is assumed to be above another.

    Source: the score interval with restricted likelihoods of O. Miettinen, M. Nurminen, Statistics
    in Medicine 4 (1985) 213-226, for a weighted sum; finite groups as in W. G. Cochran, "Sampling
    techniques", 1977, 3.2.

    Unsure items count as none at the low end and as copies at the high end. A group from which
    nothing was drawn adds its whole size to the high end, as that is no random error. What was
    seen is certain: the low end is at least the copies seen, and likewise the high end.
    """
    known = [group for group in groups if group.drawn]
    blind = sum(group.items for group in groups if not group.drawn)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low = _limit(_shares(known, [group.copies for group in known]), -z)
    high = _limit(_shares(known, [group.copies + group.unsure for group in known]), z)
    values = [group.estimate for group in groups if group.items]
    value = None if None in values else math.fsum(value for value in values if value is not None)
    seen = sum(group.copies for group in groups)
    possible = sum(group.items - group.different for group in groups)
    return Estimate(value, max(low, seen), min(high + blind, possible))


@dataclass(frozen=True)
class _Share:
    """A group as the likelihood sees it: so many items, draws as of an endless group, copies."""

    items: int
    draws: float
    copies: float

    def moved(self, pull: float) -> float:
        """The likeliest share p when a pull acts on items * p: the root of a p^2 - (a - n) p = k.

        The logarithm of the likelihood, k log p + (n - k) log(1 - p) + a p with n = 1, is largest.
        """
        if math.isinf(self.draws):
            return self.copies
        a = pull * self.items / self.draws
        root = math.sqrt(max(0.0, (a - 1) ** 2 + 4 * a * self.copies))
        if a > 1:
            return min(1.0, (a - 1 + root) / (2 * a))
        return min(1.0, 2 * self.copies / (1 - a + root)) if root > a - 1 else 0.0


def _shares(groups: Sequence[Judged], copies: Sequence[int]) -> list[_Share]:
    open_groups = sum(group.drawn < group.items for group in groups)
    shares = []
    for group, count in zip(groups, copies, strict=True):
        rest = group.items - group.drawn
        free = group.drawn - 1 + 1 / max(1, open_groups)
        draws = free * (group.items - 1) / rest if rest else math.inf
        shares.append(_Share(group.items, draws, count / group.drawn))
    return shares


def _limit(shares: Sequence[_Share], z: float) -> float:
    """The total at which the score is z, by halving the logarithm of the pull towards it."""
    at = math.fsum(share.items * share.copies for share in shares)
    if all(math.isinf(share.draws) for share in shares):
        return at
    sign = math.copysign(1, z)
    low, high = -40.0, 40.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        moved = [(share, share.moved(sign * math.exp(middle))) for share in shares]
        reached = math.fsum(share.items * p for share, p in moved)
        error = math.fsum(share.items**2 * p * (1 - p) / share.draws for share, p in moved)
        if reached != at and (reached - at) ** 2 >= z * z * error:
            high = middle
        else:
            low = middle
    return math.fsum(share.items * share.moved(sign * math.exp(high)) for share in shares)
