"""How many labels it takes to know a precision to within so many points: by plan, and plainly."""

from collections.abc import Callable, Sequence

from curate.calibration.counts import Judged, total
from curate.calibration.plan import Zone, allocate


def half_width(
    of: Sequence[Zone], shares: Sequence[float], counts: Sequence[int], threshold: float
) -> float:
    """Expected half width of the interval of the precision at a threshold.

    Args:
        of: all zones.
        shares: the true share of copies of each.
        counts: units judged of each.
        threshold: the lower edge of a zone.
    """
    groups = [
        Judged(zone.units, copies := round(count * share), count - copies)
        for zone, share, count in zip(of, shares, counts, strict=True)
        if zone.low >= threshold
    ]
    return _half(groups)


def _half(groups: Sequence[Judged]) -> float:
    estimate = total(groups)
    return (estimate.high - estimate.low) / 2 / sum(group.items for group in groups)


def planned_labels(
    of: Sequence[Zone], shares: Sequence[float], threshold: float, width: float
) -> int:
    """Labels in the whole plan until a threshold's precision is expected to be known to +- `width`.

    Args:
        of: all zones, with what is expected of them before.
        shares: the true share of copies of each.
        threshold: the lower edge of a zone.
        width: such as 0.02.
    """
    most = sum(zone.units for zone in of)
    return _least(most, lambda n: half_width(of, shares, allocate(of, n), threshold) <= width)


def plain_labels(
    of: Sequence[Zone], shares: Sequence[float], threshold: float, width: float
) -> tuple[int, int]:
    """The same for plain random samples: of the flagged units alone, and of all units.

    Of a sample of all units, as many are flagged as their share says; the other labels say nothing
    of the precision. A sample of the flagged ones says nothing of any lower threshold.
    """
    flagged = [(zone.units, share) for zone, share in zip(of, shares, strict=True)
               if zone.low >= threshold]  # fmt: skip
    units = sum(count for count, _ in flagged)
    share = sum(count * share for count, share in flagged) / units

    def enough(labels: int) -> bool:
        copies = round(labels * share)
        return _half([Judged(units, copies, labels - copies)]) <= width

    needed = _least(units, enough)
    return needed, round(needed * sum(zone.units for zone in of) / units)


def _least(most: int, is_enough: Callable[[int], bool]) -> int:
    """The smallest number that is enough, by halving."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low
