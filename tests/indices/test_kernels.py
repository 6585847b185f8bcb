"""Products of codes: exact where they say so, and never ruling out too much."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indices import kernels
from indices.kernels import (
    QueryBlock,
    buffer,
    candidates,
    plain_float32,
    precisions,
    query_blocks,
)
from indices.sketch import Precision, Sketcher, encode

PRECISIONS = st.sampled_from(["int8", "bf16", "fp32"])


def sides(
    seed: int, precision: Precision, dim: int
) -> tuple[torch.Tensor, torch.Tensor, Sketcher, list[QueryBlock]]:
    rng = np.random.default_rng(seed)
    sketcher = Sketcher(dim, None, precision)
    rows = rng.standard_normal((60, dim)).astype(np.float32)
    rows[::7] = 0
    queries, items = (sketcher.sketches(part, "cpu") for part in (rows[:25], rows[25:]))
    return queries, items, sketcher, list(query_blocks(queries, sketcher, 8))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), PRECISIONS, st.sampled_from([8, 40]), st.floats(-1, 1))
def test_every_pair_of_sketches_at_the_limit_is_a_candidate(
    seed: int, precision: Precision, dim: int, least: float
) -> None:
    queries, sketches, sketcher, blocks = sides(seed, precision, dim)
    items = encode(sketches, sketcher.columns, precision)
    proposed = set()
    for block in blocks:
        scores = block.scores(items, buffer(40 * 8, precision, "cpu"))
        for i, j in candidates(scores, block.limits(items, least)):
            proposed |= set(zip(block.numbers[j].tolist(), i.tolist(), strict=True))
    exact = (queries.double() @ sketches.double().T).numpy()
    exact[(queries == 0).all(dim=1)] = -9
    exact[:, (sketches == 0).all(dim=1)] = -9
    wanted = set(zip(*(side.tolist() for side in np.nonzero(exact >= least)), strict=True))
    assert wanted <= proposed
    if precision == "fp32":
        near = set(zip(*(side.tolist() for side in np.nonzero(exact >= least - 1e-4)), strict=True))
        assert proposed <= near


def test_queries_are_put_together_by_scale_and_none_is_lost() -> None:
    queries, _, _, blocks = sides(0, "int8", 16)
    numbers = np.concatenate([block.numbers for block in blocks])
    assert sorted(numbers) == np.flatnonzero(queries.any(dim=1).numpy()).tolist()
    tops = queries.abs().amax(dim=1).numpy()[numbers]
    assert (np.diff(tops) >= 0).all()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_sum_that_is_off_by_all_that_is_allowed_loses_no_pair(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, sketches, sketcher, blocks = sides(3, "fp32", 64)
    exact = queries.double() @ sketches.double().T
    items = encode(sketches, sketcher.columns, "fp32")
    off = 0.99 * 2 * 64 * 2.0**-24
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    for block in blocks:
        block._precision = precision
        scores = (exact[torch.from_numpy(block.numbers)].T - off).to(kind)
        for query in range(scores.shape[1]):
            for item in range(scores.shape[0]):
                least = float(exact[block.numbers[query], item])
                limit = block.limits(items, least)[item]
                assert items.scale[item] == 0 or scores[item, query] >= limit


@given(st.floats(-2, 2), st.sampled_from(["bf16", "fp32"]))
def test_limits_are_rounded_down(limit: float, precision: Precision) -> None:
    _, _, _, blocks = sides(0, "fp32", 8)
    blocks[0]._precision = precision
    rounded = blocks[0]._rounded_down(torch.tensor([limit], dtype=torch.float64))
    assert limit - 2.0**-7 <= rounded.double().item() <= limit


def test_an_int8_product_that_saturates_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """What vpmaddubsw makes of it: one side is made unsigned, pairs meet in 16 bits."""
        terms = (a.double() + 128)[:, :, None] * b.double()[None]
        pairs = terms.reshape(len(a), -1, 2, b.shape[1]).sum(dim=2).clamp(-32768, 32767)
        return (pairs.sum(dim=1) - 128 * b.double().sum(dim=0)).to(torch.int32)

    small = torch.ones(20, 64, dtype=torch.int8)
    assert (saturating(small, small.t()) == 64).all()

    if "int8" in precisions("cpu"):
        assert kernels._int8_is_exact()
    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not kernels._int8_is_exact()
    monkeypatch.delattr(torch, "_int_mm")
    assert not kernels._int8_is_exact()


def test_narrower_products_that_a_user_allowed_are_switched_off_for_a_while() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with plain_float32():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_very_many_candidates_come_in_pieces() -> None:
    scores = torch.ones(5000, 1000)
    pieces = list(candidates(scores, torch.full((5000,), 0.5)))
    assert len(pieces) > 1
    assert max(len(i) for i, _ in pieces) <= 2**20
    i, j = (torch.cat(side) for side in zip(*pieces, strict=True))
    assert len(torch.unique(i * 1000 + j)) == 5_000_000
