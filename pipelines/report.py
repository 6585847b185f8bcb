"""The report of a run, made from its artifacts and the images that they name."""

import shlex
from pathlib import Path
from typing import Any

import polars as pl

from curate import artifacts, shards, tables
from curate.artifacts import Manifest
from curate.embed import source_of
from curate.errors import CurateError
from curate.files import read_json
from curate.parts import Embeddings
from curate.report import ReportInputs, Side, build_report
from curate.splits import SPLIT_FILE, read_components, read_decisions
from pipelines.dedup import RunParts, open_run


def write_report(run: Path) -> Path:
    """Write `report/index.html` of a run, or keep it when nothing changed; returns its path."""
    with artifacts.run_lock(run):
        found = open_run(run)
        split = artifacts.read_manifest(found.split)
        inputs = [
            {"name": "split", "sha256": split.id},
            {"name": "matches", "sha256": found.matches.manifest.id},
        ]
        manifest = Manifest("report", {"encoder": split.config["encoder"]}, inputs)
        out = run / "report"
        if not artifacts.finished(out, manifest.key):
            work = artifacts.work_folder(out, manifest.key)
            build_report(_inputs(found, split), work)
            artifacts.commit(work, out, manifest)
        return out / "index.html"


def _inputs(found: RunParts, split: Manifest) -> ReportInputs:
    summary = read_json(found.split / SPLIT_FILE)
    command = _command(summary)
    sides = {"test": found.test, "train": found.train}
    pairs, nearest = found.matches.pairs(), found.matches.nearest()
    if summary["policy"] == "strip-train":
        sides = {"test": found.train, "train": found.test}
        summary |= {"test": found.train.name, "train": found.test.name}
        pairs, nearest = _from_the_other_side(pairs)
    if summary["policy"] == "within":
        pairs = _both_ways(pairs)
    manifests = {
        "split": split.to_json(),
        "matches": found.matches.manifest.to_json(),
        **{f"{name} embeddings": side.manifest.to_json() for name, side in sides.items()},
    }

    def load_images(side: Side, ids: list[str]) -> dict[str, bytes]:
        return _images(sides[side], set(ids))

    return ReportInputs(
        split=summary,
        decisions=read_decisions(found.split),
        pairs=pairs,
        nearest=nearest,
        status=sides["test"].all_status(),
        manifests=manifests,
        load_images=load_images,
        test_metadata=sides["test"].all_metadata(),
        components=read_components(found.split),
        command=command,
    )


def _from_the_other_side(pairs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pairs and nearest as they look when the train items are the ones that are decided on."""
    turned = _turned(pairs)
    nearest = (
        turned.sort("test_id", "score", "train_id", descending=[False, True, False])
        .unique("test_id", keep="first", maintain_order=True)
        .with_columns(pairs=pl.lit(1), overflow=pl.lit(value=False))
        .select(tables.NEAREST.names())
    )
    return turned, nearest


def _turned(pairs: pl.DataFrame) -> pl.DataFrame:
    swap = {"test_id": "train_id", "test_sha256": "train_sha256"}
    return pairs.rename({**swap, **{there: here for here, there in swap.items()}})


def _both_ways(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of one set, stored with the later item first, from the side of either item."""
    return pl.concat([pairs, _turned(pairs).select(pairs.columns)])


def _images(side: Embeddings, ids: set[str]) -> dict[str, bytes]:
    """The images of some ids; none when the shards have gone, so that the report can be made."""
    try:
        return shards.read_images(source_of(side), ids)
    except CurateError:
        return {}


def _command(summary: dict[str, Any]) -> str:
    """The command line that gives this split, with the sets by name."""
    train = ["--within"] if summary["policy"] == "within" else ["--train", summary["train"]]
    strip = ["--strip", "train"] if summary["policy"] == "strip-train" else []
    keep = ["--keep", summary["keep"]] if summary.get("keep", "first") != "first" else []
    return shlex.join([
        *("curate", "dedup", "--test", summary["test"], *train, *strip, *keep),
        *("--detector", summary["detector"]["name"], "--threshold", f"{summary['threshold']:g}"),
        *("--floor", f"{summary['floor']:g}", "--seed", str(summary["seed"])),
    ])  # fmt: skip
