"""The sentence that a study ends with says what its numbers say, and no more."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pytest

from curate.errors import CurateError
from eval.figures.overlap import adjust, compare
from pipelines.evaluation.overlap import row_of
from pipelines.flow.finding import find

SETTING = "pictures@pgd-20.eps1.input"


def row(model: str, clean: tuple[int, int], overlap: tuple[int, int]) -> dict[str, Any]:
    """What is stored of a result with so many right of so many images, of two classes."""
    parts = {"clean": clean, "overlap": overlap}
    rows = [
        {"label": at % 2, "correct": at // 2 < right // 2, "split": split, "group": None}
        for split, (right, total) in parts.items()
        for at in range(total)
    ]
    schema = {"label": pl.Int32, "correct": pl.Boolean, "split": pl.String, "group": pl.String}
    found = compare(pl.DataFrame(rows, schema=schema).with_columns(control=pl.lit(value=None)))
    adjusted = adjust({"it": found.p})["it"]
    return {"model": model, "setting": SETTING, **row_of(found), "p_adjusted": adjusted}


def stored(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"settings": list(rows), "adjusted_by": "holm"}


def told(*rows: dict[str, Any], against: str | None = None) -> str:
    sentence = find(stored(*rows), "leaky", SETTING, against).sentence
    return sentence.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def test_a_gain_beyond_chance_is_told_with_interval_p_and_random_removal() -> None:
    found = find(stored(row("leaky", (120, 300), (54, 60))), "leaky", SETTING)
    assert (found.significant, found.beyond_chance) == (True, True)
    text = told(row("leaky", (120, 300), (54, 60)))
    assert text.startswith(
        "leaky is right on 48.3 % of 360 images of pictures under pgd-20 at 1/255 and on 40.0 % of "
        "those without a near-duplicate in the training set: the 60 near-duplicates add 8.33 "
        "points (95 % CI +"
    )
    assert "), which is significant (p = " in text
    assert "and more than chance, as removing as many random images of the same classes" in text
    assert text.endswith(".")
    assert text.count(". ") == 0, "one sentence"


def test_a_gain_that_may_be_luck_is_called_not_significant() -> None:
    found = find(stored(row("leaky", (120, 300), (26, 60))), "leaky", SETTING)
    assert (found.significant, found.beyond_chance) == (False, False)
    text = told(row("leaky", (120, 300), (26, 60)))
    assert "the 60 near-duplicates add 0.56 points (95 % CI -" in text
    assert "which is not significant (p = 0.34; removing as many random images" in text
    assert "more than chance" not in text


def test_a_loss_is_no_gain() -> None:
    assert "take 2.22 points (95 % CI -" in told(row("leaky", (120, 300), (16, 60)))


def test_a_significant_gain_that_random_removal_makes_too_is_said_to_be_no_more() -> None:
    chosen = row("leaky", (120, 300), (54, 60))
    chosen["random_removal"] = {**chosen["random_removal"], "p": 0.3}
    found = find(stored(chosen), "leaky", SETTING)
    assert (found.significant, found.beyond_chance) == (True, False)
    assert "although removing as many random images of the same classes moves it" in told(chosen)
    assert told(chosen).endswith("which is as much.")


def test_adjusted_p_values_decide() -> None:
    chosen = row("leaky", (120, 300), (54, 60)) | {"p_adjusted": 0.2}
    assert "not significant (p = 0.2;" in told(chosen)


def test_without_near_duplicates_nothing_is_claimed() -> None:
    found = find(stored(row("leaky", (120, 300), (0, 0))), "leaky", SETTING)
    assert (found.significant, found.beyond_chance) == (False, False)
    assert told(row("leaky", (120, 300), (0, 0))) == (
        "None of the 300 images of pictures under pgd-20 at 1/255 has a near-duplicate in the "
        "training set, so none adds to the 40.0 % on which leaky is right."
    )


def test_with_nothing_clean_nothing_can_be_told() -> None:
    text = told(row("leaky", (0, 0), (40, 60)))
    assert text.startswith("All 60 images of pictures under pgd-20 at 1/255 have near-duplicates")
    assert text.endswith("cannot be told.")


def test_the_other_model_is_told_beside_it() -> None:
    rows = [row("leaky", (120, 300), (54, 60)), row("clean", (120, 300), (26, 60))]
    text = told(*rows, against="clean")
    assert "; clean gains 0.56 (-" in text
    assert text.endswith("which is not significant (p = 0.34).")
    assert re.search(r"which is significant \(p = [^ ]+, Holm over 2\)", text)
    found = find(stored(*rows), "leaky", SETTING, "clean")
    assert found.against is not None
    assert (found.result["model"], found.against["model"]) == ("leaky", "clean")


def test_the_other_model_may_have_no_overlap_either() -> None:
    rows = [row("leaky", (120, 300), (0, 0)), row("clean", (120, 300), (0, 0))]
    assert told(*rows, against="clean").endswith("is right; of clean the same holds.")


@pytest.mark.parametrize(("model", "setting"), [("other", SETTING), ("leaky", "pictures")])
def test_a_result_that_was_not_compared_is_refused(model: str, setting: str) -> None:
    rows = [row("leaky", (120, 300), (54, 60))]
    with pytest.raises(CurateError, match=f"finding: {model} on {setting} was not compared"):
        find(stored(*rows), model, setting)
    with pytest.raises(CurateError, match="there is nothing"):
        find(stored(), model, setting)
