"""How well a split found the planted copies."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from curate.errors import CurateError


@dataclass(frozen=True)
class TransformationScore:
    """Planted copies of one kind, how many were found, and how many with their own original."""

    transformation: str
    planted: int
    found: int
    found_original: int


@dataclass(frozen=True)
class DemoScore:
    """The answer against a split. Ids are test ids, in the order of the decisions.

    `found` were planted and flagged as overlap, `missed` were planted and not flagged (clean or
    unknown), `wrongly_flagged` were flagged and not planted. `found_original` counts those found
    whose best match is the image that was copied.
    """

    planted: int
    found: int
    found_original: int
    missed: tuple[str, ...]
    wrongly_flagged: tuple[str, ...]
    by_transformation: tuple[TransformationScore, ...]

    @property
    def recall(self) -> float:
        """Share of the planted copies that were found; 1.0 where none was planted."""
        return self.found / self.planted if self.planted else 1.0

    @property
    def precision(self) -> float:
        """Share of the flagged items that were planted; 1.0 where none was flagged."""
        flagged = self.found + len(self.wrongly_flagged)
        return self.found / flagged if flagged else 1.0


def _check(answer: pl.DataFrame, decisions: pl.DataFrame) -> None:
    needed = (
        ("the answer", answer, ("test_id", "train_id", "transformation")),
        ("the decisions", decisions, ("id", "decision", "train_id")),
    )
    for name, table, columns in needed:
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise CurateError(f"demo score: {name} lack {missing}; they have {table.columns}")
    for name, ids in (("the answer", answer["test_id"]), ("the decisions", decisions["id"])):
        if ids.n_unique() != ids.len():
            raise CurateError(f"demo score: {name} list a test id twice")
    strangers = answer.join(decisions, left_on="test_id", right_on="id", how="anti")
    if strangers.height:
        raise CurateError(
            f"demo score: {strangers.height} planted items have no decision (first: "
            f"{strangers['test_id'][0]}); give the decisions on this demo's test set"
        )


def score_demo(answer: pl.DataFrame, decisions: pl.DataFrame) -> DemoScore:
    """Compare decisions (id, decision, train_id, ...) with the answer that `write_demo` wrote.

    Raises CurateError where columns are missing, ids repeat, or a planted item has no decision.
    """
    _check(answer, decisions)
    truth = answer.select("test_id", "transformation", original="train_id")
    joined = decisions.select("id", "decision", "train_id").join(
        truth, left_on="id", right_on="test_id", how="left", maintain_order="left"
    )
    joined = joined.with_columns(
        planted=pl.col("original").is_not_null(), flagged=pl.col("decision") == "overlap"
    ).with_columns(
        found=pl.col("planted") & pl.col("flagged"),
        found_original=pl.col("planted")
        & pl.col("flagged")
        & (pl.col("train_id") == pl.col("original")).fill_null(value=False),
    )
    kinds = (
        joined.filter("planted")
        .group_by("transformation")
        .agg(pl.len().alias("planted"), pl.col("found", "found_original").sum())
        .sort("transformation")
    )
    return DemoScore(
        planted=answer.height,
        found=int(joined["found"].sum()),
        found_original=int(joined["found_original"].sum()),
        missed=tuple(joined.filter(pl.col("planted") & ~pl.col("flagged"))["id"]),
        wrongly_flagged=tuple(joined.filter(~pl.col("planted") & pl.col("flagged"))["id"]),
        by_transformation=tuple(TransformationScore(**row) for row in kinds.to_dicts()),
    )
