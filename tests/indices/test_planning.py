"""The choice of a sketch: it pays where it is made, and says what it expects."""

import numpy as np
import pytest
from numpy.typing import NDArray

from indices.exact import join
from indices.kernels import precisions
from indices.planning import plan_join, sample
from indices.stored import Stored


def clip_like(count: int, seed: int, dim: int = 256) -> NDArray[np.float16]:
    """A mean cosine of about one half and a power-law spectrum."""
    spectrum = np.arange(1, dim + 1) ** -0.5
    noise = np.random.default_rng(seed).standard_normal((count, dim)) * spectrum
    return (noise / np.linalg.norm(spectrum) + dim**-0.5).astype(np.float16)


def test_few_columns_do_at_a_high_floor_and_more_are_wanted_further_down() -> None:
    queries, items = Stored([clip_like(6000, 0)]), Stored([clip_like(6000, 1)])
    high, low = (plan_join(queries, items, floor) for floor in (0.95, 0.6))
    assert high.sketcher.basis is not None
    assert high.sketcher.width < 128
    assert low.sketcher.width > high.sketcher.width
    assert low.seconds > high.seconds
    assert "scored exactly" in high.reason


def test_where_pruning_rules_out_nothing_the_full_product_is_taken() -> None:
    rng = np.random.default_rng(0)
    items = Stored([rng.standard_normal((6000, 64)).astype(np.float16)])
    plan = plan_join(items, items, 0.3)
    assert plan.sketcher.basis is None
    assert "full product" in plan.reason


def test_small_joins_are_not_planned_for_long() -> None:
    small = Stored([clip_like(100, 0)])
    assert plan_join(small, small, 0.95).sketcher.basis is None
    assert plan_join(Stored([]), Stored([]), 0.95).sketcher.dim == 1


def test_the_expected_share_of_candidates_is_near_the_share_of_pairs() -> None:
    queries, items = clip_like(8000, 2), clip_like(8000, 3)
    plan = plan_join(Stored([queries]), Stored([items]), 0.65)
    found = join(queries, [items], 0.65, plan=plan)
    share = found.count.sum() / 8000**2
    assert share * 0.5 < plan.candidates < share * 20 + 1e-6


def test_the_same_sets_get_the_same_plan() -> None:
    stored = Stored([clip_like(6000, 0)])
    first, second = (plan_join(stored, stored, 0.9, within=True) for _ in range(2))
    assert first.reason == second.reason
    assert first.seconds == second.seconds


@pytest.mark.parametrize("count", [0, 5, 4096, 50_000])
def test_a_sample_is_spread_evenly_in_runs(count: int) -> None:
    rows = np.arange(count, dtype=np.float32)[:, None]
    if not count:
        return
    drawn = sample(Stored([rows[: count // 3], rows[count // 3 :]]), 4096)[:, 0]
    assert len(drawn) == min(count, 4096)
    assert (np.diff(drawn) > 0).all()
    assert drawn[0] == 0
    assert drawn[-1] == count - 1


def test_the_first_precision_is_tried_at_every_width() -> None:
    stored = Stored([clip_like(6000, 0)])
    plan = plan_join(stored, stored, 0.95)
    assert plan.sketcher.precision == precisions("cpu")[0]
