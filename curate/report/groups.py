"""The groups of a set that was compared with itself: how many of which size, and the largest."""

from dataclasses import dataclass

import polars as pl

from curate.report.gallery import Item, items
from curate.report.inputs import ReportInputs

# How many of the largest groups are shown, and how many images of each.
_GROUPS = 12
_MEMBERS = 6


@dataclass(frozen=True)
class SizeRow:
    """The groups of one size."""

    size: int
    groups: int
    images: int
    kept: int


@dataclass(frozen=True)
class Member:
    """An image of a group."""

    item: Item
    kept: bool


@dataclass(frozen=True)
class Group:
    """One group, and a few of its images: a kept one first, then the others in order."""

    size: int
    kept: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Groups:
    """All groups, by size, and the largest of them."""

    images: int
    kept: int
    sizes: tuple[SizeRow, ...]
    largest: tuple[Group, ...]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return sum(row.groups for row in self.sizes)


def find(inputs: ReportInputs) -> Groups | None:
    """The groups of a run; None where two sets were compared."""
    components = inputs.components
    if components is None:
        return None
    sizes = (
        components.group_by("size")
        .agg(pl.col("component").n_unique(), pl.len(), pl.col("kept").sum())
        .sort("size")
    )
    return Groups(
        images=components.height,
        kept=int(components["kept"].sum()),
        sizes=tuple(SizeRow(*row) for row in sizes.iter_rows()),
        largest=_largest(inputs, components),
    )


def _largest(inputs: ReportInputs, components: pl.DataFrame) -> tuple[Group, ...]:
    """The largest groups, the largest first; ties by their first images."""
    wanted = (
        components.group_by("component")
        .agg(pl.col("size").first(), pl.col("kept").sum().alias("number"))
        .sort("size", "component", descending=[True, False])
        .head(_GROUPS)
    )
    rows = components.filter(pl.col("component").is_in(wanted["component"].to_list()))
    few = {part: _few(rows.filter(pl.col("component") == part)) for part in wanted["component"]}
    known = items(inputs.test_metadata, [id_ for members in few.values() for id_, _ in members])
    return tuple(
        Group(size, number, tuple(Member(known[id_], kept) for id_, kept in few[part]))
        for part, size, number in wanted.iter_rows()
    )


def _few(group: pl.DataFrame) -> list[tuple[str, bool]]:
    """A kept image and those that come first of the others."""
    rows = group.select("id", "kept").with_row_index("order")
    first = rows.filter("kept").head(1)
    rest = rows.join(first, on="order", how="anti", maintain_order="left")
    return list(pl.concat([first, rest]).head(_MEMBERS).select("id", "kept").iter_rows())
