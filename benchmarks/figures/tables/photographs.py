"""Edited photographs: what detectors find again."""

from typing import Any

from benchmarks.figures.markdown import table
from benchmarks.figures.results import Results

_ROWS = (
    ("jpeg", 3), ("resize_down", 3), ("blur", 2), ("blur", 3), ("noise", 3), ("brightness", 2),
    ("brightness", 3), ("contrast", 3), ("greyscale", 3), ("crop", 1), ("crop", 2), ("crop", 3),
    ("crop_corner", 2), ("crop_corner", 3), ("mirror", 1), ("rotate", 1), ("rotate", 2),
    ("rotate", 3), ("quarter_turn", 1), ("bar", 2), ("letterbox", 2), ("text", 3), ("logo", 3),
    ("photo_of_screen", 3), ("screenshot", 1), ("backdrop", 2), ("collage", 1),
    ("upside_down", 1), ("invert", 3), ("mixed", 3),
)  # fmt: skip
"""Edit and strength, 1 to 3, of the rows that the table shows; the picture shows all."""
_CELL, _ROW, _LEFT, _TOP = 34, 19, 150, 44
_BLOCK = 3 * _CELL + 14


def photos(results: Results) -> str:
    """Recall of some edits by each detector."""
    found = results["photos"]
    detectors = found["detectors"]
    rows = []
    for edit, strength in _ROWS:
        recall = [one["edits"][edit]["recall"][strength - 1] for one in detectors.values()]
        text = f"{edit.replace('_', ' ')}, {found['texts'][edit][strength - 1]}"
        rows.append([text, *(f"{value:.2f}" for value in recall)])
    return f"{table(('edit', *detectors), rows)}\n\n{results.source('photos')}"


def picture(results: Results) -> str:
    """An SVG: a row per edit, a block per detector, a cell per strength, its recall in per cent."""
    found = results["photos"]
    width = _LEFT + _BLOCK * len(found["detectors"])
    height = _TOP + _ROW * len(found["texts"]) + 6
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            'font-family="sans-serif" font-size="11"><title>Recall of edited photographs</title>'
        ),
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, name in enumerate(found["detectors"]):
        parts += _column(name, found, _LEFT + number * _BLOCK, is_first=number == 0)
    return "\n".join([*parts, "</svg>\n"])


def _column(name: str, found: dict[str, Any], x: int, *, is_first: bool) -> list[str]:
    """The block of a detector; the first one has the names of the edits on its left."""
    first, _, rest = name.partition(", ")
    parts = [f'<text x="{x}" y="15" font-weight="bold">{first}</text>',
             f'<text x="{x}" y="29" fill="#555">{rest}</text>']  # fmt: skip
    for row, edit in enumerate(found["texts"]):
        y = _TOP + row * _ROW
        if is_first:
            parts.append(f'<text x="4" y="{y + 13}">{edit.replace("_", " ")}</text>')
        for strength, value in enumerate(found["detectors"][name]["edits"][edit]["recall"]):
            parts.append(_cell(x + strength * _CELL, y, value))
    return parts


def _cell(x: int, y: int, value: float) -> str:
    shade = f"hsl(205 60% {96 - round(value * 56)}%)"
    ink = "#fff" if value > 0.6 else "#222"
    return (
        f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_ROW - 2}" '
        f'fill="{shade}"/><text x="{x + _CELL // 2 - 1}" y="{y + 13}" '
        f'fill="{ink}" text-anchor="middle">{round(value * 100)}</text>'
    )


TABLES = (photos,)
