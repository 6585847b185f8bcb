from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from curate.errors import CurateError
from eval.report import Inputs
from eval.report.plots import write_plots

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def written(
    inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("plots")
    return folder, write_plots(inputs, folder)


def test_every_figure_is_there_as_svg_and_png(written: tuple[Path, tuple[str, ...]]) -> None:
    folder, names = written
    assert names == (
        "effective-cifar10-cifar10.1", "corruptions-cifar10", "attacks-cifar10", "splits",
        "thresholds-cifar10-0", "thresholds-cifar10-1",
    )  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("svg", "png")
    }
    for name in names:
        assert ET.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        image = Image.open(folder / f"{name}.png")
        assert image.width > 500
        assert len(image.convert("L").getcolors() or ()) > 5


def test_foreign_names_are_text_in_figures(written: tuple[Path, tuple[str, ...]]) -> None:
    folder, _ = written
    text = (folder / "attacks-cifar10.svg").read_text()
    assert "<img" not in text
    assert "&lt;img src=x" in text
    assert "\u202e" not in text


def test_figures_are_the_same_bytes_again(
    written: tuple[Path, tuple[str, ...]], inputs: Inputs, tmp_path: Path
) -> None:
    folder, _ = written
    few = Inputs(tuple(item for item in inputs.results if item.setting.attack is None)[:2])
    for name in ("a", "b"):
        write_plots(few, tmp_path / name)
    assert (tmp_path / "a" / "splits.svg").read_bytes() == (
        tmp_path / "b" / "splits.svg"
    ).read_bytes()
    assert (tmp_path / "a" / "splits.png").read_bytes() == (
        tmp_path / "b" / "splits.png"
    ).read_bytes()
    assert folder.is_dir()


def test_without_a_clean_image_splits_alone_are_drawn(all_overlap: Inputs, tmp_path: Path) -> None:
    assert write_plots(all_overlap, tmp_path) == ("splits",)


def test_nothing_makes_no_figures(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="at least one result"):
        write_plots(Inputs(()), tmp_path)
