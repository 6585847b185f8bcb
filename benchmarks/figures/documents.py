"""All documents against all results."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.figures.markdown import blocks, with_block
from benchmarks.figures.numbers import NUMBERS
from benchmarks.figures.results import ROOT, Results
from benchmarks.figures.sentences import mended, read_claims, stale
from benchmarks.figures.tables import TABLES
from benchmarks.figures.tables.photographs import picture
from benchmarks.figures.tables.study_drawing import changes

DRAWINGS: Final = {"docs/photos.svg": picture, "docs/studies/cifar10.svg": changes}
"""Pictures that are drawn from results."""


def documents(root: Path = ROOT) -> dict[str, str]:
    """The text of README, CHANGELOG and all pages of `docs`, by their paths."""
    pages = [root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").rglob("*.md"))]
    return {page.relative_to(root).as_posix(): page.read_text("utf-8") for page in pages}


def faults(texts: dict[str, str], results: Results) -> list[str]:
    """Where tables, sentences and pictures are not what the results make of them."""
    return [*_tables(texts, results), *_sentences(texts, results), *_drawings(results)]


def _tables(texts: dict[str, str], results: Results) -> Iterator[str]:
    places: dict[str, list[str]] = {name: [] for name in TABLES}
    for document, text in texts.items():
        for name, body in blocks(text).items():
            if name not in TABLES:
                yield f"{document}: nothing renders the block {name!r}"
                continue
            places[name].append(document)
            if body.split() != TABLES[name](results).split():  # lines may break elsewhere
                yield f"{document}: {name} is not what the results say"
    for name, found in places.items():
        if len(found) != 1:
            yield f"{name} stands in {found or 'no document'}, not in one"


def _sentences(texts: dict[str, str], results: Results) -> Iterator[str]:
    for claim in read_claims():
        fault = stale(claim, texts[claim.document], claim.figures(results, NUMBERS))
        if fault:
            yield fault


def _drawings(results: Results) -> Iterator[str]:
    for name, draw in DRAWINGS.items():
        if (ROOT / name).read_text("utf-8") != draw(results):
            yield f"{name} is not drawn from the results"


def renewed(texts: dict[str, str], results: Results) -> dict[str, str]:
    """The documents with the tables and figures that the results make."""
    found = {}
    for document, text in texts.items():
        for name in blocks(text).keys() & TABLES.keys():
            text = with_block(text, name, TABLES[name](results))  # noqa: PLW2901  # grows by blocks
        found[document] = text
    for claim in read_claims():
        figures = claim.figures(results, NUMBERS)
        found[claim.document] = mended(claim, found[claim.document], figures)
    return found
