import polars as pl

from curate.calibration.units import UNITS, decision_units


def pairs(*rows: tuple[str, str, float, str | None]) -> pl.DataFrame:
    schema = {"test_id": pl.String, "train_id": pl.String, "score": pl.Float32}
    return pl.DataFrame(rows, schema={**schema, "rejected": pl.String}, orient="row")


FOUND = pairs(
    ("t:a", "r:1", 0.9, None), ("t:a", "r:2", 0.8, None), ("t:b", "r:2", 0.95, None),
    ("t:c", "r:1", 0.99, "no inliers"), ("t:c", "r:3", 0.75, None), ("t:d", "r:4", 0.9, "blank"),
)  # fmt: skip


def test_a_test_item_is_judged_by_its_best_pair_that_was_not_rejected() -> None:
    units = decision_units(FOUND)
    assert units.schema == UNITS
    assert units.select("unit", "train_id").rows() == [
        ("t:a", "r:1"), ("t:b", "r:2"), ("t:c", "r:3"),
    ]  # fmt: skip


def test_of_a_stripped_train_set_train_items_are_judged() -> None:
    units = decision_units(FOUND, of_train=True)
    assert units.select("unit", "test_id").rows() == [
        ("r:1", "t:a"), ("r:2", "t:b"), ("r:3", "t:c"),
    ]  # fmt: skip


def test_pairs_without_a_second_look_all_count() -> None:
    assert decision_units(FOUND.drop("rejected"))["unit"].to_list() == ["t:a", "t:b", "t:c", "t:d"]
