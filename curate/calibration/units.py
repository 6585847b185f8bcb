"""What a precision is a share of: the items that may be flagged, each by its best pair."""

import polars as pl

UNITS = pl.Schema(
    {"unit": pl.String, "test_id": pl.String, "train_id": pl.String, "score": pl.Float32}
)
"""One row per item with a pair at or above the floor: the item and its best pair."""


def decision_units(pairs: pl.DataFrame, *, of_train: bool = False) -> pl.DataFrame:
    """Every item that may be flagged, by its best pair that no second look has rejected.

    An item is right to be flagged if this pair is a copy. Of pairs with equal scores the first in
    the table counts.

    Args:
        pairs: `tables.PAIRS`.
        of_train: train items are what is flagged (`--strip train`).

    Returns:
        `UNITS`, sorted by item.
    """
    usable = pairs
    if "rejected" in pairs.columns:
        usable = pairs.filter(pl.col("rejected").is_null())
    unit = pl.col("train_id" if of_train else "test_id").alias("unit")
    return (
        usable.select(unit, "test_id", "train_id", "score")
        .sort("score", descending=True, maintain_order=True)
        .unique("unit", keep="first", maintain_order=True)
        .sort("unit")
        .cast(UNITS)
    )
