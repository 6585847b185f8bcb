"""Training on several processes: what they add up, share, and wait for.

Each process holds all weights and an equal part of every batch. Gradients are summed once a step,
after all pieces of the batch, by one call for all parameters: nothing is hooked into the forward
pass, so an objective may call the tower as often as it likes, and attacks never synchronise.
`torchrun` sets the environment that is read here; without it there is one process.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class Processes:
    """This process among all that train together.

    Attributes:
        rank: its number; 0 writes files and talks.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.world > 1:
            distributed.barrier()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every `.grad` by its sum over the processes."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.world == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over the processes."""
        total = value.clone()
        if self.world > 1:
            distributed.all_reduce(total)
        return total

    def joined(self, rows: Tensor) -> Tensor:
        """Equal numbers of rows of every process, joined in order of rank; no gradient passes."""
        if self.world == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.world)]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)


@contextmanager
def started(device: str) -> Iterator[Processes]:
    """Join the other processes of a `torchrun`, if there are any, and leave them at the end.

    Raises:
        CurateError: the environment names processes that cannot be joined.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise CurateError(f"torchrun: {world} processes could not be joined ({error})") from error
    try:
        yield Processes(distributed.get_rank(), world)
    finally:
        distributed.destroy_process_group()
