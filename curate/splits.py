"""Decisions -> a split on disk: id lists, shards in the layout they came in, `split.json`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from curate import artifacts, shards, tables
from curate.artifacts import Manifest
from curate.errors import CurateError, GateError
from curate.files import write_bytes, write_json
from curate.shards import Dataset, Shard
from curate.units import RunUnits, results, run_in_process

DECISIONS_FILE = "decisions.parquet"
SPLIT_FILE = "split.json"
COMPONENTS_FILE = "components.parquet"
KINDS = ("clean", "overlap", "control")


@dataclass(frozen=True)
class SplitUnit:
    """One shard of which the samples with keys in `keep` are written below `out`."""

    dataset: Dataset
    shard: Shard
    sha256: str
    out: str
    keep: frozenset[str]

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"write {Path(self.out).name}/{self.shard.name}"


def write_unit(unit: SplitUnit) -> None:
    """Write one shard of a split.

    Raises:
        GateError: the shard is not the one that was embedded.
    """
    reader = shards.write_split(unit.dataset, unit.shard, Path(unit.out), unit.keep.__contains__)
    if reader.sha256 != unit.sha256:
        raise GateError(
            f"{unit.shard.url}: changed since it was embedded; run `curate dedup` again."
        )


def write_split(
    dataset: Dataset,
    decisions: pl.DataFrame,
    manifest: Manifest,
    summary: dict[str, Any],
    out: Path,
    *,
    components: pl.DataFrame | None = None,
    kinds: Sequence[str] = ("clean",),
    shard_digests: dict[str, str],
    run_units: RunUnits = run_in_process,
) -> Manifest:
    """Write id lists, decisions and the shards of the wanted kinds into the artifact folder `out`.

    Args:
        dataset: the set that was decided on.
        decisions: one row per sample.
        manifest: kind, config and inputs of the artifact.
        summary: what `split.json` says.
        out: the artifact's folder.
        components: `tables.COMPONENTS` of a set that was compared with itself.
        kinds: of `KINDS`, which to write as shards.
        shard_digests: digest of every shard when it was embedded, by name.
        run_units: runs the units, one per shard and kind.

    Raises:
        GateError: the data set has lost or gained shards since it was embedded.
        PartialRunError: some shards could not be written, or changed since they were embedded.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise CurateError(f"--write {min(unknown)}: one of {', '.join(KINDS)} was expected.")
    if kinds:
        _check_shards(dataset, shard_digests)
    work = artifacts.work_folder(out, manifest.key)
    _write_lists(work, decisions)
    if components is not None:
        tables.write_table(work / COMPONENTS_FILE, components, tables.COMPONENTS)
    bare = replace(dataset, shards=(), side_files=())
    units = [
        SplitUnit(bare, shard, shard_digests[shard.name], str(work / kind), keep)
        for kind in kinds
        for shard, keep in _kept_keys(dataset, decisions, kind)
    ]
    results(run_units(write_unit, units), f"write {dataset.name}")
    for kind in kinds:
        shards.write_side_files(dataset, work / kind)
    write_json(work / SPLIT_FILE, summary)
    return artifacts.commit(work, out, replace(manifest, counts=summary["counts"]))


def _check_shards(dataset: Dataset, digests: dict[str, str]) -> None:
    changed = {shard.name for shard in dataset.shards} ^ digests.keys()
    if changed:
        raise GateError(
            f"{dataset.name}: shard {min(changed)} was added or removed since the set was "
            "embedded; run `curate dedup` again."
        )


def read_decisions(split: Path) -> pl.DataFrame:
    """The decisions of a finished split."""
    return tables.read_table(split / DECISIONS_FILE, tables.DECISIONS)


def read_components(split: Path) -> pl.DataFrame | None:
    """The groups of a finished split of a set that was compared with itself; None of another."""
    path = split / COMPONENTS_FILE
    return tables.read_table(path, tables.COMPONENTS) if path.is_file() else None


def in_kind(kind: str) -> pl.Expr:
    """Which decisions belong to the clean, overlap, unknown or control split."""
    return pl.col("control") if kind == "control" else pl.col("decision") == kind


def _write_lists(work: Path, decisions: pl.DataFrame) -> None:
    tables.write_table(work / DECISIONS_FILE, decisions, tables.DECISIONS)
    for kind in (*KINDS, "unknown"):
        ids = decisions.filter(in_kind(kind))["id"]
        write_bytes(work / f"{kind}_ids.txt", "".join(f"{id_}\n" for id_ in ids).encode())


def _kept_keys(
    dataset: Dataset, decisions: pl.DataFrame, kind: str
) -> list[tuple[Shard, frozenset[str]]]:
    kept = decisions.filter(in_kind(kind)).group_by("shard").agg("key")
    keys = {shard: frozenset(names) for shard, names in kept.iter_rows()}
    return [(shard, keys.get(shard.name, frozenset())) for shard in dataset.shards]
