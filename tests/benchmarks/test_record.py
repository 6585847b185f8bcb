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


@pytest.mark.parametrize(("is_there", "told"), [(True, "H100"), (False, "no GPU")])
def test_a_gpu_is_named_where_there_is_one(
    is_there: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record.torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(record.torch.cuda, "get_device_name", lambda: "H100")
    assert record.machine().endswith(f", {told}")


@pytest.mark.parametrize("place", ["/home/somebody/cifar10", "../data/cifar10"])
def test_paths_of_one_machine_stay_out_of_it(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["join.py", "--data", place])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert record.command() == "OMP_NUM_THREADS=1 python benchmarks/join.py --data cifar10"
