"""What `curate demo` asks of its flow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipelines.cli.demo import _flow

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_it_is_the_shipped_flow_with_what_was_asked_for(tmp_path: Path) -> None:
    flow, _ = _flow(tmp_path / "a folder", "builtin:layout", 5, 3)
    assert flow.out == str(tmp_path / "a folder")
    assert {source.seed for source in flow.sets.values()} == {5}
    assert [source.demo for source in flow.sets.values()] == ["train", "test", "shift"]
    assert {entry.detector for entry in flow.dedup.values()} == {("builtin:layout",)}
    assert (flow.cluster.kind, flow.cluster.workers) == ("local", 3)
    assert _flow(tmp_path, None, 0, 1)[0].cluster.kind == "process"


def test_corruptions_are_left_out_where_they_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, left_out = _flow(tmp_path, None, 0, 1)
    whole = flow.eval["main"].settings
    assert left_out == []
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)  # as if it were not installed
    flow, left_out = _flow(tmp_path, None, 0, 1)
    assert left_out == [word for word in whole if "." in word.partition("@")[0]]
    assert "drawings@pgd-10.eps1.input" in flow.eval["main"].settings
    assert set(flow.eval["main"].settings) == set(whole) - set(left_out)
