"""The training loop: attack a batch, add up gradients piece by piece, update, again.

The model stays in evaluation mode throughout: BatchNorm keeps its statistics, so a batch may be cut
into pieces and shared between processes without changing what is computed, and what the attack
sees is what is evaluated later.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from curate.errors import CurateError
from eval.attacks.guard import NotFiniteError, frozen
from eval.attacks.loop import perturb
from eval.attacks.threat import start_noise
from train.objectives import Batch
from train.schedule import warmup_cosine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from train.checkpoint import State
    from train.loader import Loaded
    from train.objectives import Context, Objective
    from train.processes import Processes
    from train.recipe import OptimizerConfig, Recipe

_SHOWN = 5


class DivergedError(CurateError):
    """A loss or gradient is NaN or infinite; training stopped before the update."""


@dataclass(frozen=True)
class Training:
    """All that stays the same during a run.

    Attributes:
        recipe: its settings.
        objective: what is minimised, and maximised by the attack.
        context: models and texts that the objective asks.
        total: updates.
        processes: who shares the work.
        encode_captions: captions -> (n, d) unit rows; None unless the objective needs them.
    """

    recipe: Recipe
    objective: Objective
    context: Context
    total: int
    processes: Processes
    encode_captions: Callable[[Sequence[str]], Tensor] | None = None


@dataclass(frozen=True)
class Update:
    """What is known of an update.

    Attributes:
        step: number of updates made so far.
        loss: mean over the batch, of all processes.
        rate: learning rate.
        gradient_norm: before clipping.
        zero_gradient: share of images whose gradient vanished under attack.
        images: in the batch, of all processes.
        data: seconds spent waiting for images.
        attack: seconds spent attacking.
        update: seconds spent on the rest.
    """

    step: int
    loss: float
    rate: float
    gradient_norm: float
    zero_gradient: float
    images: int
    data: float
    attack: float
    update: float


def make_optimizer(
    config: OptimizerConfig, parameters: Mapping[str, torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer; one group for what decays and one for what does not."""
    decayed: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in parameters.items():
        is_matrix = parameter.ndim > 1 and not name.startswith("prompt.")
        (decayed if is_matrix else others).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    if config.name == "sgd":
        return torch.optim.SGD(kept, lr=config.rate, momentum=config.momentum)
    return torch.optim.AdamW(kept, lr=config.rate)


def updates(training: Training, state: State, loaded: Iterable[Loaded]) -> Iterator[Update]:
    """Make updates until the run's end, and yield what is known of each.

    Args:
        training: what stays the same.
        state: what changes; its step says where to go on.
        loaded: the batches of the steps from `state.step` on, this process's part of each.

    Raises:
        DivergedError: a loss or gradient is not finite; names the samples.
    """
    source = iter(loaded)
    while state.step < training.total:
        begun = time.perf_counter()
        batch = _batch(training, next(source))
        data = time.perf_counter() - begun
        yield _update(training, state, batch, data)


def _update(training: Training, state: State, batch: Batch, data: float) -> Update:
    recipe, processes = training.recipe, training.processes
    rate = recipe.optimizer.rate * warmup_cosine(state.step, training.total, recipe.warmup)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    begun, attack = time.perf_counter(), 0.0
    device = batch.images.device
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    for part in _pieces(batch, recipe.piece):
        piece = training.objective.prepare(training.context, part)
        adversarial, vanished, seconds = _attacked(training, piece, state.step)
        attack += seconds
        losses = training.objective.train_loss(training.context, piece.images, adversarial, piece)
        _require_finite(losses, piece.keys, state.step)
        (losses.sum() / recipe.batch).backward()  # type: ignore[no-untyped-call]
        sums += torch.stack([losses.detach().double().sum(), vanished])
    processes.sum_gradients(state.parameters.values())
    norm = torch.nn.utils.clip_grad_norm_(state.parameters.values(), recipe.clip_norm or math.inf)
    if not norm.isfinite():
        raise DivergedError(_diverged("the gradient", batch.keys, state.step))
    state.optimizer.step()
    state.optimizer.zero_grad()
    _follow(state, recipe.average)
    state.step += 1
    loss, zero = (processes.sum(sums) / recipe.batch).tolist()
    seconds = time.perf_counter() - begun
    return Update(
        state.step, loss, rate, float(norm), zero, recipe.batch, data, attack, seconds - attack
    )  # fmt: skip


def _attacked(training: Training, piece: Batch, step: int) -> tuple[Tensor, Tensor, float]:
    """Images under attack, how many gradients vanished, and the seconds it took."""
    recipe, context = training.recipe, training.context
    none = torch.zeros((), dtype=torch.float64, device=piece.images.device)
    if recipe.attack is None or not training.objective.attacked:
        return piece.images, none, 0.0
    begun = time.perf_counter()
    threat = recipe.attack.threat()
    noise = None
    if threat.start == "uniform":
        # The step is part of the seed: an image meets other noise in every epoch.
        seed = recipe.seed + (step << 32)
        noise = start_noise(piece.keys, seed, tuple(piece.images.shape[1:]))
    try:
        with frozen(context.student):
            found = perturb(
                lambda images: training.objective.attack_loss(context, images, piece),
                piece.images, threat, noise,
            )  # fmt: skip
    except NotFiniteError as error:
        keys = [piece.keys[row] for row in error.rows]
        raise DivergedError(_diverged("the loss under attack", keys, step)) from error
    if piece.images.is_cuda:
        torch.cuda.synchronize()
    return found.images, found.zero_gradient.sum().double(), time.perf_counter() - begun


def _batch(training: Training, loaded: Loaded) -> Batch:
    context, processes = training.context, training.processes
    device = context.texts.device
    batch = Batch(
        keys=tuple(loaded.keys),
        images=loaded.images.to(device, non_blocking=True).float() / 255,
        targets=None if loaded.labels is None else loaded.labels.to(device),
    )
    if training.encode_captions is None:
        return batch
    own = training.encode_captions([caption or "" for caption in loaded.captions])
    first = processes.rank * len(own)
    positions = torch.arange(first, first + len(own), device=device)
    return replace(batch, captions=processes.joined(own), positions=positions)


def _pieces(batch: Batch, size: int | None) -> Iterator[Batch]:
    """A batch in parts of `size` images; the captions of all stay with each."""
    for begin in range(0, len(batch.keys), size or len(batch.keys)):
        rows = slice(begin, begin + (size or len(batch.keys)))
        yield replace(
            batch,
            keys=batch.keys[rows],
            images=batch.images[rows],
            targets=None if batch.targets is None else batch.targets[rows],
            positions=None if batch.positions is None else batch.positions[rows],
        )


@torch.no_grad()
def _follow(state: State, decay: float | None) -> None:
    """Move the average of the weights towards them."""
    if decay is None:
        return
    for name, parameter in state.parameters.items():
        state.average[name].lerp_(parameter, 1 - decay)


def _require_finite(losses: Tensor, keys: Sequence[str], step: int) -> None:
    is_finite = losses.detach().isfinite()
    if not is_finite.all():
        bad = [keys[row] for row in (~is_finite).nonzero()[:, 0].tolist()]
        raise DivergedError(_diverged("the loss", bad, step))


def _diverged(what: str, keys: Sequence[str], step: int) -> str:
    shown = ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
    remedy = "Look at these samples, lower optimizer.rate, or set clip_norm"
    return f"step {step + 1}: {what} is NaN or infinite for {shown}; nothing was changed. {remedy}."
