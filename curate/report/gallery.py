"""Which pairs a report shows, and how they were drawn."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from curate.report.inputs import ReportInputs

Sample = Literal["all", "best", "spread", "lowest"]


@dataclass(frozen=True)
class Item:
    """One image of a pair, as the tables know it."""

    id: str
    label: str | None = None
    caption: str | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Pair:
    """A test image and its best train image.

    Attributes:
        sample: the part of the sample that drew this pair.
        others: further train images at or above the threshold.
        same_bytes: the two files are equal to the byte.
    """

    test: Item
    train: Item
    score: float
    view: str
    sample: Sample
    others: int
    same_bytes: bool


@dataclass(frozen=True)
class Gallery:
    """Pairs to show, highest score first, out of `total` that could be shown."""

    pairs: tuple[Pair, ...]
    total: int


def removed(inputs: ReportInputs, most: int) -> Gallery:
    """Overlap images with their best match: all, or the best, a spread and the lowest."""
    rows = _best_matches(inputs).filter(pl.col("decision") == "overlap")
    chosen = stratify(rows.height, most)
    samples: list[Sample] = [sample for _, sample in chosen]
    return Gallery(_pairs(inputs, rows[[i for i, _ in chosen]], samples), rows.height)


def just_below(inputs: ReportInputs, most: int) -> Gallery:
    """Clean images whose best match missed the threshold, nearest miss first."""
    tau = np.float32(inputs.split["threshold"])
    rows = _best_matches(inputs).filter(
        (pl.col("decision") == "clean") & (pl.col("score") < pl.lit(tau, pl.Float32))
    )
    shown = rows.head(most)
    return Gallery(_pairs(inputs, shown, ["all"] * shown.height), rows.height)


def stratify(count: int, most: int) -> list[tuple[int, Sample]]:
    """Positions in a list sorted best first: a third best, a third spread, a third lowest.

    The spread is even over the ranks between the best and the lowest third. All positions are
    taken, and marked "all", when `count` does not exceed `most`.
    """
    if count <= most:
        return [(i, "all") for i in range(count)]
    best = -(-most // 3)
    lowest = (most - best) // 2
    spread = most - best - lowest
    between = count - best - lowest
    middle: list[tuple[int, Sample]] = [
        (best + (2 * i + 1) * between // (2 * spread), "spread") for i in range(spread)
    ]
    first: list[tuple[int, Sample]] = [(i, "best") for i in range(best)]
    last: list[tuple[int, Sample]] = [(i, "lowest") for i in range(count - lowest, count)]
    return first + middle + last


def _best_matches(inputs: ReportInputs) -> pl.DataFrame:
    """Test items with a stored match, best score first, ties in the order of the decisions."""
    nearest = inputs.nearest.select("test_id", "train_id", "score", "view")
    rows = inputs.decisions.with_row_index("order").join(
        nearest, left_on="id", right_on="test_id", how="left", suffix="_nearest"
    )
    matched = [pl.coalesce(name, f"{name}_nearest") for name in ("train_id", "score", "view")]
    return (
        rows.with_columns(matched)
        .filter(pl.col("train_id").is_not_null() & pl.col("score").is_not_null())
        .sort(["score", "order"], descending=[True, False])
        .select("id", "label", "decision", "train_id", "score", "view")
    )


def _pairs(inputs: ReportInputs, rows: pl.DataFrame, samples: list[Sample]) -> tuple[Pair, ...]:
    tests, trains = rows["id"].to_list(), rows["train_id"].to_list()
    test_items = items(inputs.test_metadata, tests)
    train_items = items(inputs.train_metadata, trains)
    labels = dict(zip(tests, rows["label"].cast(pl.String).to_list(), strict=True))
    others = _others(inputs, tests)
    equal = _equal_bytes(inputs.pairs, tests)
    return tuple(
        Pair(
            test=_with_label(test_items[test], labels[test]),
            train=train_items[train],
            score=float(score),
            view=str(view or "identity"),
            sample=sample,
            others=others.get((test, train), 0),
            same_bytes=(test, train) in equal,
        )
        for test, train, score, view, sample in zip(
            tests, trains, rows["score"].to_list(), rows["view"].to_list(), samples, strict=True
        )
    )


def _with_label(item: Item, label: str | None) -> Item:
    """The label of the decisions stands; metadata fills in where they have none."""
    return Item(item.id, label or item.label, item.caption, item.width, item.height)


def items(metadata: pl.DataFrame | None, ids: list[str]) -> dict[str, Item]:
    """What is known of some images, by id; all but the id may be missing."""
    found = {item_id: Item(item_id) for item_id in ids}
    if metadata is None:
        return found
    frame = metadata.filter(pl.col("id").is_in(list(found)))
    for row in frame.unique("id", keep="first", maintain_order=True).iter_rows(named=True):
        label = row.get("label")
        found[row["id"]] = Item(
            id=row["id"],
            label=None if label is None else str(label),
            caption=row.get("caption"),
            width=row.get("width"),
            height=row.get("height"),
        )
    return found


def _others(inputs: ReportInputs, tests: list[str]) -> dict[tuple[str, str], int]:
    """Per (test, best train): how many further train images reach the threshold."""
    tau = np.float32(inputs.split["threshold"])
    hits = inputs.pairs.filter(
        pl.col("test_id").is_in(tests) & (pl.col("score") >= pl.lit(tau, pl.Float32))
    )
    trains = hits.group_by("test_id").agg(pl.col("train_id").unique())
    return {(test, train): len(found) - 1 for test, found in trains.iter_rows() for train in found}


def _equal_bytes(pairs: pl.DataFrame, tests: list[str]) -> set[tuple[str, str]]:
    equal = pairs.filter(
        pl.col("test_id").is_in(tests) & (pl.col("test_sha256") == pl.col("train_sha256"))
    )
    return set(equal.select("test_id", "train_id").iter_rows())
