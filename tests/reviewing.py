"""Pairs to judge without a search: any scores a test asks for, of pictures that are there."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pictures import encoded, picture, write_set

from curate.discover import open_dataset
from curate.review import ReviewInputs

PAIRS = pl.Schema({
    "test_id": pl.String, "train_id": pl.String, "score": pl.Float32, "view": pl.String,
    "rank": pl.Int32, "test_sha256": pl.String, "train_sha256": pl.String,
})  # fmt: skip
TAU, FLOOR = 0.9, 0.8


def item(number: int) -> str:
    return f"00000:{number:06d}"


def digest(number: int) -> str:
    return hashlib.sha256(encoded(picture(number))).hexdigest()


def row(test: int, train: int, score: float, **more: Any) -> dict[str, Any]:
    """A pair of the pictures with these seeds."""
    return {
        "test_id": item(test), "train_id": item(train), "score": score, "view": "identity",
        "rank": 1, "test_sha256": digest(test), "train_sha256": digest(train), **more,
    }  # fmt: skip


def write_pairs(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A pairs.parquet, with `rejected` and `cosine` where a row has them."""
    extra = {"rejected": pl.String, "cosine": pl.Float32}
    schema = {**PAIRS, **{name: extra[name] for name in extra if any(name in r for r in rows)}}
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(list(rows), schema=schema, orient="row").write_parquet(path)
    return path


def inputs(root: Path, rows: Sequence[dict[str, Any]], **more: Any) -> ReviewInputs:
    """What a session needs; pictures 0..9 are the test set, 10..19 the train set."""
    if not (root / "test").exists():
        write_set(root / "test", [range(10)])
        write_set(root / "train", [range(10, 20)])
    given: dict[str, Any] = {
        "run": root / "run", "pairs": write_pairs(root / "run" / "pairs.parquet", rows),
        "test": open_dataset(str(root / "test")), "train": open_dataset(str(root / "train")),
        "names": {"test": "test", "train": "train"}, "threshold": TAU, "floor": FLOOR,
        "reviewer": "anna",
    }  # fmt: skip
    return ReviewInputs(**{**given, **more})
