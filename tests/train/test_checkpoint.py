import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from curate.errors import CurateError
from train.checkpoint import State, averaged, load_state, save_state


def make_state(optimizer: str = "sgd", *, average: bool = False, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    parameters = {
        name: nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in (("a.weight", (3, 4)), ("a.bias", (3,)))
    }
    made = (
        torch.optim.SGD(parameters.values(), lr=0.1, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.AdamW(parameters.values(), lr=0.1)
    )
    kept = {name: value.detach().clone() for name, value in parameters.items()} if average else {}
    return State(parameters, made, kept)


def update(state: State, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in state.parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    state.optimizer.step()
    for name in state.average:
        state.average[name].lerp_(state.parameters[name].detach(), 0.5)
    state.step += 1


def contents(state: State) -> list[Tensor]:
    return [*state.parameters.values(), *state.average.values()]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("average", [False, True])
def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(
    tmp_path: Path, optimizer: str, average: bool
) -> None:
    straight = make_state(optimizer, average=average)
    for seed in range(6):
        update(straight, seed)
    first = make_state(optimizer, average=average)
    for seed in range(3):
        update(first, seed)
    save_state(tmp_path / "last.safetensors", first, "key")
    second = make_state(optimizer, average=average, seed=99)
    load_state(tmp_path / "last.safetensors", second, "key")
    assert second.step == 3
    for seed in range(3, 6):
        update(second, seed)
    for a, b in zip(contents(straight), contents(second), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_before_the_first_update_is_a_checkpoint(tmp_path: Path) -> None:
    state = make_state()
    save_state(tmp_path / "last.safetensors", state, "key")
    other = make_state(seed=1)
    load_state(tmp_path / "last.safetensors", other, "key")
    update(state, 0)
    update(other, 0)
    assert torch.equal(state.parameters["a.weight"], other.parameters["a.weight"])


def test_equal_states_are_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        state = make_state("adamw", average=True)
        update(state, 1)
        save_state(tmp_path / name, state, "key")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "last", make_state(), "one")
    with pytest.raises(CurateError, match="another run"):
        load_state(tmp_path / "last", make_state(), "two")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "last", make_state(), "key")
    other = make_state()
    other.parameters = {"a.weight": nn.Parameter(torch.zeros(2, 2))}
    with pytest.raises(CurateError, match="another model"):
        load_state(tmp_path / "last", other, "key")


@pytest.mark.parametrize("size", [0, 7, 100])
def test_a_torn_checkpoint_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "last"
    save_state(path, make_state(), "key")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CurateError, match="not readable as a checkpoint"):
        load_state(path, make_state(), "key")


def test_when_the_disk_is_full_the_former_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last"
    save_state(path, make_state(), "key")
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    state = make_state()
    update(state, 0)
    with pytest.raises(CurateError, match="No space left"):
        save_state(path, state, "key")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["last"]


def test_the_average_stands_in_and_the_trained_weights_come_back() -> None:
    state = make_state(average=True)
    update(state, 0)
    trained = state.parameters["a.weight"].detach().clone()
    with averaged(state):
        assert torch.equal(state.parameters["a.weight"], state.average["a.weight"])
    assert torch.equal(state.parameters["a.weight"], trained)


def test_without_an_average_nothing_is_exchanged() -> None:
    state = make_state()
    trained = state.parameters["a.weight"].detach().clone()
    with averaged(state):
        assert torch.equal(state.parameters["a.weight"], trained)
