"""Sentences of documents with figures in them, held to the results."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.figures.results import Results

FILE: Final = Path(__file__).with_name("claims.yaml")
Number = Callable[[Results], Any]
_FIELD = re.compile(r"\{(?P<name>[^{}:]+)(?::(?P<form>[^{}]*))?\}")
_FIGURE = r"([+-]?\d(?:[\d.,]*\d)?(?: ?%)?)"


@dataclass(frozen=True)
class Claim:
    """A part of a sentence of a document.

    Attributes:
        document: its path in the repository.
        text: the words, with `{NAME:FORMAT}` where a figure stands: the name of a number and how
            Python formats it.
    """

    document: str
    text: str

    @property
    def names(self) -> list[str]:
        """Of the numbers in it."""
        return [match["name"] for match in _FIELD.finditer(self.text)]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds the sentence whatever its figures are and wherever its lines break."""
        parts, at = [], 0
        for match in _FIELD.finditer(self.text):
            parts += [_literal(self.text[at : match.start()]), _FIGURE]
            at = match.end()
        return re.compile("".join([*parts, _literal(self.text[at:])]))

    def figures(self, results: Results, numbers: Mapping[str, Number]) -> list[str]:
        """What should stand in it, in order.

        Raises:
            KeyError: no number has that name.
        """
        return [
            format(numbers[match["name"]](results), match["form"] or "").replace("%", " %")
            for match in _FIELD.finditer(self.text)
        ]


def read_claims(path: Path = FILE) -> list[Claim]:
    """All sentences with figures, from the list of them by document."""
    said: dict[str, list[str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Claim(document, text) for document, texts in said.items() for text in texts]


def _literal(text: str) -> str:
    return r"\s+".join(re.escape(word) for word in re.split(r"\s+", text))


def stale(claim: Claim, text: str, figures: list[str]) -> str | None:
    """What is wrong with a sentence of a document; None: it says what the results say."""
    found = list(claim.pattern.finditer(text))
    if len(found) != 1:
        return f"{claim.document}: {len(found)} sentences like {claim.text!r}, not one"
    if list(found[0].groups()) == figures:
        return None
    said, true = ", ".join(found[0].groups()), ", ".join(figures)
    return f"{claim.document}: says {said} where the results say {true}: {claim.text!r}"


def mended(claim: Claim, text: str, figures: list[str]) -> str:
    """The document with these figures in the sentence."""
    match = claim.pattern.search(text)
    if match is None:
        return text
    for number in range(len(figures), 0, -1):
        start, end = match.span(number)
        text = text[:start] + figures[number - 1] + text[end:]
    return text
