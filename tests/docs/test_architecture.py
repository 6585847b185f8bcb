"""docs/architecture.md against the tree: folders and modules are named and exist."""

import re
from pathlib import Path

from markdown import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
ROOTS = ("indices", "curate", "eval", "train", "pipelines", "benchmarks", "docs", ".ci")
_LONGEST_PAGE = 110


def folders() -> list[str]:
    """All folders with files of the project in them, of the tests the top alone."""
    found = ["tests"]
    for root in ROOTS:
        inner = [path for path in (ROOT / root).rglob("*") if path.is_dir()]
        every = [ROOT / root, *(path for path in inner if "__pycache__" not in path.parts)]
        found += [
            path.relative_to(ROOT).as_posix()
            for path in every
            if any(one.is_file() for one in path.iterdir())
        ]
    return found


def test_every_folder_is_explained() -> None:
    table = PAGE[PAGE.index("## Each folder") :]
    every = folders()
    assert len(every) > 35
    # what lies inside of these is explained with them
    covered = ("benchmarks/figures/", "benchmarks/side_by_side/")
    for name in every:
        assert f"`{name}/`" in table or name.startswith(covered), name


def test_every_folder_that_is_explained_exists() -> None:
    for name in re.findall(r"`([\w./-]+)/`", PAGE[PAGE.index("## Each folder") :]):
        assert (ROOT / name).is_dir(), name


def test_every_module_on_the_way_of_an_image_exists() -> None:
    way = PAGE[: PAGE.index("## Rules")]
    named = re.findall(r"\b((?:curate|indices|eval|train)/[\w/]+\.py|\w+\.py)\b", way)
    assert len(named) > 20
    folder = Path()
    for name in named:
        path = Path(name)
        folder = path.parent if "/" in name else folder
        places = (ROOT / path, ROOT / folder / path.name, ROOT / folder.parent / path.name)
        assert any(place.is_file() for place in places), name


def test_it_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= _LONGEST_PAGE
