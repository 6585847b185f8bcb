"""`python -m train.copy_detector`: train the network of `builtin:copy` and write its weights."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from curate.encoders.copy_encoder import WEIGHTS_FILE
from curate.files import write_bytes
from train.copy_detector.recipe import Recipe, train
from train.copy_detector.sources import Source, drawings, photographs, small

_LOG = logging.getLogger(__name__)
_THUMB = 32
_DRAWINGS = 2000
_TOLD = 50


def main() -> None:
    """Read the sources, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", nargs="+", required=True, help="CIFAR-10 training shards")
    parser.add_argument("--photos", nargs="+", required=True, help="clothing-00000.tar")
    parser.add_argument("--out", type=Path, default=Path(WEIGHTS_FILE))
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(steps=arguments.steps)
    rng = np.random.default_rng(recipe.seed + 2)
    sources = [
        Source(small(arguments.cifar10, _THUMB), 5 / 8),
        Source(photographs(arguments.photos, rng), 2 / 8),
        Source(drawings(_DRAWINGS, recipe.seed + 3), 1 / 8),
    ]
    net = train(sources, recipe, _tell)
    halves = {
        name: (tensor.half() if tensor.dtype is torch.float32 else tensor).contiguous()
        for name, tensor in net.state_dict().items()
    }
    write_bytes(arguments.out, safetensors.torch.save(halves))


def _tell(step: int, contrast: float, spread: float) -> None:
    if step % _TOLD == 0:
        _LOG.info("step %d: contrast %.3f, spread %.3f", step, contrast, spread)


if __name__ == "__main__":
    main()
