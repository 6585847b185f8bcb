"""What an overlap analysis found, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.errors import CurateError
from eval.figures.overlap import LEVEL, adjust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.figures.overlap import Adjustment, Comparison


def sentence(found: Mapping[str, Comparison], method: Adjustment = "holm") -> str:
    """The plain end of a report: what moved, by how much, and whether random removal does as much.

    Args:
        found: each result on its splits, by a name for it within a sentence.
        method: how the tests are adjusted for their number.

    Raises:
        CurateError: there are no results.
    """
    if not found:
        raise CurateError("no result was compared on its splits")
    tested = {name: item for name, item in found.items() if item.p is not None}
    if not tested:
        return (
            f"None of {_results(len(found))} has both clean and overlapping images, so nothing "
            "can be said of what overlap adds."
        )
    adjusted = adjust({name: item.p for name, item in tested.items()}, method)
    sure = [name for name in tested if (adjusted[name] or 0.0) <= LEVEL]
    largest = max(tested, key=lambda name: abs(tested[name].change.value or 0.0))
    counted = (
        f"Of {_results(len(tested))} with overlap, {len(sure)} "
        f"{'is' if len(sure) == 1 else 'are'} significantly better on overlapping images than on "
        f"clean ones (one-tailed binomial test, {method.capitalize()}, 5\N{NO-BREAK SPACE}%)."
    )
    rest = _also(tested, sure) if sure else _blind(tested)
    return f"{counted} {_moved(largest, tested[largest])} {rest}"


def _results(number: int) -> str:
    return f"{number} result{'' if number == 1 else 's'}"


def _moved(name: str, item: Comparison) -> str:
    """The largest change, its interval, and what random removal does."""
    value, random = item.change.value or 0.0, item.random
    words = (
        f"The largest change is that of {name}: with the {item.overlap.total} overlapping of "
        f"{item.full.total} images, accuracy is {points(value)} points "
        f"{'higher' if value >= 0 else 'lower'} than on clean images alone "
        f"(95\N{NO-BREAK SPACE}% CI {span(item.change.low, item.change.high)})"
    )
    if random is None:
        return f"{words}."
    verdict = (
        "moves it as much"
        if random.p > LEVEL
        else "does not move it as much, so the overlap itself does"
    )
    return (
        f"{words}; removing as many random images of the same classes moves it by "
        f"{span(random.low, random.high)} points (95\N{NO-BREAK SPACE}% of draws) and so {verdict} "
        f"(p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{random.p:.2g})."
    )


def _also(tested: Mapping[str, Comparison], sure: Sequence[str]) -> str:
    """Of the settings that are significant, how many random removal would explain."""
    beyond = [
        name for name in sure if (random := tested[name].random) is not None and random.p <= LEVEL
    ]
    return (
        f"Of the {len(sure)} significant, {len(beyond)} "
        f"{'moves' if len(beyond) == 1 else 'move'} further than a random removal of the same size."
    )


def _blind(tested: Mapping[str, Comparison]) -> str:
    """How small a change could have been seen."""
    visible = [item.visible for item in tested.values() if item.visible is not None]
    if not visible:
        return "No result has enough overlapping images for any change to be seen."
    return (
        f"Changes from {points(min(visible))} to {points(max(visible))} points, depending on the "
        "result, are the smallest that this test would have seen in four of five cases."
    )


def points(value: float) -> str:
    """A change of a share in points, without its sign: 0.0123 -> '1.23'."""
    return f"{abs(100 * value):.2f}"


def span(low: float, high: float) -> str:
    """A range of changes in points: '\N{MINUS SIGN}0.10 to +0.25'."""
    return f"{signed(low)} to {signed(high)}"


def signed(value: float) -> str:
    """A change of a share in points, with its sign: -0.001 -> '\N{MINUS SIGN}0.10'."""
    text = points(value)
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else chr(0x2212)}{text}"
