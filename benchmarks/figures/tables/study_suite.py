"""The suite of the study, on a part of the test images: each model's figures, and what moves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.figures.markdown import table, wrapped
from benchmarks.figures.tables.study import (
    LEVEL,
    MODELS,
    NAME,
    is_sure,
    measured_whole,
    number,
    p_value,
    percent,
    points,
    removal,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures.results import Results

_MODELS = ("builtin:tiny-clip", "tecoa")
_LARGEST = 10
_CORRUPTION = re.compile(r"\w+\.[a-z_]+\.(\d)")
_SEQUENCE = re.compile(r"\w+\.sequence-\w+")


def study_suite(results: Results) -> str:
    """What each model reaches, on all images and on clean ones: means over what is of one kind."""
    by_model = [
        {row["setting"]: row for row in results[NAME]["accuracy"] if row["model"] == model}
        for model in _MODELS
    ]
    rows = [
        [
            kind,
            f"{len(settings)}",
            *(cell for found in by_model for cell in _means(found, settings)),
        ]
        for kind, settings in _kinds(list(by_model[0]))
    ]
    head = ["setting", "number"]
    for model in _MODELS:
        head += [f"{MODELS[model]}: all", "clean", "all - clean"]
    return table(head, rows)


def _kinds(settings: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Corruptions of a severity and all sequences are one kind each; else each is its own."""
    corrupted = {name: found[1] for name in settings if (found := _CORRUPTION.fullmatch(name))}
    sequences = [name for name in settings if _SEQUENCE.fullmatch(name)]
    alone = [name for name in settings if name not in corrupted and name not in sequences]
    yield from ((f"`{name}`", [name]) for name in alone if "@" not in name)
    for severity in sorted(set(corrupted.values())):
        of_it = [name for name, level in corrupted.items() if level == severity]
        yield f"corruptions, severity {severity}", of_it
    if sequences:
        yield "sequences", sequences
    yield from ((f"`{name}`", [name]) for name in alone if "@" in name)


def _means(rows: dict[str, dict[str, Any]], settings: list[str]) -> Iterator[str]:
    chosen = [rows[name] for name in settings]
    values = {
        split: sum(row[split]["value"] for row in chosen) / len(chosen)
        for split in ("full", "clean")
    }
    yield percent(values["full"])
    yield percent(values["clean"])
    yield signed(values["full"] - values["clean"])


def study_suite_largest(results: Results) -> str:
    """The largest moves."""
    largest = sorted(_part(results), key=lambda row: -abs(row["change"]["value"]))[:_LARGEST]
    rows = [
        [MODELS[row["model"]], f"`{row['setting']}`",
         *(percent(row[split]["value"]) for split in ("full", "clean", "overlap")),
         points(row["change"]), removal(row), p_value(row["p_adjusted"])]
        for row in largest
    ]  # fmt: skip
    head = ("model", "setting", "all", "clean", "overlap", "all - clean", "random removal", "p")
    return table(head, rows)


def study_suite_words(results: Results) -> str:
    """What moves, in words."""
    part = _part(results)
    changes = [row["change"]["value"] for row in part]
    sure = [row for row in part if is_sure(row)]
    beyond = [row for row in sure if row["random_removal"]["p"] <= LEVEL]
    images, overlapping = part[0]["full"]["total"], part[0]["overlap"]["total"]
    visible = [row["visible"] for row in part if row["visible"] is not None]
    return wrapped(
        f"{len(part)} results on {images:,} images, {overlapping} of which overlap. Accuracy on "
        f"all images differs from that on clean ones by {signed(min(changes))} to "
        f"{signed(max(changes))} points. {len(sure)} of the differences "
        f"{'is' if len(sure) == 1 else 'are'} significant after Holm's adjustment for all results "
        f"of the study, and {'all' if len(beyond) == len(sure) else len(beyond)} of these are "
        "further than random removal goes. With so few overlapping images a difference has to be "
        f"{number(min(visible))} to {number(max(visible))} points to be seen in four of five "
        "cases, before adjustment."
    )


def _part(results: Results) -> list[dict[str, Any]]:
    """Results of named models on some test images."""
    whole = [(row["model"], row["setting"]) for row in measured_whole(results)]
    rows = [row for row in results[NAME]["accuracy"] if row["model"] in MODELS]
    return [row for row in rows if (row["model"], row["setting"]) not in whole]


TABLES = (study_suite, study_suite_largest, study_suite_words)
