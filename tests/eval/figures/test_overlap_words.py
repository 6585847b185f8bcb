from __future__ import annotations

import pytest
from sample_rows import split_rows

from curate.errors import CurateError
from eval.figures.overlap import compare
from eval.figures.overlap_words import sentence, signed


def test_the_end_says_what_moved_and_that_random_removal_does_not() -> None:
    found = {
        "cifar10": compare(split_rows((500, 500), (98, 2))),
        "cifar10.fog.3": compare(split_rows((500, 500), (50, 50))),
        "stl10": compare(split_rows((5, 5), (0, 0))),
    }
    said = sentence(found)
    assert said.startswith("Of 2 results with overlap, 1 is significantly better")
    assert "that of cifar10: with the 100 overlapping of 1100 images" in said
    assert "4.36 points higher than on clean images alone" in said
    assert "does not move it as much, so the overlap itself does" in said
    assert said.endswith(
        "Of the 1 significant, 1 moves further than a random removal of the same size."
    )


def test_the_end_says_how_small_a_change_could_have_been_seen() -> None:
    said = sentence({"cifar10": compare(split_rows((500, 500), (52, 48)))})
    assert "0 are significantly better" in said
    assert "and so moves it as much" in said
    assert "would have seen in four of five cases" in said


def test_the_end_says_so_where_there_is_nothing_to_say() -> None:
    assert sentence({"a": compare(split_rows((5, 5), (0, 0)))}).startswith("None of 1 result has")
    small = sentence({"a": compare(split_rows((5, 5), (1, 0)))})
    assert small.endswith("No result has enough overlapping images for any change to be seen.")
    with pytest.raises(CurateError, match="no result was compared"):
        sentence({})


def test_changes_are_written_with_their_sign() -> None:
    assert [signed(value) for value in (0.0123, -0.001, 0.00001)] == [
        "+1.23",
        "\N{MINUS SIGN}0.10",
        "0.00",
    ]
