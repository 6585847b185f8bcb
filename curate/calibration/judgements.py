"""People's words on pairs as one table with a digest, and what they say of a plan or of matches."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.errors import CurateError
from curate.files import digest
from curate.labels import judged, read_labels
from curate.storage import local_path

_PAIR = ["test_id", "train_id"]


@dataclass(frozen=True)
class Judgements:
    """What people say of pairs.

    Attributes:
        place: where the labels were read from.
        table: test_id, train_id, copy (null: nobody could tell), one row per pair, sorted.
        sha256: of the table's content.
        reviewers: how many people labelled.
    """

    place: str
    table: pl.DataFrame
    sha256: str
    reviewers: int

    def decided(self) -> pl.DataFrame:
        """The pairs of which somebody could tell."""
        return self.table.filter(pl.col("copy").is_not_null())

    def known(self, pairs: pl.DataFrame) -> int:
        """How many of the judged pairs are among some pairs.

        Raises:
            CurateError: none is, though there are some: these are labels of something else.
        """
        count = self.table.join(pairs, on=_PAIR, how="semi").height
        if self.table.height and not count:
            first = self.table.row(0, named=True)
            raise CurateError(
                f"{self.place}: none of its {self.table.height} pairs is in this run (the first: "
                f"{first['test_id']}, {first['train_id']}); give the labels of this run."
            )
        return count

    def to_json(self, pairs: pl.DataFrame) -> dict[str, Any]:
        """What a summary states of them: their digest, how many there are, how many are known."""
        known = self.known(pairs)
        return {
            "sha256": self.sha256,
            "pairs": self.table.height,
            "unknown": self.table.height - known,
            "reviewers": self.reviewers,
        }


def read_judgements(path: Path) -> Judgements:
    """Read labels, as `curate.labels.read_labels` does.

    Raises:
        CurateError: they cannot be read.
    """
    path = local_path(path)
    if not path.exists():
        raise CurateError(f"{path}: no labels are there. `curate review` writes them.")
    labels = read_labels(path)
    table = judged(labels).select(*_PAIR, "copy")
    return Judgements(str(path), table, digest(table.rows()), labels["reviewer"].n_unique())
