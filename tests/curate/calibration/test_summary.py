import json

import polars as pl
import pytest
from made_up_truths import FLOOR, LIKELY, TRUTHS, population, surveyed

from curate.calibration import plan, precision, summary
from curate.calibration.judgements import Judgements
from curate.calibration.planted import PLANTED
from curate.calibration.recall import recall_table
from curate.calibration.summary import Wanted
from curate.calibration.units import UNITS


def survey(
    truth: str, labels: int, judge: int | None = None, wanted: float = 0.95
) -> dict[str, object]:
    """What is stated when so many pairs were drawn and the first of them judged."""
    scores = population(1500, 0)
    ids = [f"t:{number}" for number in range(1500)]
    units = pl.DataFrame({"unit": ids, "test_id": ids, "train_id": ids, "score": scores})
    drawn = plan.draw(units, plan.zones(scores, FLOOR, LIKELY), labels, 0)
    true = {id_: bool(share > 0.5) for id_, share in zip(ids, TRUTHS[truth](scores), strict=True)}
    seen = drawn.head(labels if judge is None else judge).select("test_id", "train_id")
    copy = pl.Series([true[id_] for id_ in seen["test_id"]], dtype=pl.Boolean)
    said = Judgements("here", seen.with_columns(copy=copy), "digest", 1)
    found = summary.labelled(units, drawn, said, plan.grid(FLOOR), Wanted(wanted))
    json.dumps(found, allow_nan=False)
    return found


def proposal(*given: object, **more: object) -> dict[str, object]:
    found = survey(*given, **more)["proposal"]  # type: ignore[arg-type]
    assert isinstance(found, dict)
    return found


def test_a_sharp_truth_gives_a_threshold_where_it_turns() -> None:
    found = proposal("sharp", 400)
    assert found["threshold"] == pytest.approx(LIKELY, abs=0.011)
    assert found["low"] >= 0.95
    assert found["flagged"] > 100


def test_few_labels_give_none_but_say_how_many_more_and_where() -> None:
    found = proposal("all true", 300, 40)
    assert found["threshold"] is None
    more = found["more_labels"]
    assert isinstance(more, dict)
    assert more["pairs"] == sum(zone["pairs"] for zone in more["zones"]) > 0
    assert f"about {more['pairs']} more are needed" in str(found["reason"])
    later = proposal("all true", 600)
    assert later["threshold"] is not None


def test_no_further_labels_are_asked_for_what_they_show_already() -> None:
    sample, _ = surveyed("all true", 1500, 400, 0)
    shown = precision.at(sample, LIKELY, 0.95)
    assert shown is not None
    assert shown.precision.low >= 0.95
    assert precision.more_labels(sample, LIKELY, 0.95) == {}
    assert summary._more(sample, shown, Wanted(0.95)) is None


def test_where_no_threshold_is_precise_enough_the_best_is_named() -> None:
    found = proposal("rare", 400)
    assert (found["threshold"], found["more_labels"]) == (None, None)
    assert "no threshold is estimated to reach a precision of 0.95" in str(found["reason"])


def test_the_zones_add_up_to_the_labels() -> None:
    found = survey("sharp", 200, 150)
    assert isinstance(found["plan"], dict)
    zones = found["plan"]["zones"]
    assert sum(zone["judged"] for zone in zones) == 150
    assert sum(zone["planned"] for zone in zones) == 200
    assert all(zone["judged"] == zone["copies"] + zone["different"] for zone in zones)
    assert found["labels"] == {"sha256": "digest", "reviewers": 1, "in_plan": 150,
                               "outside_plan": 0}  # fmt: skip


def test_planted_copies_are_stated_with_their_parameters_at_one_threshold() -> None:
    rows = [("r:1", "mirror", 1, 0.9), ("r:1", "jpeg", 3, 0.7), ("r:2", "jpeg", 3, 0.85)]
    table = pl.DataFrame(rows, schema=["train_id", "transformation", "strength", "score"],
                         orient="row")  # fmt: skip
    table = table.with_columns(view=pl.lit("identity"), rejected=pl.lit(None, pl.String))
    table = table.cast(PLANTED)
    found = summary.planted(table, recall_table(table, [0.7, 0.8]), 0.8)
    assert [(kind["transformation"], kind["words"], kind["recall"]) for kind in
            found["by_transformation"]] == [
        ("jpeg", "quality 10", 0.5), ("mirror", "100 % of each side kept", 1.0),
    ]  # fmt: skip
    assert (found["images"], found["copies"], found["failed"]) == (2, 3, 0)
    assert {row["strength"] for row in found["pooled"]} == {0, 1, 3}


def test_nothing_to_flag_gives_no_precision_and_no_error() -> None:
    units = pl.DataFrame(schema=UNITS)
    drawn = plan.draw(units, [], 50, 0)
    found = summary.labelled(units, drawn, None, plan.grid(FLOOR), Wanted(0.95))
    assert (found["precision"], found["leaked"], found["proposal"]["threshold"]) == ([], None, None)
