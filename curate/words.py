"""What people say of pairs, in decisions: their word counts more than any score."""

from collections.abc import Iterable

import polars as pl

from curate import groups, tables

JUDGED_COPY = "judged a copy"
JUDGED_DIFFERENT = "matches were judged different"
NOT_STORED = "matches were judged different, but there are more than were stored"

_PAIR = ["test_id", "train_id"]
_EVIDENCE = ("train_id", "score", "view")


def with_words(
    pairs: pl.DataFrame, words: pl.DataFrame, overflown: Iterable[str], threshold: float
) -> pl.DataFrame:
    """Pairs with `match`: what people say of them, and where they say nothing, the score.

    Where all matches of an item were judged different, but it has more at the threshold than were
    stored, nothing shows that it is clean, and the score decides.

    Args:
        pairs: `tables.PAIRS`.
        words: test_id, train_id and copy, not null, of judged pairs.
        overflown: test items with more pairs than were stored.
        threshold: lowest score of a match that nobody has judged.
    """
    by_score = groups.is_match(pairs, threshold)
    cut = list(groups.cut_above(pairs, overflown, threshold))
    said = pairs.join(words.select(*_PAIR, "copy"), on=_PAIR, how="left", maintain_order="left")
    match = pl.coalesce("copy", by_score)
    open_end = pl.col("test_id").is_in(cut) & ~match.any().over("test_id")
    return said.with_columns(match=pl.when(open_end).then(by_score).otherwise(match)).drop("copy")


def after_words(nearest: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """The nearest train item of each vector, with `match`, after people had their word.

    It is the best match, whatever its score; without a match, the nearest item as before.

    Args:
        nearest: `tables.NEAREST`.
        pairs: from `with_words`.
    """
    best = (
        pairs.filter("match")
        .sort("score", descending=True, maintain_order=True)
        .unique("test_id", keep="first", maintain_order=True)
        .select("test_id", "match", *(pl.col(name).alias(f"best_{name}") for name in _EVIDENCE))
    )
    frame = nearest.join(best, on="test_id", how="left", maintain_order="left")
    found = pl.col("match").fill_null(value=False)
    chosen = (pl.when(found).then(f"best_{name}").otherwise(name).alias(name) for name in _EVIDENCE)
    return frame.with_columns(*chosen, match=found).select(*nearest.columns, "match")


def with_reasons(
    decisions: pl.DataFrame, pairs: pl.DataFrame, words: pl.DataFrame, threshold: float
) -> pl.DataFrame:
    """Decisions whose reasons say where people's words decided.

    Args:
        decisions: `tables.DECISIONS`, made from `pairs`; either end of a pair may be the item.
        pairs: from `with_words`.
        words: as there.
        threshold: as there.
    """
    ends = (("test_id", "train_id"), ("train_id", "test_id"))
    said = pl.concat(words.select("copy", id=item, train_id=other) for item, other in ends)
    refused = pairs.filter(groups.reaches(threshold) & ~pl.col("match"))
    refused = refused.join(words.filter(~pl.col("copy")), on=_PAIR, how="semi")
    freed = pl.concat([refused["test_id"], refused["train_id"]]).unique()
    overlap, clean = (pl.col("decision") == word for word in ("overlap", "clean"))
    reason = (
        pl.when(overlap & pl.col("copy")).then(pl.lit(JUDGED_COPY))
        .when(overlap & ~pl.col("copy")).then(pl.lit(NOT_STORED))
        .when(clean & pl.col("id").is_in(freed.to_list())).then(pl.lit(JUDGED_DIFFERENT))
        .otherwise("reason")
    )  # fmt: skip
    frame = decisions.join(said, on=["id", "train_id"], how="left", maintain_order="left")
    return frame.with_columns(reason=reason).select(tables.DECISIONS.names())
