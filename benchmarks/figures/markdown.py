"""Tables in markdown, and the places in documents where they stand."""

import re
import textwrap
from collections.abc import Iterable, Sequence

_BLOCK = re.compile(
    r"<!-- figures: (?P<name>[\w-]+) -->\n(?P<body>.*?)<!-- /figures -->", re.DOTALL
)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    lines = [header, ["---"] * len(header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"{len(row)} cells under {len(header)} columns: {row}")
        lines.append(row)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def bold(text: str) -> str:
    """A cell that stands out."""
    return f"**{text}**"


def wrapped(text: str) -> str:
    """A paragraph in lines that are good to read as they are."""
    return textwrap.fill(text, 160, break_long_words=False, break_on_hyphens=False)


def blocks(text: str) -> dict[str, str]:
    """What stands between the marks of a document, by the name of the block.

    Raises:
        ValueError: a name comes twice, or a mark is without its other half.
    """
    found = [(match["name"], match["body"].strip("\n")) for match in _BLOCK.finditer(text)]
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise ValueError(f"a block comes twice: {sorted(names)}")
    marks = text.count("<!-- figures:"), text.count("<!-- /figures -->")
    if marks != (len(names), len(names)):
        raise ValueError(f"{marks[0]} marks begin and {marks[1]} end {len(names)} blocks")
    return dict(found)


def with_block(text: str, name: str, body: str) -> str:
    """The document with another content of one block."""

    def renewed(match: re.Match[str]) -> str:
        if match["name"] != name:
            return match[0]
        return f"<!-- figures: {name} -->\n\n{body}\n\n<!-- /figures -->"

    return _BLOCK.sub(renewed, text)


def without_blocks(text: str) -> str:
    """The document without its blocks."""
    return _BLOCK.sub("", text)
