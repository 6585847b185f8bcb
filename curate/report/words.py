"""Numbers and foreign text put into words a person reads."""

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from curate.report.figures import Share

_LONGEST = 240
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


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


def cosine(value: float) -> str:
    """A threshold or an edge: like `number`, but with two decimals at least."""
    text = number(value)
    return text if len(text.partition(".")[2]) > 1 or "e" in text else f"{value:.2f}"


def decimals(part: Share) -> int:
    """Decimals of a percentage that its interval supports: one digit of the half width."""
    half = 50 * (part.high - part.low)
    return min(max(math.ceil(-math.log10(half)), 0), 4) if half > 0 else 1


def percent(part: Share) -> str:
    """'4.1 %', with as many decimals as the interval supports."""
    return f"{100 * part.value:.{decimals(part)}f}\N{NO-BREAK SPACE}%"


def interval(part: Share) -> str:
    """'3.7\N{EN DASH}4.5', in percent, with the decimals of `percent`."""
    digits = decimals(part)
    return f"{100 * part.low:.{digits}f}\N{EN DASH}{100 * part.high:.{digits}f}"


def finding(split: Mapping[str, Any], part: Share) -> str:
    """The result of the run in one sentence."""
    total, unknown = split["counts"]["in"], split["counts"]["unknown"]
    where = f"in {split['train']} at cosine {comparator(split)} {cosine(split['threshold'])}"
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


def comparator(split: Mapping[str, Any]) -> str:
    """The comparator as a sign of mathematics."""
    return {">=": "≥", ">": ">"}.get(str(split["comparator"]), str(split["comparator"]))
