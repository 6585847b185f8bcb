"""What a model is trained on: samples of a data set, their labels, and a digest for them.

A table of ids is held in memory; images and captions stay where they are.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import polars as pl

from curate.draw import lowest
from curate.errors import CurateError
from curate.lookup import Samples
from curate.shards import Dataset

SAMPLES = pl.Schema({"id": pl.String, "label": pl.Int32})


@dataclass(frozen=True)
class Source:
    """Where a training set comes from, as a model card states it.

    Attributes:
        kind: a split that curate wrote, shards with a list of ids, or shards as they are.
        name: of the data set.
        digest: SHA-256 (hex) that changes with the samples: the split's manifest id; else a digest
            of the id list and of the shards' bytes (or of the split that the list belongs to).
        split: manifest id of the split that the samples were chosen by, if any.
    """

    kind: Literal["split", "ids", "shards"]
    name: str
    digest: str
    split: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The facts for a model card."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class TrainSet:
    """The samples of a training set.

    Attributes:
        dataset: the data set; only shards that hold some of the samples.
        samples: `SAMPLES`, shard after shard in order; `label` is a place in `classes`, or null.
        sizes: how many of the samples each shard holds.
        classes: the names of the classes.
        source: where it comes from.
        lost: samples without files, which img2dataset could not fetch; they are left out.
    """

    dataset: Dataset
    samples: pl.DataFrame
    sizes: tuple[int, ...]
    classes: tuple[str, ...]
    source: Source
    lost: int = 0

    @property
    def is_labelled(self) -> bool:
        """True when every sample has a label."""
        return self.samples["label"].null_count() == 0

    def url(self, id_: str) -> str:
        """The shard that a sample is in, for messages."""
        name = id_.partition(":")[0]
        return next(shard.url for shard in self.dataset.shards if shard.name == name)


def need_labels(trainset: TrainSet) -> None:
    """Check that a loss that needs labels can be computed for every sample.

    Raises:
        CurateError: a sample has no label.
    """
    unlabelled = trainset.samples.filter(pl.col("label").is_null())
    if not unlabelled.is_empty():
        id_ = unlabelled["id"][0]
        raise CurateError(
            f"{trainset.url(id_)}: sample {id_.partition(':')[2]} has no label, as "
            f"{unlabelled.height} of {trainset.samples.height} samples have not, and this loss "
            "needs one for each. Choose a loss without labels, or leave them out with a list of "
            "ids."
        )


def need_captions(trainset: TrainSet) -> None:
    """Check the first sample for a caption; the loader checks each that it reads.

    Raises:
        CurateError: it has none.
    """
    id_ = trainset.samples["id"][0]
    sample = Samples(trainset.dataset).read(id_)
    if sample is None or sample.caption is None:
        raise lacks_caption(trainset.url(id_), id_)


def lacks_caption(url: str, id_: str) -> CurateError:
    """What is said of a sample without a caption, for a loss that needs it."""
    return CurateError(
        f"{url}: sample {id_.partition(':')[2]} has no caption (a .txt member, or `caption` in "
        "its .json), and this loss needs one for each. Choose a loss without captions, or leave "
        "the sample out with a list of ids."
    )


def hold_out(trainset: TrainSet, count: int, seed: int) -> tuple[TrainSet, TrainSet]:
    """Split off `count` samples for validation: those with the lowest digests of (seed, id).

    So the choice depends on no order, and a sample that comes or goes moves at most one other.

    Returns:
        What is left to train on, and what was held out; both in the set's order.

    Raises:
        CurateError: that leaves nothing on either side.
    """
    if not 0 < count < trainset.samples.height:
        raise CurateError(
            f"{count} samples cannot be held out of {trainset.samples.height}; give a number "
            "between."
        )
    rows = pl.Series(lowest(trainset.samples["id"], count, seed))
    held = pl.int_range(trainset.samples.height, eager=True).is_in(rows.implode())
    return _subset(trainset, ~held), _subset(trainset, held)


def _subset(trainset: TrainSet, keep: pl.Series) -> TrainSet:
    sizes, first = [], 0
    for size in trainset.sizes:
        sizes.append(int(keep[first : first + size].sum()))
        first += size
    shards = [shard for shard, n in zip(trainset.dataset.shards, sizes, strict=True) if n]
    return replace(
        trainset,
        dataset=replace(trainset.dataset, shards=tuple(shards)),
        samples=trainset.samples.filter(keep).rechunk(),
        sizes=tuple(filter(None, sizes)),
    )
