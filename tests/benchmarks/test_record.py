"""What a result says of itself."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import record


def test_a_result_names_command_day_and_machine_before_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["/somewhere/benchmarks/join.py", "--kind", "clip", "--out", "results/clip.json"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    record.write_result(tmp_path / "clip.json", {"z": 1, "a": "é"})
    result = json.loads((tmp_path / "clip.json").read_text("utf-8"))
    assert list(result) == ["command", "date", "machine", "z", "a"]
    assert result["command"] == "python benchmarks/join.py --kind clip --out results/clip.json"
    assert result["a"] == "é"


def test_paths_of_one_machine_stay_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["join.py", "--data", "/home/somebody/cifar10"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert record.command() == "OMP_NUM_THREADS=1 python benchmarks/join.py --data cifar10"
