"""Numbers and foreign text put into words a person reads."""

import math
import unicodedata
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from curate.encoders.base import SCALED, decoding_of
from curate.report.calibration import Calibrated
from curate.report.figures import Share
from curate.verification.verifiers import PIXELS

_LONGEST = 240
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


class Bounded(Protocol):
    """A share with its interval; `value` is None where it is not known."""

    @property
    def value(self) -> float | None: ...  # noqa: D102 - see the class
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102


def visible(text: str) -> str:
    """Foreign text that cannot disturb the page it stands on.

    Control characters, direction overrides, other invisible format characters and lone surrogates
    become the replacement character; line breaks and tabs a space. Joiners, which scripts and emoji
    need, stay.
    """
    return "".join(_visible(char) for char in text)


def shorten(text: str, longest: int = _LONGEST) -> str:
    """At most `longest` characters, the middle replaced by an ellipsis."""
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def _visible(char: str) -> str:
    if char in "\n\t":
        return " "
    if char not in _JOINERS and unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return "\N{REPLACEMENT CHARACTER}"
    return char


def count(number: int) -> str:
    """12345 -> '12,345'."""
    return f"{number:,}"


def images(number: int) -> str:
    """'1 image', '12,345 images'."""
    return f"{count(number)} image{'' if number == 1 else 's'}"


def score(value: float, threshold: float) -> str:
    """A score in four decimals, or in as many more as show on which side of the threshold it is."""
    flagged = np.float32(value) >= np.float32(threshold)
    for digits in range(4, 9):
        text = f"{value:.{digits}f}"
        if (float(text) >= threshold) == flagged:
            return text
    return f"{value:.9f}"


def number(value: float) -> str:
    """A stored float32 or a configured threshold without the noise of its binary form."""
    return f"{value:.6g}"


def level(value: float) -> str:
    """A threshold or an edge: like `number`, but with two decimals at least."""
    text = number(value)
    return text if len(text.partition(".")[2]) > 1 or "e" in text else f"{value:.2f}"


def score_name(split: Mapping[str, Any]) -> str:
    """What the scores of a run are: what a threshold is compared with, named within a sentence."""
    if second_look(split) == PIXELS:
        return "score of the aligned pixels"
    return first_score_name(split)


def first_score_name(split: Mapping[str, Any]) -> str:
    """What the scores of the first search are."""
    return "normalised score" if split["detector"].get("normalisation") else "cosine"


def second_look(split: Mapping[str, Any]) -> str | None:
    """Who looked again at the candidates of the first search, or None."""
    verify = split["detector"].get("verify")
    return str(verify["name"]) if verify else None


def is_reduced(split: Mapping[str, Any]) -> bool:
    """Whether JPEGs were decoded at a reduced size, so that few digests of pixels are known."""
    return decoding_of(split["detector"].get("preprocessing", {})) == SCALED


def decimals(part: Bounded) -> int:
    """Decimals of a percentage that its interval supports: one digit of the half width."""
    half = 50 * (part.high - part.low)
    return min(max(math.ceil(-math.log10(half)), 0), 4) if half > 0 else 1


def percent(part: Bounded) -> str:
    """'4.1 %', with as many decimals as the interval supports; an en dash where it is not known."""
    if part.value is None:
        return "\N{EN DASH}"
    return f"{100 * part.value:.{decimals(part)}f}\N{NO-BREAK SPACE}%"


def interval(part: Bounded) -> str:
    """'3.7\N{EN DASH}4.5', in percent, with the decimals of `percent`."""
    digits = decimals(part)
    return f"{100 * part.low:.{digits}f}\N{EN DASH}{100 * part.high:.{digits}f}"


def finding(split: Mapping[str, Any], part: Share) -> str:
    """The result of the run in one sentence."""
    total, unknown = split["counts"]["in"], split["counts"]["unknown"]
    article = "a " if " " in score_name(split) else ""
    where = f"in {split['train']} at {article}{rule(split)}"
    if total == 0:
        return f"{split['test']} holds no test images"
    if part.total == 0:
        return f"None of the {count(total)} test images could be read, so their overlap is unknown"
    readable = f"{'readable ' if unknown else ''}test image{'' if part.total == 1 else 's'}"
    if part.hits == 0:
        subject = f"None of {count(part.total)} {readable} has a"
        return (
            f"{subject if part.total > 1 else f'The one {readable} has no'} near-duplicate {where} "
            f"(95\N{NO-BREAK SPACE}% CI {interval(part)}\N{NO-BREAK SPACE}%)"
        )
    verb = "has" if part.hits == 1 else "have"
    return (
        f"{count(part.hits)} of {count(part.total)} {readable} "
        f"({percent(part)}, 95\N{NO-BREAK SPACE}% CI {interval(part)}) "
        f"{verb} a near-duplicate {where}"
    )


def rule(split: Mapping[str, Any]) -> str:
    """What makes an overlap: 'cosine ≥ 0.82', and who else has a say."""
    text = f"{score_name(split)} {comparator(split)} {level(split['threshold'])}"
    if second_look(split) not in (None, PIXELS):
        text += f", confirmed by {second_look(split)}"
    return text + (", or as people judged" if "labels" in split else "")


def comparator(split: Mapping[str, Any]) -> str:
    """The comparator as a sign of mathematics."""
    return {">=": "≥", ">": ">"}.get(str(split["comparator"]), str(split["comparator"]))


def strength(number: int) -> str:
    """1, 2, 3 -> 'mild', 'medium', 'strong'."""
    return ("mild", "medium", "strong")[number - 1]


def leaked(data: Calibrated, split: Mapping[str, Any]) -> str | None:
    """How many test images are estimated to have a copy, in one sentence; None: nothing is known.

    It counts the images with a pair at or above the floor; of others nothing is known.
    """
    found = data.leaked
    if found is None:
        return None
    low, high = round(found.low), round(found.high)
    sure = f"{confidence(data)}\N{NO-BREAK SPACE}% CI {count(low)}\N{EN DASH}{count(high)}"
    about = (
        f"Between {count(low)} and {count(high)}"
        if found.value is None
        else f"About {count(round(found.value))} ({sure})"
    )
    return (
        f"{about} of the {count(split['counts']['in'])} test images are estimated to have a "
        f"near-duplicate in {split['train']} that scores {level(data.floor)} or more, judging by "
        f"{count(data.judged)} of {count(data.units)} best pairs, labelled by hand"
    )


def quality(data: Calibrated, split: Mapping[str, Any]) -> str | None:
    """How right and how complete the threshold in use is, in one sentence; None: it is not known.

    Recall that was not measured at this threshold is that at the next higher one measured.
    """
    said = []
    precise = data.precision_at(split["threshold"])
    if precise is not None and precise.share.value is not None:
        said.append(
            f"{_with_interval(precise.share, data)} of what it flags are copies, by hand labels"
        )
    complete = data.recall_at(split["threshold"])
    if complete is not None:
        found = f"{_with_interval(complete.share, data)} of planted copies are found"
        exact = complete.threshold == split["threshold"]
        said.append(found if exact else f"{found} at {level(complete.threshold)}")
    return f"At the threshold in use, {', and '.join(said)}" if said else None


def confidence(data: Calibrated) -> str:
    """0.95 -> '95'."""
    return number(100 * data.confidence)


def _with_interval(part: Bounded, data: Calibrated) -> str:
    sure = f"{confidence(data)}\N{NO-BREAK SPACE}% CI"
    return f"{percent(part)} ({sure} {interval(part)})"
