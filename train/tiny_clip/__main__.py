"""`python -m train.tiny_clip`: train the tiny CLIP and write it as an open_clip folder.

    python -m train.tiny_clip --cifar10 cifar10/train --test cifar10/test

The test shards are looked at once, at the end, to state an accuracy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from curate.discover import open_dataset
from curate.encoders.clip import TINY
from curate.files import write_bytes, write_json
from curate.images import decode
from curate.samples import Member, image_member
from curate.shards import ShardReader
from train.tiny_clip.recipe import (
    MEAN,
    MODEL,
    PHASES,
    SIDE,
    STD,
    Pictures,
    accuracy,
    averaged,
    new_model,
    train,
)


def main() -> None:
    """Read, train, write, state the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", required=True, help="training shards")
    parser.add_argument("--test", help="test shards, to state an accuracy")
    parser.add_argument("--out", type=Path, default=TINY)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, pictures = new_model(), _pictures(arguments.cifar10)
    ends = []
    for phase in PHASES:
        train(model, pictures, phase, _say)
        ends.append(_halves(model))
        model.load_state_dict(ends[-1])
    model = averaged(ends, pictures)
    model.load_state_dict(_halves(model))
    preprocess = {"mean": MEAN, "std": STD, "size": [SIDE, SIDE], "interpolation": "bicubic"}
    write_json(
        arguments.out / "open_clip_config.json",
        {"model_cfg": MODEL, "preprocess_cfg": preprocess},
    )
    write_bytes(arguments.out / "open_clip_model.safetensors", save(_halves(model)))
    if arguments.test:
        _say(f"zero-shot accuracy {accuracy(model, _pictures(arguments.test)):.4f}")


def _halves(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights in fp16: half the size, and the model computes in fp32 when it is loaded."""
    return {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _pictures(spec: str) -> Pictures:
    dataset = open_dataset((spec,))
    images, labels = [], []
    for shard in dataset.shards:
        for sample in ShardReader(dataset, shard):
            member = image_member(sample)
            assert isinstance(member, Member)
            images.append(np.asarray(decode(member.data or b"")))
            labels.append(str(sample.label))
    classes = sorted(set(labels))
    places = torch.tensor([classes.index(label) for label in labels])
    return Pictures(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), places, classes)


if __name__ == "__main__":
    main()
