"""Tables from made-up results: what is computed on the way to a cell."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures.results import Results
from benchmarks.figures.tables import TABLES

ABOUT = {"command": "python benchmarks/a.py", "machine": "2 cores", "date": "2026-11-22"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def rows(folder: Path, name: str, **files: Any) -> list[list[str]]:
    """The cells of a table made from these results, without its header."""
    for file, content in files.items():
        path = folder / f"{file.replace('_', '-')}.json"
        path.write_text(json.dumps({**ABOUT, **content}))
    lines = [line for line in TABLES[name](Results(folder)).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_table_tells_command_machine_day_and_file(folder: Path) -> None:
    run = {"items": 10, "gigabytes": 1, "seconds": 2, "cpu_seconds": 3, "peak_mib": 4}
    rows(folder, "joins-from-disk", scale={"runs": [run]})
    assert TABLES["joins-from-disk"](Results(folder)).endswith(
        "* `python benchmarks/a.py`\n"
        "  on 2 cores; 2026-11-22; [scale.json](../benchmarks/results/scale.json)"
    )


def test_seconds_from_a_disk_are_compared_by_item(folder: Path) -> None:
    run = {"gigabytes": 1, "cpu_seconds": 3, "peak_mib": 4}
    sizes = [{"items": 10, "seconds": 2, **run}, {"items": 100, "seconds": 25, **run}]
    found = rows(folder, "joins-from-disk", scale={"runs": sizes})
    assert [row[-1] for row in found] == ["1.00 x", "1.25 x"]


def test_others_seconds_come_with_how_many_times_as_long_they_take(folder: Path) -> None:
    runs = [
        {"name": "join", "tau": 0.75, "seconds": 8, "pairs": 7, "note": "full product in int8; x"},
        {"name": "join", "tau": 0.95, "seconds": 4, "pairs": 5, "note": "62 of 512 in int8; x"},
        {"name": "torch float32", "tau": 0.95, "seconds": 50, "pairs": 5, "note": ""},
    ]
    one = {"shape": [1, 1, 512], "runs": runs}
    found = rows(folder, "joins", join_clip=one, join_isotropic=one, join_real=one)
    assert found[0][1:6] == ["0.95", "**4.0**", "62 of 512 in int8", "", "50.0 (12.5 x)"]
    assert found[1][0] == ""
    assert found[1][1:6] == ["0.75", "**8.0**", "full product in int8", "", ""]


def test_a_kill_while_two_steps_were_under_way_counts_for_both(folder: Path) -> None:
    kills = {"client": {"dedup": 3, "dedup + index": 2}, "group": {}, "worker": {}, "scheduler": {}}
    found = {row[0]: row[1] for row in rows(folder, "kills", faults={"kills": kills})}
    assert (found["dedup"], found["index"], found["embed"]) == ("5", "2", "0")
    assert found["**kills**"] == "**5**"


def test_the_robust_shares_of_others_are_a_span_only_where_they_differ(folder: Path) -> None:
    ours = {"seconds": 2, "robust": 0.5, "of_ideal": 1.1}
    row = {"attack": "pgd-20", "eps": 4.0, "ours": ours}
    same = {"slower": 1.5, "robust": 0.5}
    versions = dict.fromkeys(("torchattacks", "torchattack", "foolbox", "pyautoattack"), "1")
    attacks = {
        "versions": versions,
        "rows": [
            {**row, "foolbox": same, "torchattack": same},
            {**row, "foolbox": same, "torchattack": {"slower": 2, "robust": 0.25}},
        ],
    }
    found = rows(folder, "attacks", attacks=attacks)
    assert [one[-1] for one in found] == ["0.500", "0.250 to 0.500"]
    assert found[0][0] == "pgd-20, 4/255"
    assert found[0][4] == ""


def test_hours_bytes_and_money_are_told_in_two_digits(folder: Path) -> None:
    plan = {
        "images": 400_000_000, "network": "SSCD", "read_bytes": 1.12e13, "gpu_hours": 24.39,
        "vector_bytes": 4.43e11, "join_flops": 5.12e15, "join_seconds": 241, "hours": 0.461,
        "money": 82.6,
    }  # fmt: skip
    expected = ["400 M", "11 TB", "SSCD", "24", "0.44 TB", "5.1 P, 4 min", "0.46", "83"]
    assert rows(folder, "large-plans", large={"plans": [plan]}) == [expected]
