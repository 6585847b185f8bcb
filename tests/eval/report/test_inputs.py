from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from curate.errors import CurateError
from eval.report import Inputs
from eval.report.inputs import check

if TYPE_CHECKING:
    from numpy.typing import NDArray


def test_a_whole_evaluation_is_fine(inputs: Inputs) -> None:
    check(inputs)


def test_a_report_needs_results_and_each_one_once(inputs: Inputs) -> None:
    with pytest.raises(CurateError, match="at least one result"):
        check(Inputs(()))
    with pytest.raises(CurateError, match="two results of builtin:tiny-clip on cifar10"):
        check(replace(inputs, results=(inputs.results[0],) * 2))


def test_figures_of_different_things_do_not_stand_side_by_side(inputs: Inputs) -> None:
    first, other = (item for item in inputs.results if str(item.setting) == "cifar10")
    seeds = [replace(item, facts={"setting": {"seed": i}}) for i, item in enumerate((first, other))]
    with pytest.raises(CurateError, match="setting cifar10: results differ in seed"):
        check(replace(inputs, results=tuple(seeds)))
    weights = [
        replace(item, facts={"model": {"weights": i}}) for i, item in enumerate(inputs.results[:2])
    ]
    with pytest.raises(CurateError, match="model builtin:tiny-clip: results differ in weights"):
        check(replace(inputs, results=tuple(weights)))
    check(replace(inputs, results=(seeds[0], replace(other, facts={"setting": {"seed": 0}}))))


@pytest.mark.parametrize(
    ("attacked", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), "of one size"),
        (np.zeros((32, 32), np.float32), r"pictures \(H, W, 3\)"),
        (np.full((32, 32, 3), 1.1, np.float32), "within 0 and 1"),
        (np.full((32, 32, 3), np.nan, np.float32), "within 0 and 1"),
    ],
)
def test_pictures_that_cannot_be_compared_are_refused(
    inputs: Inputs, attacked: NDArray[np.float32], message: str
) -> None:
    bad = replace(inputs.examples[0], attacked=attacked)
    with pytest.raises(CurateError, match=message):
        check(replace(inputs, examples=(bad,)))
