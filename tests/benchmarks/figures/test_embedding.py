"""Tables of embedding: runs beside loops, scaled decoding beside exact."""

import json
from pathlib import Path
from typing import Any

from benchmarks.figures.results import Results
from benchmarks.figures.tables import embedding


def results(folder: Path, name: str, **figures: Any) -> Results:
    about = {"command": "python benchmarks/a.py", "machine": "2 cores", "date": "2026-11-22"}
    (folder / f"{name}.json").write_text(json.dumps({**about, **figures}))
    return Results(folder)


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_plain_loop_is_compared_with_the_run_decoded_whole_and_scaled(tmp_path: Path) -> None:
    run = {"forward_share": 0.25}
    one = {
        "forward": 1, "exact": {"run": 4, **run}, "scaled": {"run": 2, **run},
        "plain": {"run": 9},
    }  # fmt: skip
    found = cells(
        embedding.embedding(results(tmp_path, "embedding", encoders={"a": one}, usual_reader_ms=8))
    )
    assert found[0][2:4] == ["4.00", "25.0 %"]
    assert found[0][-5:] == ["9.00", "2.2 x", "4.5 x", "2.0 x", "4.0 x"]


def test_runs_on_two_cores_stand_beside_the_forward_alone(tmp_path: Path) -> None:
    runs = {"exact": {"run": 4, "forward_share": 0.25}, "scaled": {"run": 2, "forward_share": 0.5}}
    told = results(tmp_path, "embedding-2-cores", encoders={"a": {"forward": 1, **runs}})
    assert cells(embedding.embedding_two_cores(told)) == [
        ["`a`", "1.00", "4.00", "25.0 %", "2.00", "50.0 %"]
    ]


def test_decisions_of_both_decodings_stand_beside_each_other(tmp_path: Path) -> None:
    cosine = {"q0": 0.9, "q0.01": 0.95, "mean": 0.99}
    decided = {"of": 1560, "exact": 1200, "scaled": 1190}
    one = {"photos": cosine, "copies": cosine, "found": decided, "wrongly_flagged": decided}
    told = results(tmp_path, "scaled-decoding", detectors={"builtin:copy": one})
    found = cells(embedding.scaled_decoding(told))
    assert found[0][1:4] == ["0.9000", "0.9500", "0.9900"]
    assert found[0][-1] == "1,200 / 1,190 of 1,560"
