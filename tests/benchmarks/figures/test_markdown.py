"""Tables in markdown, and their places in documents."""

import pytest

from benchmarks.figures.markdown import blocks, table, with_block, without_blocks, wrapped

PAGE = """Before.

<!-- figures: one -->

| a |

<!-- /figures -->

Between.

<!-- figures: two -->
<!-- /figures -->

After.
"""


def test_a_table_has_a_line_below_its_header() -> None:
    assert table(("a", "b"), [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_row_that_is_too_short_for_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        table(("a", "b"), [["1"]])


def test_blocks_are_found_by_name_also_while_they_are_empty() -> None:
    assert blocks(PAGE) == {"one": "| a |", "two": ""}


def test_a_block_is_renewed_and_all_else_stays() -> None:
    renewed = with_block(PAGE, "two", "| b |")
    assert blocks(renewed) == {"one": "| a |", "two": "| b |"}
    assert without_blocks(renewed) == without_blocks(PAGE)
    assert with_block(renewed, "two", "| b |") == renewed


@pytest.mark.parametrize(
    "page", [PAGE + "<!-- /figures -->", PAGE + "<!-- figures: three -->", PAGE + PAGE]
)
def test_a_page_whose_marks_do_not_match_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match=r"marks begin|comes twice"):
        blocks(page)


def test_a_paragraph_is_wrapped_without_losing_a_word() -> None:
    text = "word " * 100
    lines = wrapped(text).splitlines()
    assert max(map(len, lines)) <= 160
    assert " ".join(lines).split() == text.split()
