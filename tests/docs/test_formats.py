"""docs/formats.md against the code: every table's columns and types, every artifact's file."""

import importlib
import re

import polars as pl
import pytest
from markdown import ROOT

PAGE = (ROOT / "docs" / "formats.md").read_text("utf-8")
_TABLE = re.compile(r"<!-- schema: (\S+) -->\n\n((?:\|.*\n)+)")
TABLES: dict[str, str] = dict(_TABLE.findall(PAGE))
HIDDEN = {
    "curate.verification.stage", "curate.matches", "curate.keep", "curate.calibration.units",
    "curate.calibration.planted._CHOICE", "pipelines.report", "train.data", "eval.datasets.evalset",
    "eval.figures.metrics", "eval.figures.health",
}  # fmt: skip
"""Schemas of frames that are never stored."""


def schema(name: str) -> pl.Schema:
    module, _, what = name.rpartition(".")
    found = getattr(importlib.import_module(module), what)
    assert isinstance(found, pl.Schema)
    return found


def documented(table: str) -> dict[str, str]:
    """Type by column, in the order of the table."""
    found: dict[str, str] = {}
    for line in table.splitlines()[2:]:
        names, kind, meaning = (cell.strip() for cell in line.strip("|").split("|"))
        assert meaning, line
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), kind)
    return found


def word(kind: pl.DataType) -> str:
    if isinstance(kind, pl.List):
        assert isinstance(kind.inner, pl.DataType)
        return f"list[{word(kind.inner)}]"
    return str(kind).lower()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_documented_as_it_is_written(name: str) -> None:
    code = {column: word(kind) for column, kind in schema(name).items()}
    assert documented(TABLES[name]) == code


def test_every_schema_that_is_stored_is_documented() -> None:
    pattern = re.compile(r"^(\w+)(?:: \S+)? = pl\.Schema\(", re.MULTILINE)
    for floor in ("curate", "eval", "train", "pipelines"):
        for path in sorted((ROOT / floor).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name in pattern.findall(path.read_text("utf-8")):
                known = {f"{module}.{name}", module} & (set(TABLES) | HIDDEN)
                assert known, f"{module}.{name} is neither in docs/formats.md nor hidden here"


def test_every_file_that_the_code_names_is_documented() -> None:
    pattern = re.compile(
        r'^_?[A-Z_]+ = "([\w.]+\.(?:json|jsonl|parquet|csv|npz|faiss))"', re.MULTILINE
    )
    inner = {  # shipped, gone at the end, or another's
        "rev_class_idx_map.json",
        "ytbb_robustness_test_anchors_full.csv",
        "copy_net.safetensors", "layout_basis.npz", "pixels.json", "metrics.jsonl",
        "answer.parquet",
    }  # fmt: skip
    found = set()
    for floor in ("curate", "eval", "train", "pipelines"):
        for path in sorted((ROOT / floor).rglob("*.py")):
            found |= set(pattern.findall(path.read_text("utf-8"))) - inner
    assert len(found) > 15
    for name in sorted(found):
        assert name in PAGE, name
