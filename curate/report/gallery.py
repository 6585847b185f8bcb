"""Which pairs a report shows, and how they were drawn."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from curate import groups
from curate.report.figures import sameness
from curate.report.inputs import ReportInputs
from curate.words import JUDGED_COPY, JUDGED_DIFFERENT, NOT_STORED

Sample = Literal["all", "best", "spread"]

# Reasons that say that people's word decided, and not the score.
_SAID = (JUDGED_COPY, JUDGED_DIFFERENT, NOT_STORED)


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
    """A test image and a train image: its best, or one that a second look rejected.

    Attributes:
        score: what the threshold is compared with.
        cosine: score of the first search, where a second look gave another; else None.
        sample: the part of the sample that drew this pair.
        decision: on the test image.
        others: further train images that match at or above the threshold.
        same: "bytes" or "pixels" where these are equal in both images.
        said: what people said of the pair where it decided, else None.
        rejected: why a second look says that it is no copy, or None.
    """

    test: Item
    train: Item
    score: float
    view: str
    sample: Sample = "all"
    cosine: float | None = None
    decision: str = "overlap"
    others: int = 0
    same: str | None = None
    said: str | None = None
    rejected: str | None = None


@dataclass(frozen=True)
class Gallery:
    """Pairs to show, highest score first, out of `total` that could be shown."""

    pairs: tuple[Pair, ...]
    total: int


def removed(inputs: ReportInputs, most: int) -> Gallery:
    """Overlap images with their best match: all, or the best and a spread over the others."""
    rows = _best_matches(inputs).filter(pl.col("decision") == "overlap")
    chosen = stratify(rows.height, most)
    samples: list[Sample] = [sample for _, sample in chosen]
    return Gallery(_pairs(inputs, rows[[i for i, _ in chosen]], samples), rows.height)


def just_above(inputs: ReportInputs, most: int) -> Gallery:
    """Images whose best match only just reached the threshold, nearest first.

    Those that stay because people judged their matches different are among them.
    """
    stays = (pl.col("decision") == "clean") & (pl.col("reason") == JUDGED_DIFFERENT)
    decided = (pl.col("decision") == "overlap") | stays
    return _band(inputs, decided & groups.reaches(inputs.split["threshold"]), most, rising=True)


def just_below(inputs: ReportInputs, most: int) -> Gallery:
    """Images whose best match missed the threshold, nearest miss first.

    Those that go because people judged it a copy are among them.
    """
    goes = (pl.col("decision") == "overlap") & (pl.col("reason") == JUDGED_COPY)
    decided = (pl.col("decision") == "clean") | goes
    return _band(inputs, decided & ~groups.reaches(inputs.split["threshold"]), most)


def rejected(inputs: ReportInputs, most: int) -> Gallery | None:
    """Of each image the pair most alike by the first search that a second look rejected.

    The most alike come first. None: nobody took a second look.
    """
    looked = pl.col("rejected").is_not_null() | pl.col("cosine").is_not_null()
    if not inputs.pairs.filter(looked).height:
        return None
    known = inputs.decisions.select("id", "label", "decision", "reason", evidence="train_id")
    order = known.with_row_index("order")
    rows = (
        inputs.pairs.filter(pl.col("rejected").is_not_null())
        .sort("cosine", descending=True, maintain_order=True)
        .unique("test_id", keep="first", maintain_order=True)
        .join(order, left_on="test_id", right_on="id", maintain_order="left")
        .rename({"test_id": "id"})
        .sort("cosine", "order", descending=[True, False])
    )
    shown = rows.head(most)
    return Gallery(_pairs(inputs, shown, ["all"] * shown.height), rows.height)


def _band(inputs: ReportInputs, chosen: pl.Expr, most: int, *, rising: bool = False) -> Gallery:
    """The best matches that are chosen, from the highest score down or from the lowest up."""
    rows = _best_matches(inputs).filter(chosen)
    shown = (rows.sort("score", maintain_order=True) if rising else rows).head(most)
    return Gallery(_pairs(inputs, shown, ["all"] * shown.height), rows.height)


def stratify(count: int, most: int) -> list[tuple[int, Sample]]:
    """Positions in a list sorted best first: a third best, the others even over the later ranks.

    All positions are taken, and marked "all", when `count` does not exceed `most`.
    """
    if count <= most:
        return [(i, "all") for i in range(count)]
    best = -(-most // 3)
    spread, later = most - best, count - best
    first: list[tuple[int, Sample]] = [(i, "best") for i in range(best)]
    return [
        *first,
        *((best + (2 * i + 1) * later // (2 * spread), "spread") for i in range(spread)),
    ]


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
        .select("id", "label", "decision", "reason", "train_id", "score", "view")
    )


def _pairs(inputs: ReportInputs, rows: pl.DataFrame, samples: list[Sample]) -> tuple[Pair, ...]:
    tests, trains = rows["id"].to_list(), rows["train_id"].to_list()
    test_items = items(inputs.test_metadata, tests)
    train_items = items(inputs.train_metadata, trains)
    others = _others(inputs, tests)
    known = _known(inputs.pairs, tests)
    found = []
    for sample, row in zip(samples, rows.iter_rows(named=True), strict=True):
        names = row["id"], row["train_id"]
        same, cosine, refusal = known.get(names, (None, None, None))
        label = None if row["label"] is None else str(row["label"])
        decided = row.get("evidence", row["train_id"]) == row["train_id"]
        said = row["reason"] if row["reason"] in _SAID and decided else None
        pair = Pair(
            test=_with_label(test_items[names[0]], label),
            train=train_items[names[1]],
            score=float(row["score"]),
            view=str(row["view"] or "identity"),
            sample=sample,
            cosine=cosine,
            decision=row["decision"],
            others=others.get(names, 0),
            same=same,
            said=said,
            rejected=refusal,
        )
        found.append(pair)
    return tuple(found)


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
    """Per (test, best train): how many further train images match at the threshold."""
    hits = inputs.pairs.filter(
        pl.col("test_id").is_in(tests), groups.is_match(inputs.pairs, inputs.split["threshold"])
    )
    trains = hits.group_by("test_id").agg(pl.col("train_id").unique())
    return {(test, train): len(found) - 1 for test, found in trains.iter_rows() for train in found}


def _known(
    pairs: pl.DataFrame, tests: list[str]
) -> dict[tuple[str, str], tuple[str | None, float | None, str | None]]:
    """What the stored pairs of some test images say: sameness, first cosine, why rejected.

    A cosine that equals the score is left out.
    """
    shown = pairs.filter(pl.col("test_id").is_in(tests))
    other = pl.when(pl.col("cosine") != pl.col("score")).then("cosine")
    rows = shown.select("test_id", "train_id", sameness(), other, "rejected")
    return {(test, train): (same, cosine, why) for test, train, same, cosine, why in rows.rows()}
