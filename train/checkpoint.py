"""The state of a training run in one file, replaced as a whole: killed at any moment, it goes on.

A checkpoint holds tensors only (safetensors, no pickle). The order of samples, the noise of attacks
and the schedule are functions of the step, so the step is all that has to be remembered of them.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from curate.errors import CurateError
from curate.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_FACTS = "curate"
_PARAMETER, _AVERAGE, _OPTIMIZER = "parameter/", "average/", "optimizer/"


@dataclass
class State:
    """What changes while training.

    Attributes:
        parameters: the trained ones by name; written to in place.
        optimizer: of these parameters, in this order.
        average: moving average of each parameter; empty without one.
        step: how many updates were made.
    """

    parameters: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    step: int = 0


@contextmanager
def averaged(state: State) -> Iterator[None]:
    """The average takes the parameters' place inside, where there is one."""
    trained = {name: state.parameters[name].detach().clone() for name in state.average}
    put(state.parameters, state.average)
    try:
        yield
    finally:
        put(state.parameters, trained)


def save_state(path: Path, state: State, key: str) -> None:
    """Replace the checkpoint.

    Args:
        path: of the file.
        state: what to keep.
        key: of the run that it belongs to.

    Raises:
        CurateError: it cannot be written; the former checkpoint is still there.
    """
    tensors = {_PARAMETER + name: value.detach() for name, value in state.parameters.items()}
    tensors |= {_AVERAGE + name: value for name, value in state.average.items()}
    tensors |= {
        _OPTIMIZER + name: value for name, value in optimizer_state(state.optimizer).items()
    }
    write_checkpoint(path, tensors, state.step, key)


def load_state(path: Path, state: State, key: str) -> None:
    """Bring a run to where its checkpoint was written.

    Raises:
        CurateError: the file is damaged, or belongs to another run or model.
    """
    tensors, step = read_checkpoint(path, key)
    parameters = under(_PARAMETER, tensors)
    shapes = {name: value.shape for name, value in state.parameters.items()}
    if {name: value.shape for name, value in parameters.items()} != shapes:
        raise CurateError(f"{path}: a checkpoint of another model; move it away.")
    put(state.parameters, parameters)
    put(state.average, under(_AVERAGE, tensors))
    restore_optimizer(state.optimizer, under(_OPTIMIZER, tensors))
    state.step = step


@torch.no_grad()
def put(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Write values into tensors of the same names, in place."""
    for name, value in values.items():
        into[name].copy_(value)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All tensors that an optimiser remembers, by "PLACE/NAME"."""
    return {
        f"{place}/{name}": value
        for place, kept in optimizer.state_dict()["state"].items()
        for name, value in kept.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser back what `optimizer_state` took of it."""
    kept: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        place, _, what = name.partition("/")
        kept.setdefault(int(place), {})[what] = value
    stored: dict[str, Any] = optimizer.state_dict()
    optimizer.load_state_dict({**stored, "state": kept})


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], step: int, key: str) -> None:
    """Replace a file of tensors.

    Args:
        path: of the file.
        tensors: by name.
        step: how far the run is.
        key: of the run.

    Raises:
        CurateError: it cannot be written; the former file is still there.
    """
    whole = {name: value.to("cpu").contiguous() for name, value in tensors.items()}
    # One entry: safetensors writes several in an order that differs from run to run.
    facts = json.dumps({"step": step, "key": key})
    write_bytes(path, save(whole, {_FACTS: facts}))


def read_checkpoint(path: Path, key: str) -> tuple[dict[str, Tensor], int]:
    """The tensors of a file, and how far the run was.

    Raises:
        CurateError: the file is damaged, or belongs to another run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            facts: dict[str, Any] = json.loads((file.metadata() or {})[_FACTS])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CurateError(f"{path}: not readable as a checkpoint ({error}).") from error
    if facts["key"] != key:
        raise CurateError(f"{path}: a checkpoint of another run; move it away or choose an --out.")
    return tensors, int(facts["step"])
