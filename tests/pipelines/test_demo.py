"""The demonstration, whole, by its command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app


@pytest.mark.slow
def test_the_default_detector_finds_what_was_planted_and_little_else(tmp_path: Path) -> None:
    words = ["demo", "--out", str(tmp_path / "demo"), "--seed", "77"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["summary"]["in"] == 400
    assert (found["score"]["planted"], found["score"]["found"] >= 58) == (60, True)
    assert len(found["score"]["wrongly_flagged"]) <= 5
    again = CliRunner().invoke(app, words)
    assert "test images, at score of aligned pixels >= 0.5" in again.stdout
