"""How well ranked test images agree with a list of those that have a near-duplicate."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

COUNTS = (250, 500, 1000)
Best = Mapping[str, tuple[str, float] | None]
"""Test image -> its nearest training image and the score, or None where it has no neighbour."""


@dataclass(frozen=True)
class Truth:
    """What is known of the images.

    Attributes:
        near: test images with a near-duplicate by the published list.
        listed: those, and the ones that the list calls very similar.
        test_class: class of each test image.
        train_class: class of each training image.
    """

    near: frozenset[str]
    listed: frozenset[str]
    test_class: Mapping[str, int]
    train_class: Mapping[str, int]


def figures(best: Best, truth: Truth, default: float | None) -> dict[str, Any]:
    """Recall among the best-scored images, at the default threshold, and at the best one.

    The best threshold is the one of highest F1 with `truth.listed`; true copies that the list lacks
    count as false there, for every method alike.
    """
    scores = {name: pair[1] for name, pair in best.items() if pair is not None}
    result: dict[str, Any] = {
        "recall": {f"@{count}": among_best(scores, truth.near, count) for count in COUNTS},
        "recall_listed": {f"@{count}": among_best(scores, truth.listed, count) for count in COUNTS},
    }
    if default is not None:
        result["at_default"] = at_threshold(best, truth, default)
    if scores:
        result["at_best"] = at_threshold(best, truth, best_threshold(scores, truth.listed))
    return result


def among_best(
    scores: Mapping[str, float], listed: Collection[str], count: int
) -> dict[str, float] | None:
    """Share of the listed images among the `count` images of highest score.

    Equal scores that straddle the count leave a choice: low and high are the worst and the best
    one, expected is the mean over all. None where fewer images than `count` have a score.
    """
    if len(scores) < count or not listed:
        return None
    cut = sorted(scores.values(), reverse=True)[count - 1]
    above = {name for name, value in scores.items() if value > cut}
    tied = {name for name, value in scores.items() if value == cut}
    room = count - len(above)
    sure, choice = len(above & set(listed)), len(tied & set(listed))
    found = {
        "low": sure + max(0, choice - (len(tied) - room)),
        "expected": sure + choice * room / len(tied),
        "high": sure + min(choice, room),
    }
    return {word: round(number / len(listed), 3) for word, number in found.items()}


def best_threshold(scores: Mapping[str, float], listed: Collection[str]) -> float:
    """The score from which on flagging has the highest F1 with the list; the highest of equals."""
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    best, value, found = -1.0, ranked[0][1], 0
    for flagged, (name, score) in enumerate(ranked, start=1):
        found += name in listed
        is_last_of_equals = flagged == len(ranked) or ranked[flagged][1] < score
        f1 = 2 * found / (flagged + len(listed))
        if is_last_of_equals and f1 > best:
            best, value = f1, score
    return value


def at_threshold(best: Best, truth: Truth, threshold: float) -> dict[str, Any]:
    """What a threshold (inclusive) flags: how many, recall, and how many share their pair's class.

    Copies share the class, so the share of flagged images of another class is a share of wrong
    ones; look-alikes of the same class are wrong too, so it is not all of it.
    """
    flagged = {name: pair for name, pair in best.items() if pair and pair[1] >= threshold}
    same = sum(
        truth.test_class[name] == truth.train_class[pair[0]] for name, pair in flagged.items()
    )
    return {
        "threshold": round(threshold, 4),
        "flagged": len(flagged),
        "recall": _share(len(flagged.keys() & truth.near), len(truth.near)),
        "recall_listed": _share(len(flagged.keys() & truth.listed), len(truth.listed)),
        "same_class": _share(same, len(flagged)),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None
