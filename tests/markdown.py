"""Markdown as the tests of the documentation read it: fenced blocks, indented commands, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|\n(?= {4}))+")
_WORDS = re.compile(r"^(curate|python|pip|make|torchrun|dask)\s")


@dataclass(frozen=True)
class Block:
    """A block of code: the language of its fence, nothing for an indented one, and its text."""

    language: str
    text: str


def documents() -> list[Path]:
    """README, CONTRIBUTING and every page below docs/."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages]


def blocks(text: str) -> Iterator[Block]:
    """All blocks of code, fenced ones first."""
    for language, inner in _FENCE.findall(text):
        yield Block(language, inner)
    for found in _INDENTED.findall(_FENCE.sub("", text)):
        yield Block("", re.sub(r"^ {4}", "", found, flags=re.MULTILINE))


def prose(text: str) -> str:
    """The text without its blocks of code."""
    return _INDENTED.sub("\n", _FENCE.sub("", text))


def commands(block: Block) -> list[str]:
    """The shell commands of a block: whole ones, without prompts and what was printed."""
    if block.language not in {"", "console", "bash", "sh"}:
        return []
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.strip() for line in lines if _WORDS.match(line.strip())]
