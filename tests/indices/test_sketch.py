"""The certificate: no cosine is above what two sketches, and their codes, say it can be."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_twins import DTYPES, SHAPES, make_vectors

from indices.kernels import precisions
from indices.scores import pair_scores
from indices.sketch import Precision, Sketcher, directions, encode, turned

PRECISIONS = st.sampled_from(["int8", "bf16", "fp32"])


def any_sketcher(draw: st.DataObject, dim: int, precision: Precision) -> Sketcher:
    """Full, or along some columns of a random orthogonal matrix."""
    columns = draw.draw(st.integers(0, dim), label="columns")
    if columns == 0:
        return Sketcher(dim, None, precision)
    rng = np.random.default_rng(columns)
    leading, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    return Sketcher(dim, turned(leading, columns), precision)


def all_scores(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    i, j = np.divmod(np.arange(len(a) * len(b)), len(b))
    return pair_scores(a, b, i, j).astype(np.float64).reshape(len(a), len(b))


@settings(deadline=None, max_examples=150)
@given(st.data(), SHAPES, DTYPES, PRECISIONS, st.booleans())
def test_no_score_is_above_the_bound_of_sketches_and_codes(
    data: st.DataObject, shape: str, dtype: str, precision: Precision, one_scale: bool
) -> None:
    dim = data.draw(st.sampled_from([1, 2, 7, 64]), label="dim")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    a, b = (make_vectors(rng, 12, dim, shape, dtype) for _ in range(2))
    b[:4] = a[:4]
    sketcher = any_sketcher(data, dim, precision)
    s, t = (sketcher.sketches(rows, "cpu") for rows in (a, b))
    scores = all_scores(a, b)
    possible = scores > -np.inf
    sketched = (s.double() @ t.double().T).numpy()
    assert (scores <= sketched + sketcher.slack)[possible].all()

    x = encode(s, sketcher.columns, precision)
    y = encode(t, sketcher.columns, precision, one_scale=one_scale)
    coded = x.scale[:, None] * y.scale * (x.values.double() @ y.values.double().T)
    bound = coded + x.norm[:, None] * y.error + x.error[:, None] * (y.norm + y.error)
    assert (sketched <= bound.numpy() + 1e-12)[possible].all()
    usable = possible.any(axis=1)
    assert ((x.scale > 0).numpy() == (s.any(dim=1)).numpy()).all()
    assert (x.scale > 0).numpy()[usable].all()


@pytest.mark.parametrize("dim", [64, 512, 768])
def test_the_bound_is_tight_where_the_sketch_keeps_everything(dim: int) -> None:
    rng = np.random.default_rng(dim)
    low = rng.standard_normal((300, 8)) @ rng.standard_normal((8, dim))
    sketcher = Sketcher.of_width(10, directions(low), "fp32")
    a, b = low[:100].astype(np.float16), low[100:].astype(np.float16)
    s, t = (sketcher.sketches(rows, "cpu").double() for rows in (a, b))
    over = (s @ t.T).numpy() - all_scores(a, b)
    assert over.max() < 4 * sketcher.slack  # float16 leaves a residual of its own
    assert over.min() > -sketcher.slack


@pytest.mark.parametrize(("dim", "columns"), [(1, 1), (5, 2), (512, 62), (768, 254), (512, 512)])
def test_a_basis_never_lengthens_a_vector(dim: int, columns: int) -> None:
    leading, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))
    basis = turned(leading, columns).astype(np.float64)
    assert 1 - 1e-5 < np.linalg.norm(basis, 2) <= 1


def test_the_leading_directions_come_first_and_bad_rows_do_not_count() -> None:
    rows = np.zeros((40, 3))
    rows[:, 1] = np.linspace(1, 2, 40)
    rows[:7, 2] = 0.5
    rows[5:9] = [[np.nan] * 3, [0] * 3, [np.inf] * 3, [0] * 3]
    leading = directions(rows)
    assert np.abs(leading[:, 0]).argmax() == 1
    np.testing.assert_allclose(leading.T @ leading, np.eye(3), atol=1e-12)


def test_one_scale_serves_the_largest_row_and_no_code_overflows() -> None:
    sketches = torch.tensor([[1.0, 0.0, 1.0], [0.25, -0.25, 0.1], [0.0, 0.0, 0.0]])
    each = encode(sketches, 2, "int8")
    together = encode(sketches, 2, "int8", one_scale=True)
    # the residual, here of the first row, is rounded up
    assert each.values.abs().amax(dim=1).tolist() == [127, 126, 0]
    assert together.scale.tolist()[:2] == [together.scale[0]] * 2
    assert together.scale[2] == each.scale[2] == 0


def test_the_same_sample_gives_the_same_basis() -> None:
    rows = np.random.default_rng(1).standard_normal((50, 6))
    np.testing.assert_array_equal(turned(directions(rows), 3), turned(directions(rows), 3))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_rows_given_are_not_touched(dtype: str) -> None:
    rows = make_vectors(np.random.default_rng(2), 20, 8, "odd", dtype)
    before = rows.tobytes()
    Sketcher(8, None, "int8").sketches(rows, "cpu")
    assert rows.tobytes() == before


def test_this_machine_has_a_precision_to_sketch_in() -> None:
    assert precisions("cpu")[-1] == "fp32"
