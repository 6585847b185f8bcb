import numpy as np
import polars as pl
import pytest

from curate.calibration.planted import PLANTED
from curate.calibration.recall import ALL, RECALL, recall_table
from curate.stats import wilson


def planted(scores: dict[tuple[str, int], list[float | None]]) -> pl.DataFrame:
    rows = [
        {"train_id": f"r:{number}", "transformation": name, "strength": strength, "score": score}
        for (name, strength), column in scores.items()
        for number, score in enumerate(column)
    ]
    return pl.DataFrame(rows, schema=PLANTED)


def row(table: pl.DataFrame, name: str, strength: int, threshold: float) -> dict[str, float]:
    found = table.filter(
        (pl.col("transformation") == name)
        & (pl.col("strength") == strength)
        & (pl.col("threshold") == threshold)
    )
    assert found.height == 1
    return found.row(0, named=True)


def test_every_kind_has_its_recall_at_every_threshold() -> None:
    table = recall_table(planted({("jpeg", 1): [0.9, 0.8, 0.7, 0.95]}), [0.7, 0.8, 0.9])
    assert table.schema == RECALL
    kind = table.filter(pl.col("transformation") == "jpeg")
    assert kind["found"].to_list() == [4, 3, 2]
    assert kind["recall"].to_list() == [1.0, 0.75, 0.5]
    at = row(table, "jpeg", 1, 0.8)
    assert (at["low"], at["high"]) == pytest.approx(wilson(3, 4))


def test_a_score_equal_to_the_threshold_is_found_in_single_precision() -> None:
    table = recall_table(planted({("jpeg", 1): [float(np.float32(0.82))]}), [0.82])
    assert row(table, "jpeg", 1, 0.82)["found"] == 1


def test_copies_without_a_score_are_left_out() -> None:
    table = recall_table(planted({("jpeg", 1): [0.9, None]}), [0.8])
    assert row(table, "jpeg", 1, 0.8)["copies"] == 1


def test_copies_that_a_second_look_refuses_are_found_at_no_threshold() -> None:
    table = planted({("jpeg", 1): [0.9, 0.95]})
    refused = table.with_columns(rejected=pl.Series([None, "pixels do not agree"]))
    assert row(recall_table(refused, [0.0]), "jpeg", 1, 0.0)["recall"] == 0.5


def test_all_kinds_together_are_by_strength_and_in_all() -> None:
    table = recall_table(
        planted({("jpeg", 1): [0.9, 0.9], ("crop", 1): [0.9, 0.1], ("crop", 3): [0.1, 0.1]}), [0.5]
    )
    assert [row(table, ALL, strength, 0.5)["recall"] for strength in (0, 1, 3)] == [
        0.5, 0.75, 0.0,
    ]  # fmt: skip
    assert table.filter((pl.col("transformation") == ALL) & (pl.col("strength") == 2)).is_empty()


def test_copies_of_one_image_that_stand_and_fall_together_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(0)
    alike = {("jpeg", s): [float(x) for x in (np.arange(50) % 2)] for s in (1, 2, 3)}
    apart = {("jpeg", s): [float(x) for x in rng.integers(0, 2, 50)] for s in (1, 2, 3)}
    wide, narrow = (row(recall_table(planted(x), [0.5]), ALL, 0, 0.5) for x in (alike, apart))
    low, high = wilson(25, 50)
    assert wide["high"] - wide["low"] == pytest.approx(high - low, abs=0.02)
    assert narrow["high"] - narrow["low"] < 0.75 * (wide["high"] - wide["low"])


def test_nothing_planted_gives_no_rows() -> None:
    assert recall_table(pl.DataFrame(schema=PLANTED), [0.5]).is_empty()
