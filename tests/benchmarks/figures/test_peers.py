"""Tables of peers: ratios, ties, and rows that failed."""

import json
from pathlib import Path
from typing import Any

from benchmarks.figures.results import Results
from benchmarks.figures.tables import peers

COST = {"cpu_s": 20.0, "wall_s": 30.0, "peak_pss_mb": 1400}


def results(folder: Path, *rows: dict[str, Any]) -> Results:
    about = {"command": "python benchmarks/peers.py", "machine": "2 cores", "date": "2026-11-22"}
    path = folder / "peers.json"
    path.write_text(json.dumps({**about, "rows": rows}))
    return Results(folder)


def row(task: str, name: str, figures: dict[str, Any], **changed: Any) -> dict[str, Any]:
    one = {"task": task, "name": name, "environment": None, "versions": {}, "cost": COST}
    return {**one, "figures": figures, **changed}


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def copies(low: float, high: float) -> dict[str, Any]:
    recall = {"low": low, "expected": (low + high) / 2, "high": high}
    flagged = {"flagged": 955, "recall_listed": 0.7}
    return {"recall": {"@250": recall, "@500": recall, "@1000": None}, "at_best": flagged}


def test_costs_are_compared_with_ours_and_ties_told(tmp_path: Path) -> None:
    dear = {**COST, "cpu_s": 50.0}
    shown = cells(
        peers.peers_copies(
            results(
                tmp_path,
                row("copies", "curate builtin:layout", copies(0.5, 0.5)),
                row("copies", "PHash", copies(0.4, 0.6), cost=dear, environment="imagededup",
                    versions={"imagededup": "0.3.3"}),
            )
        )
    )  # fmt: skip
    assert shown[0][1:4] == ["0.500", "0.500", ""]
    assert shown[1][:2] == ["PHash 0.3.3", "0.500 (0.400 to 0.600)"]
    assert shown[1][4:] == ["", "", "955", "0.700", "50", "2.5 x", "30", "1,400"]


def test_a_row_that_failed_stands_below_the_table_with_its_reason(tmp_path: Path) -> None:
    failed = {"task": "zero-shot", "name": "clip-benchmark", "failed": "exit code 1: no tar"}
    text = peers.peers_zero_shot(
        results(tmp_path, row("zero-shot", "curate eval", {"accuracy": 0.88634}), failed)
    )
    assert cells(text) == [["curate eval", "88.63 %", "20", "1.0 x", "30", "1,400"]]
    assert "\n* clip-benchmark failed: exit code 1: no tar\n" in text


def test_speeds_are_compared_on_the_same_images_and_may_be_unknown(tmp_path: Path) -> None:
    figures = {"images": 4000, "images_per_cpu_s": 200.0, "images_per_wall_s": 90.0,
               "start_cpu_s": 6.0}  # fmt: skip
    slower = {**figures, "images_per_cpu_s": 50.0, "cosine_to_curate": {"mean": 1, "least": 0.9999}}
    unknown = {**figures, "images_per_cpu_s": None, "images_per_wall_s": None}
    shown = cells(
        peers.peers_embedding(
            results(
                tmp_path,
                row("embedding", "curate builtin:tiny-clip photos", figures),
                row("embedding", "clip-retrieval embed photos", slower),
                row("embedding", "clip-retrieval read cifar10", unknown),
            )
        )
    )
    assert [one[3] for one in shown] == ["1.00 x", "0.25 x", ""]
    assert shown[1][-1] == "0.9999"
    assert shown[2][2:5] == ["", "", ""]


def test_methods_are_compared_setting_by_setting(tmp_path: Path) -> None:
    runs = [
        {"name": name, "tau": tau, "seconds": seconds}
        for name, tau, seconds in (
            ("join", 0.9, 2.0), ("join", 0.95, 1.0), ("flat", 0.9, 5.0), ("flat", 0.95, 4.0),
        )
    ]  # fmt: skip
    rows = [{"attack": "pgd", "ours": {"seconds": 1.0}, "foolbox": {"slower": slower}}
            for slower in (0.9, 3.26)]  # fmt: skip
    shown = peers.peers_methods(
        results(
            tmp_path,
            row("join", "faiss join", {"runs": runs}),
            row("attacks", "attack libraries", {"rows": rows}),
            {"task": "train step", "name": "plain TeCoA step", "failed": "no memory"},
        )
    )
    assert cells(shown) == [
        ["join", "flat", "2", "2.5 x", "4.0 x"],
        ["attacks", "foolbox", "2", "0.9 x", "3.3 x"],
    ]
    assert "* plain TeCoA step failed: no memory" in shown
