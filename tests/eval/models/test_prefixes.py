"""Prefixes come from files in either form, ranked as ROZ ranks them, and make class texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional

from curate.errors import CurateError
from eval.models.classifier import Clip, class_texts
from eval.models.prefixes import prefix_texts, prefix_words, prefixed, read_prefixes

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("cat", "dog", "aircraft carrier")
PHOTO = (320, 1125, 539, 320)


def written(folder: Path, text: str) -> Path:
    path = folder / "prefixes.log"
    path.write_text(text, "utf-8")
    return path


def test_ids_and_words_mean_the_same(clip: Clip, tmp_path: Path) -> None:
    ids = read_prefixes(written(tmp_path, "320 1125 539 320\n"), clip)
    words = read_prefixes(written(tmp_path, "a photo of a\n"), clip)
    assert ids == words == (PHOTO,)
    assert prefix_words(clip, PHOTO) == "a photo of a"


def test_the_most_frequent_come_first_and_of_equals_the_earlier(clip: Clip, tmp_path: Path) -> None:
    log = "5 6\n7 8\n\n9 9\n7 8\n9 9\n1 2\n"
    assert read_prefixes(written(tmp_path, log), clip) == ((7, 8), (9, 9), (5, 6), (1, 2))
    assert read_prefixes(written(tmp_path, log), clip, top=2) == ((7, 8), (9, 9))


def test_a_prefix_of_words_is_the_template_of_these_words(clip: Clip) -> None:
    made = prefix_texts(clip, NAMES, [PHOTO])
    stated = class_texts(clip, NAMES, ["a photo of a {}."])
    torch.testing.assert_close(made, stated, atol=1e-6, rtol=0)
    tokens = clip.tokenize([f"a photo of a {name}." for name in NAMES])
    assert torch.equal(prefixed(clip, NAMES, PHOTO), tokens)


def test_an_ensemble_is_the_mean_of_unit_rows_normalised(clip: Clip) -> None:
    prefixes = [PHOTO, (5, 6), (7,)]
    rows = torch.stack([prefix_texts(clip, NAMES, [one]) for one in prefixes])
    expected = functional.normalize(rows.mean(dim=0), dim=1)
    torch.testing.assert_close(prefix_texts(clip, NAMES, prefixes), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no prefixes"),
        ("\n \n", "no prefixes"),
        ("1 2\n3 49406\n", "line 2: token 49406"),
        ("99999999999999999999 1\n", "token 999999999"),
        ("a photo\n&nbsp;\n", "line 2: holds no token"),
    ],
)
def test_a_bad_file_is_named(clip: Clip, tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(CurateError, match=words) as caught:
        read_prefixes(path, clip)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_named(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="not readable"):
        read_prefixes(tmp_path / "none.log", clip)
    path = tmp_path / "bytes.log"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CurateError, match="not readable"):
        read_prefixes(path, clip)


def test_a_text_longer_than_the_model_reads_is_refused(clip: Clip) -> None:
    with pytest.raises(CurateError, match="reads 16; take a shorter prefix"):
        prefixed(clip, NAMES, PHOTO * 4)


def test_no_prefix_is_refused(clip: Clip) -> None:
    with pytest.raises(CurateError, match="at least one"):
        prefix_texts(clip, NAMES, [])
