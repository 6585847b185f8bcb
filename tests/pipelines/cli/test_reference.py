"""The reference of the commands says what the commands say."""

import re
from pathlib import Path

from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.cli.reference import commands, reference

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == reference(), "python -m pipelines.cli.reference > docs/cli.md"


def test_every_command_of_the_help_is_in_it() -> None:
    names = [one.name for one in commands()]
    assert len(names) == len(set(names)) > 20
    shown = CliRunner().invoke(app, ["--help"], terminal_width=120).stdout
    for name in names:
        assert re.search(rf"\b{name.split()[1]}\b", shown), name
        assert f"### {name}\n" in reference()


def test_options_stand_with_their_values_defaults_and_meaning() -> None:
    page = reference()
    row = "| `--precision {fp32,bf16}` | `fp32` | Of the image tower;"
    assert row in page[page.index("### curate eval run") :]
    assert "| `--open/--no-open` |  | Open the page in a browser. |" in page
    assert "| `MODEL` | needed | builtin:tiny-clip" in page
    assert "| `DATA` ... |" in page[page.index("### curate train") :]
    assert "| `--set TEXT` |  | Change a setting" in page


def test_an_example_is_one_line_with_its_remark() -> None:
    page = reference()
    assert (
        "    curate split run --threshold 0.9 --keep largest    # of a run with --within\n" in page
    )
    assert "Examples:" not in page
