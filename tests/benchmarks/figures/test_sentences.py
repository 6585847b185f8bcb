"""Sentences with figures against the numbers that belong in them."""

from pathlib import Path

import pytest

from benchmarks.figures.results import Results
from benchmarks.figures.sentences import Claim, Number, mended, read_claims, stale

CLAIM = Claim("docs/a.md", "of {all:,} images, {found} are copies ({share:.1%})")
NUMBERS: dict[str, Number] = {
    "all": lambda _: 10_000,
    "found": lambda _: 622,
    "share": lambda _: 0.0622,
}
TRUE = "It says that of 10,000 images,\n622 are copies (6.2 %). So there."


def figures() -> list[str]:
    return CLAIM.figures(Results(), NUMBERS)


def test_figures_are_written_as_the_documents_write_them() -> None:
    assert figures() == ["10,000", "622", "6.2 %"]


def test_a_true_sentence_is_recognised_wherever_its_lines_break() -> None:
    assert stale(CLAIM, TRUE, figures()) is None


@pytest.mark.parametrize("wrong", ["623 are", "62 are", "-622 are"])
def test_a_sentence_with_another_figure_is_told_and_mended(wrong: str) -> None:
    text = TRUE.replace("622 are", wrong)
    fault = stale(CLAIM, text, figures())
    assert fault is not None
    assert wrong.removesuffix(" are") in fault
    assert mended(CLAIM, text, figures()) == TRUE


def test_a_sentence_that_is_gone_or_comes_twice_is_told() -> None:
    for text in ("Nothing.", TRUE + TRUE):
        fault = stale(CLAIM, text, figures())
        assert fault is not None
        assert "not one" in fault
    assert mended(CLAIM, "Nothing.", figures()) == "Nothing."


def test_a_number_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError, match="nobody"):
        Claim("docs/a.md", "{nobody}").figures(Results(), NUMBERS)


def test_claims_are_read_by_document(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text("docs/a.md:\n- >-\n  of {all:,} images,\n  {found} are copies ({share:.1%})\n")
    assert read_claims(path) == [CLAIM]
