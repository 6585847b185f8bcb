"""Made-up rows of an evaluation, with what a test does not care about filled in."""

from collections.abc import Sequence

import polars as pl

from eval.records import samples


def rows(correct: Sequence[bool], **columns: Sequence[object]) -> pl.DataFrame:
    """Rows of images a:0, a:1, ... of class 0 unless `label` says otherwise.

    Wrong ones are predicted as the next class of a hundred; margins are 1 and -1.
    """
    labels = [int(str(label)) for label in columns.get("label", [0] * len(correct))]
    pairs = list(zip(correct, labels, strict=True))
    found: dict[str, Sequence[object]] = {
        "id": [f"a:{i}" for i in range(len(correct))],
        "label": labels,
        "pred": [label if right else (label + 1) % 100 for right, label in pairs],
        "margin": [1.0 if right else -1.0 for right in correct],
        "correct": list(correct),
    }
    return samples({**found, **columns})


def flags(right: int, wrong: int) -> list[bool]:
    """So many right ones, then so many wrong ones."""
    return [True] * right + [False] * wrong


def split_rows(
    clean: tuple[int, int], overlap: tuple[int, int], unknown: int = 0, **columns: list[object]
) -> pl.DataFrame:
    """(right, wrong) clean images, then overlapping ones, then unknown ones, which are wrong."""
    correct = [*flags(*clean), *flags(*overlap), *flags(0, unknown)]
    split = ["clean"] * sum(clean) + ["overlap"] * sum(overlap) + ["unknown"] * unknown
    return rows(correct, split=split, **columns)
