from collections.abc import Callable

import polars as pl

from curate import tables
from curate.report import ReportInputs, groups


def components_of(run: ReportInputs, sizes: list[int]) -> pl.DataFrame:
    """Groups of these sizes over the images in order; the second of each is kept."""
    ids = iter(run.decisions["id"])
    return tables.rows(
        [
            {"id": next(ids), "component": number, "size": size, "kept": at == 1}
            for number, size in enumerate(sizes)
            for at in range(size)
        ],
        tables.COMPONENTS,
    )


def with_groups(run: ReportInputs, sizes: list[int]) -> ReportInputs:
    return ReportInputs(**{**vars(run), "components": components_of(run, sizes)})


def test_two_sets_have_no_groups(run: ReportInputs) -> None:
    assert groups.find(run) is None


def test_groups_are_counted_by_size(run: ReportInputs) -> None:
    found = groups.find(with_groups(run, [2, 3, 2, 9]))
    assert found is not None
    assert found.sizes == (
        groups.SizeRow(2, 2, 4, 2), groups.SizeRow(3, 1, 3, 1), groups.SizeRow(9, 1, 9, 1),
    )  # fmt: skip
    assert (found.count, found.images, found.kept) == (4, 16, 4)


def test_the_largest_groups_come_first_with_a_kept_image_and_a_few_others(
    run: ReportInputs,
) -> None:
    found = groups.find(with_groups(run, [2, 9, 3, 9, *[2] * 20]))
    assert found is not None
    assert [group.size for group in found.largest] == [9, 9, 3, *[2] * 9]
    ids = run.decisions["id"].to_list()
    shown = [member.item.id for member in found.largest[0].members]
    assert shown == [ids[3], ids[2], *ids[4:8]]
    assert [member.kept for member in found.largest[0].members] == [True, *[False] * 5]
    assert found.largest[0].members[0].item.height == 32


def test_a_set_without_matches_has_no_group_to_show(a_run: Callable[..., ReportInputs]) -> None:
    found = groups.find(with_groups(a_run(tests=20), []))
    assert found == groups.Groups(0, 0, (), ())
