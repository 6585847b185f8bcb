"""Splits of any set without a search: every n-th sample is overlap, the others are clean."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from curate import tables
from curate.artifacts import Manifest
from curate.samples import Sample
from curate.shards import Dataset, ShardReader
from curate.splits import write_split


def is_third(position: int, _sample: Sample) -> bool:
    return position % 3 == 1


def split_of(
    dataset: Dataset,
    out: Path,
    is_overlap: Callable[[int, Sample], bool] = is_third,
    kinds: tuple[str, ...] = ("clean",),
) -> Path:
    """Write a split folder; samples without members are unknown, as what was never fetched is."""
    rows, digests = [], {}
    for shard in dataset.shards:
        reader = ShardReader(dataset, shard)
        samples = [sample for sample in reader if not sample.is_loose]
        for position, sample in enumerate(samples):
            word = "overlap" if is_overlap(position, sample) else "clean"
            rows.append({
                "id": f"{shard.name}:{sample.key}", "shard": shard.name, "key": sample.key,
                "position": position, "label": sample.label, "reason": "", "control": False,
                "decision": word if sample.members else "unknown",
            })  # fmt: skip
        digests[shard.name] = reader.sha256
    decisions = tables.rows(rows, tables.DECISIONS)
    counts = {kind: decisions.filter(pl.col("decision") == kind).height for kind in ("clean",)}
    write_split(
        dataset, decisions, Manifest("split", {"test": dataset.name}, []),
        {"counts": counts}, out, kinds=kinds, shard_digests=digests,
    )  # fmt: skip
    return out
