"""Weights stay frozen and untouched while they are attacked."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from attacking import SHAPE, against, attacked, keys, pictures, predicted
from torch import nn

from curate.errors import CurateError
from eval.attacks.guard import frozen, full_precision, library
from eval.attacks.loop import perturb
from eval.attacks.threat import Threat, start_noise

if TYPE_CHECKING:
    from eval.models.classifier import Clip, ZeroShot

PGD = Threat(4, 1, 5, "uniform")


def test_no_parameter_has_a_gradient_afterwards(clip: Clip, classifier: ZeroShot) -> None:
    model = copy.deepcopy(classifier)
    names = [name for name, _ in model.named_parameters()]
    for parameter in model.parameters():
        parameter.requires_grad_()
    next(model.parameters()).requires_grad_(requires_grad=False)
    images = pictures(4)
    labels = predicted(model, images)
    with frozen(model):
        perturb(against(model, labels), images, PGD, start_noise(keys(4), 0, SHAPE))
        assert not any(parameter.requires_grad for parameter in model.parameters())
    attacked(model, images, labels, PGD)
    assert all(parameter.grad is None for parameter in model.parameters())
    required = [parameter.requires_grad for parameter in model.parameters()]
    assert required == [False] + [True] * (len(names) - 1)


def test_gradients_waiting_for_an_update_are_left_alone(classifier: ZeroShot) -> None:
    model = copy.deepcopy(classifier).requires_grad_()
    model(pictures(2)).sum().backward()
    before = [parameter.grad.clone() for parameter in model.tower.parameters()]
    attacked(model, pictures(2), torch.zeros(2, dtype=torch.int64), PGD)
    for parameter, gradient in zip(model.tower.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_gradient_that_leaks_into_a_parameter_is_an_error(is_first: bool) -> None:
    model = nn.Linear(2, 2).eval()
    if not is_first:
        model(torch.ones(1, 2)).sum().backward()

    def leak() -> None:
        with frozen(model):
            model.requires_grad_()
            model(torch.ones(1, 2)).sum().backward()

    with pytest.raises(CurateError, match="parameter weight got a gradient"):
        leak()
    assert model.weight.requires_grad


def test_a_failing_attack_restores_the_parameters(classifier: ZeroShot) -> None:
    model = copy.deepcopy(classifier).requires_grad_()
    with pytest.raises(KeyError), frozen(model):
        raise KeyError
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_part_in_training_mode_is_refused_and_its_statistics_do_not_move() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 2))
    model.eval()
    images, labels = pictures(3), torch.zeros(3, dtype=torch.int64)
    state = copy.deepcopy(model.state_dict())
    attacked(model, images, labels, Threat(1, 1, 2, "zero"))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model[1].train()
    with pytest.raises(CurateError, match="attack: 1 is in training mode"):
        attacked(model, images, labels, Threat(1, 1, 2, "zero"))
    model.train()
    with pytest.raises(CurateError, match="the module is in training mode"), frozen(model):
        pass


def test_a_library_that_is_missing_tells_how_to_get_it() -> None:
    assert library("torch").startswith("torch 2.")
    with pytest.raises(CurateError, match=r"needs no-such-library; .*pip install 'curate\[eval\]'"):
        library("no-such-library")


def test_tf32_is_off_inside_and_as_it_was_afterwards() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with full_precision(nn.Linear(2, 2), "nes"):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
    with (
        pytest.raises(CurateError, match="attack nes"),
        full_precision(nn.Linear(2, 2).bfloat16(), "nes"),
    ):
        pass
