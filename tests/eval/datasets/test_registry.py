"""Test sets by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from evalset_trees import write_files

from curate.errors import CurateError
from eval.datasets.registry import ENTRIES, TECOA, find_entry, open_evalset

if TYPE_CHECKING:
    from pathlib import Path


def test_every_known_set_says_where_it_is_and_what_it_holds() -> None:
    assert len(ENTRIES) == 29
    for entry in ENTRIES.values():
        assert entry.where
        assert entry.tree


def test_tecoas_sets_are_sixteen() -> None:
    assert len(set(TECOA)) == 16
    assert set(TECOA) <= set(ENTRIES)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_a_missing_folder_says_where_to_get_the_set(tmp_path: Path, name: str) -> None:
    with pytest.raises(CurateError) as error:
        open_evalset(name, tmp_path / "nowhere")
    assert ENTRIES[name].where in str(error.value)
    assert ENTRIES[name].tree in str(error.value)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_a_folder_with_something_else_says_what_was_expected(tmp_path: Path, name: str) -> None:
    variant = next(iter(ENTRIES[name].variants), None)
    severity = next(iter(ENTRIES[name].severities), None)
    with pytest.raises(CurateError) as error:
        open_evalset(name, tmp_path, variant=variant, severity=severity)
    assert ENTRIES[name].tree in str(error.value)
    assert not list(tmp_path.iterdir())  # and nothing was made there


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="did you mean 'imagenet-sketch'"):
        open_evalset("imagenet-skech", tmp_path / "nowhere")
    with pytest.raises(CurateError, match="did you mean 'eurosat'"):
        find_entry("eurosad")


def test_an_unknown_part_suggests_the_nearest(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("fog/3/n01498041/a.JPEG",))
    with pytest.raises(CurateError, match="did you mean 'fog'"):
        open_evalset("imagenet-c", root, variant="fogg", severity=3)
    with pytest.raises(CurateError, match=r"its severities are \(1, 2, 3, 4, 5\)"):
        open_evalset("imagenet-c", root, variant="fog", severity=6)


def test_a_part_of_an_unknown_set_is_an_error(tmp_path: Path) -> None:
    root = write_files(tmp_path, ("a/1.png",))
    with pytest.raises(CurateError, match="'mine': is not known"):
        open_evalset("mine", root, variant="fog")
