import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from train.tiny_clip.muon import Muon, orthogonal


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5))
def test_directions_stay_and_singular_values_come_near_one(m: int, n: int, seed: int) -> None:
    matrix = torch.randn(m, n, generator=torch.Generator().manual_seed(seed))
    found = orthogonal(matrix)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    along = torch.diagonal(u.T @ found @ v.T)
    assert found.shape == matrix.shape
    assert (along > -0.05).all()  # a value near zero may stay there
    assert (along < 1.4).all()
    large = s / s.norm() > 0.2
    assert (along[large] > 0.4).all()
    assert torch.allclose(u.T @ found @ v.T, torch.diag(along), atol=0.06)


def test_a_zero_gradient_moves_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_kernels_are_taken_as_matrices_and_loss_falls() -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 3, 3, 3, generator=generator))
    target = torch.randn(8, 3, 3, 3, generator=generator)
    optimizer = Muon([kernel], 0.1)
    losses = []
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 0.5 * (1 - step / 60)
        loss = (kernel - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_weights_shrink_by_the_rate_times_the_decay(decay: float) -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.zeros(2, 2)
    Muon([weight], 0.1, weight_decay=decay).step()
    assert torch.allclose(weight, torch.full((2, 2), 1 - 0.1 * decay))
