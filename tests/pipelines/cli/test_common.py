"""What subcommands print."""

import json
from typing import TYPE_CHECKING

from pipelines.cli.common import print_result

if TYPE_CHECKING:
    import pytest


def test_foreign_text_in_json_steers_no_terminal(capsys: "pytest.CaptureFixture[str]") -> None:
    value = {"naïve \x9b2J": ["猫 \u202e\x7f\x1b[31m", {"\x85": "🐈\u2067"}]}
    print_result(value, as_json=True, text="")
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert {"naïve", "猫", "🐈"} <= set(printed.replace('"', " ").replace("\\", " ").split())
    assert not set(printed) & set("\x9b\u202e\x7f\x1b\x85\u2067")
