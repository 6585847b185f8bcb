"""How large the sets of a flow are, from what is stated, known of earlier runs, or seen outside.

No shard is read but the first, of which the samples are counted: all of them where it is small, 500
of them else. The others are taken to hold as many for their bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from curate import artifacts
from curate.artifacts import MANIFEST
from curate.demo.build import COUNTS, SAMPLES_PER_SHARD
from curate.discover import open_dataset
from curate.errors import CurateError
from curate.shards import Dataset, ShardReader, shard_bytes
from pipelines.flow.ledger import StepBook
from pipelines.flow.steps import build_steps
from pipelines.planning.schedule import MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.flow.config import FlowConfig, SetConfig


_DEMO_IMAGE_BYTES = 15_500

_WHOLE = 16 << 20
_COUNTED = 500
_BLOCK = 512


class Part(NamedTuple):
    """Some shards: their samples and bytes, and how many they are."""

    samples: float
    bytes: float
    shards: int


@dataclass(frozen=True)
class SetSize:
    """How large a set is.

    Attributes:
        samples: of all shards.
        shards: bytes of each.
        how: where that is known from, in words.
    """

    samples: int
    shards: tuple[int, ...]
    how: str

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(self.shards)

    def parts(self) -> list[Part]:
        """The shards, samples in proportion to bytes; neighbours together where there are many."""
        whole, count = self.bytes, max(1, len(self.shards))
        size = math.ceil(count / MOST)
        found = []
        for at in range(0, count, size):
            some = self.shards[at : at + size]
            stored, units = sum(some), max(1, len(some))
            share = stored / whole if whole else units / count
            found.append(Part(self.samples * share, float(stored), units))
        return found


def sizes_of(flow: FlowConfig, run: Path) -> dict[str, SetSize]:
    """The sizes of all sets of a flow that some step reads.

    Args:
        flow: the flow.
        run: its folder, in which earlier steps may have left numbers.

    Raises:
        CurateError: a set is not there, and its size is not stated.
    """
    counted = _counted(flow, run)
    return {name: _size(name, source, run, counted) for name, source in flow.sets.items()}


def _counted(flow: FlowConfig, run: Path) -> dict[str, int]:
    """Samples of sets that earlier steps of the run have counted."""
    found = {}
    for step in build_steps(flow):
        if step.kind != "embed":
            continue
        record = StepBook(run, step.name).record()
        if record is not None and record.state == "done":
            found[step.config["name"]] = int(record.counts["samples"])
    return found


def _size(name: str, source: SetConfig, run: Path, counted: dict[str, int]) -> SetSize:
    if source.size is not None:
        size = source.size
        each = [size.bytes // size.shards] * size.shards
        return SetSize(size.samples, tuple(each), "stated")
    if source.embeddings is not None:
        return _vectors(name, source.embeddings)
    if source.demo is not None:
        count = COUNTS[source.demo]
        full, rest = divmod(count, SAMPLES_PER_SHARD)
        each = [SAMPLES_PER_SHARD] * full + [rest] * bool(rest)
        return SetSize(count, tuple(n * _DEMO_IMAGE_BYTES for n in each), "made here")
    specs: Sequence[str] = source.shards or (str(run / "sets" / name / "shards"),)
    try:
        dataset = open_dataset(specs, name)
    except CurateError as error:
        raise CurateError(_remedy(name, f"cannot be seen ({error})")) from error
    return _seen(name, dataset, counted.get(name))


def _vectors(name: str, specs: Sequence[str]) -> SetSize:
    folder = Path(specs[0])
    if not (folder / MANIFEST).is_file():
        raise CurateError(_remedy(name, "is vectors without a manifest"))
    counts = artifacts.read_manifest(folder).counts
    parts = (0,) * len(counts["vectors_per_part"])
    return SetSize(counts["samples"], parts, "manifest")


def _seen(name: str, dataset: Dataset, counted: int | None) -> SetSize:
    sizes = tuple(shard_bytes(dataset, shard) for shard in dataset.shards)
    if not sum(sizes):
        raise CurateError(_remedy(name, "does not tell how large it is"))
    if counted is not None:
        return SetSize(counted, sizes, "counted by an earlier run")
    samples, how = _estimate(dataset, sizes)
    return SetSize(samples, sizes, how)


def _estimate(dataset: Dataset, sizes: tuple[int, ...]) -> tuple[int, str]:
    """Samples of a set by those of its first shard."""
    at = next(number for number, size in enumerate(sizes) if size)
    most = None if sizes[at] <= _WHOLE else _COUNTED
    reader = ShardReader(dataset, dataset.shards[at])
    found = [sample for sample in islice(reader, most) if not sample.is_loose]
    if not found:
        raise CurateError(f"{dataset.shards[at].url}: no sample is in this shard.")
    if most is None or len(found) < most:
        share = sizes[at] / sum(sizes)
        how = "counted" if len(sizes) == 1 else "estimated by the first shard"
        return max(1, round(len(found) / share)), how
    stored = sum(
        (2 + (len(member.data or b"") - 1) // _BLOCK) * _BLOCK
        for sample in found
        for member in sample.members
    )
    return max(1, round(sum(sizes) * len(found) / stored)), f"estimated by {most} samples"


def _remedy(name: str, what: str) -> str:
    return (
        f"set {name}: {what}; state how large it is: sets.{name}.size: {{samples: 1000000, "
        "shards: 100, bytes: 50_000_000_000}."
    )
