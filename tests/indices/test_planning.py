"""The choice of a sketch: it pays where it is made, and says what it expects."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from indices.exact import join
from indices.kernels import precisions
from indices.planning import Plan, expected, plan_codes, plan_join, rescan, sample
from indices.prefix import record_type
from indices.sketch import Precision, Sketcher
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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_a_plan_of_another_machine_is_made_one_for_this(device: str, precision: Precision) -> None:
    basis = np.eye(8, 4, dtype=np.float32)
    plan = Plan(Sketcher(8, basis, precision), device).for_this_machine()
    assert plan.device == (device if torch.cuda.is_available() else "cpu")
    assert plan.sketcher.precision in precisions(plan.device)
    assert plan.sketcher.basis is basis
    if precision in precisions(plan.device):
        assert plan.sketcher.precision == precision
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float16)
    assert np.array_equal(join(rows, [rows], 0.3, plan=plan).item, join(rows, [rows], 0.3).item)


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


# --- stored codes --------------------------------------------------------------------------------


def test_codes_are_wider_for_a_lower_floor_and_in_the_fastest_precision() -> None:
    items = Stored([clip_like(12_000, 4)])
    high, low = (plan_codes(items, floor) for floor in (0.95, 0.65))
    assert high.sketcher.basis is not None
    assert low.sketcher.width > high.sketcher.width
    assert low.seconds > high.seconds
    assert high.sketcher.precision == low.sketcher.precision == precisions("cpu")[0]


def test_a_rescan_is_predicted_to_read_what_a_file_of_codes_has_per_item() -> None:
    items = Stored([clip_like(6000, 5)])
    plan = plan_codes(items, 0.95)
    gain = rescan(plan, 1_000_000, 512)
    assert gain.code_bytes == record_type(plan.sketcher).itemsize
    assert gain.vector_bytes == 512
    assert gain.ratio > 1


def test_the_slower_the_disk_the_more_stored_codes_gain() -> None:
    plan = plan_codes(Stored([clip_like(6000, 5)]), 0.95)
    quick, slow = (rescan(plan, 1000, 512, byte=byte).ratio for byte in (0.0, 3.0))
    assert quick < slow
    slowest = rescan(plan, 1000, 512, byte=1e6)
    assert slowest.ratio == pytest.approx(512 / slowest.code_bytes)


def test_fewer_queries_gain_more_and_seconds_grow_with_the_items() -> None:
    plan = plan_codes(Stored([clip_like(6000, 5)]), 0.95)
    few, many = (rescan(plan, 1000, 512, queries) for queries in (10, 100_000))
    assert few.ratio > many.ratio > 0
    assert few.fetched < many.fetched <= 1
    assert rescan(plan, 2000, 512, 10).by_codes == pytest.approx(2 * few.by_codes)


def test_a_lower_floor_than_codes_were_made_for_is_expected_to_take_longer() -> None:
    queries, items = Stored([clip_like(500, 6)]), Stored([clip_like(6000, 7)])
    sketcher = plan_codes(items, 0.95).sketcher
    high, low = (expected(sketcher, queries, items, floor) for floor in (0.95, 0.5))
    assert low.candidates > 100 * high.candidates
    assert low.seconds > 10 * high.seconds


def test_codes_are_planned_for_a_set_of_any_size() -> None:
    for count in (1, 2, 3, 50):
        plan = plan_codes(Stored([clip_like(count, 8)]), 0.9)
        assert plan.sketcher.dim == 256
    assert plan_codes(Stored([np.zeros((5, 256), np.float16)]), 0.9).sketcher.dim == 256
