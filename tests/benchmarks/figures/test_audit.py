"""Numbers in documents that nothing accounts for."""

import re
from pathlib import Path

import pytest

from benchmarks.figures.audit import Accounts, Phrase, read_accounts, unaccounted, unfounded
from benchmarks.figures.sentences import Claim

NAME = "docs/a.md"
PHRASES = [Phrase("takes 75\nminutes"), Phrase("8 threads")]
ACCOUNTS = Accounts((re.compile(r"exit \d"),), {NAME: PHRASES}, ())
PAGE = """It ends with exit 3, takes 75 minutes (`make it`) and 8 threads. It finds 622 copies.

    code --with 17

| in a table of its own | 1.5 |

<!-- figures: one -->
| 99 |
<!-- /figures -->

Not in `code 5`, [links](page-6.md), CIFAR-10, int8, ViT-B/32 or $x^2$.
"""
CLAIMS = [Claim(NAME, "It finds {found} copies")]


def test_only_prose_and_tables_of_others_are_looked_at() -> None:
    (found,) = unaccounted(PAGE, CLAIMS, ACCOUNTS, NAME)
    assert found.startswith("1.5 in ")
    assert "| in a table of its own | 1.5 |" in found


def test_a_figure_without_a_claim_is_told_with_its_neighbours() -> None:
    found = unaccounted(PAGE, [], ACCOUNTS, NAME)
    assert len(found) == 2
    assert found[0].startswith("622 in ")
    assert "It finds 622 copies" in found[0]


def test_other_documents_accounts_do_not_count() -> None:
    assert len(unaccounted(PAGE, CLAIMS, ACCOUNTS, "docs/b.md")) == 3


def test_a_phrase_is_no_part_of_a_longer_number() -> None:
    accounts = Accounts((), {NAME: [Phrase("5 MB")]}, ())
    assert len(unaccounted("5 MB, 15 MB, 1.5 MB", [], accounts, NAME)) == 2


def test_phrases_that_are_gone_are_told() -> None:
    assert unfounded(PAGE, ACCOUNTS, NAME) == []
    assert unfounded(PAGE.replace("8 threads", "9 threads"), ACCOUNTS, NAME) == ["8 threads"]


@pytest.mark.parametrize("kinds", ["measured: [5 s]", "published: [5 s]", "parameter: {by: [5 s]}"])
def test_a_kind_that_there_is_not_is_refused(kinds: str, tmp_path: Path) -> None:
    path = tmp_path / "accounted.yaml"
    path.write_text(f"everywhere: {{}}\nelsewhere: {{}}\ndocuments: {{docs/a.md: {{{kinds}}}}}\n")
    with pytest.raises(ValueError, match="must be one of"):
        read_accounts(path)
