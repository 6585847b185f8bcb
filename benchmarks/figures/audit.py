"""Numbers in documents that are neither rendered from results nor accounted for.

`accounted.yaml` says of the other numbers what they are: `everywhere` has patterns, `documents`
has for each document phrases by kind, `elsewhere` names documents that other tests hold to the
code. Of `published` figures the source is named. What was measured here is accounted for by a
stored result alone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from benchmarks.figures.markdown import without_blocks
from benchmarks.figures.sentences import Claim

FILE: Final = Path(__file__).with_name("accounted.yaml")
KINDS: Final = ("arithmetic", "definition", "parameter")
"""What is no measurement: it follows from others, or somebody set it."""
PUBLISHED: Final = "published"
_NUMBER = re.compile(r"(?<![\w.])(?<![A-Za-z][-/])[+-]?\.?\d[\d.,]*")
_NO_PROSE = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"(?s:<!--.*?-->)",
        r"(?s:```.*?```)",
        r"^(?: {4}|\t).*$",
        r"(?s:\$\$.*?\$\$)",
        r"\$[^$\n]+\$",
        r"`[^`]*`",
        r"\]\([^)]*\)",
        r"^\s*\d+\. ",
    )
)
_ROOM = 40


@dataclass(frozen=True)
class Phrase:
    """Words with numbers that are no claims.

    Attributes:
        text: the words.
    """

    text: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """Finds it wherever its lines break."""
        words = [re.escape(word) for word in self.text.split()]
        return re.compile(r"(?<![\w.])" + r"\s+".join(words) + r"(?!\w)")


@dataclass(frozen=True)
class Accounts:
    """What is said of numbers: patterns for all documents, phrases for each, and where not."""

    everywhere: tuple[re.Pattern[str], ...]
    documents: Mapping[str, Sequence[Phrase]]
    elsewhere: tuple[str, ...]


def read_accounts(path: Path = FILE) -> Accounts:
    """Read what is said of numbers.

    Raises:
        ValueError: a kind that there is not.
    """
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    documents = {
        name: [phrase for kind, of in kinds.items() for phrase in _phrases(kind, of)]
        for name, kinds in said["documents"].items()
    }
    patterns = tuple(re.compile(one, re.MULTILINE) for one in said["everywhere"])
    return Accounts(patterns, documents, tuple(said["elsewhere"]))


def _phrases(kind: str, of: Sequence[str] | Mapping[str, Sequence[str]]) -> Iterator[Phrase]:
    if kind in KINDS and not isinstance(of, Mapping):
        yield from map(Phrase, of)
    elif kind == PUBLISHED and isinstance(of, Mapping):
        yield from (Phrase(text) for texts in of.values() for text in texts)
    else:
        raise ValueError(f"{FILE}: {kind}: must be one of {KINDS} or, with sources, {PUBLISHED}")


def unaccounted(text: str, claims: Iterable[Claim], accounts: Accounts, name: str) -> list[str]:
    """The numbers of a document that nothing accounts for, each among its neighbours."""
    prose = without_blocks(text)
    for claim in claims:
        prose = claim.pattern.sub(" ", prose)
    # what is said of numbers may hold code, which is taken out after it
    for phrase in accounts.documents.get(name, ()):
        prose = phrase.pattern.sub(" ", prose)
    for pattern in _NO_PROSE:
        prose = pattern.sub(" ... ", prose)
    for known in accounts.everywhere:
        prose = known.sub(" ", prose)
    return [_among(prose, match) for match in _NUMBER.finditer(prose)]


def _among(prose: str, match: re.Match[str]) -> str:
    around = prose[max(0, match.start() - _ROOM) : match.end() + _ROOM]
    return f"{match[0].rstrip('.,')} in {' '.join(around.split())!r}"


def unfounded(text: str, accounts: Accounts, name: str) -> list[str]:
    """Phrases that the document does not have."""
    phrases = accounts.documents.get(name, ())
    return [phrase.text for phrase in phrases if not phrase.pattern.search(text)]
