"""`python -m train.tiny_clip`: train the tiny CLIP and write it as an open_clip folder.

    python -m train.tiny_clip --cifar10 cifar10/train --test cifar10/test

The test shards are looked at once, at the end, to state an accuracy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from curate.encoders.clip import TINY
from curate.files import write_json
from train.export import CONFIG_FILE, WEIGHTS_FILE, write_tensors
from train.sources import open_trainset
from train.tiny_clip.course import Course
from train.tiny_clip.pictures import gathered
from train.tiny_clip.recipe import PHASES, accuracy, averaged, halves, new_model, written_config


def main() -> None:
    """Read, train, write, state the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", required=True, help="training shards")
    parser.add_argument("--test", help="test shards, to state an accuracy")
    parser.add_argument("--out", type=Path, default=TINY)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, pictures = new_model(), gathered(open_trainset(arguments.cifar10))
    ends = []
    for phase in PHASES:
        course = Course(model, pictures, phase)
        while course.done < phase.epochs:
            epoch = course.epoch()
            _say(f"epoch {course.done} of {phase.epochs}: loss {epoch.loss:.3f}, "
                 f"right {epoch.right:.3f}")  # fmt: skip
        ends.append(halves(model))
        model.load_state_dict(ends[-1])
    model = averaged(ends, pictures)
    model.load_state_dict(halves(model))
    write_json(arguments.out / CONFIG_FILE, written_config())
    write_tensors(arguments.out / WEIGHTS_FILE, halves(model))
    if arguments.test:
        pictures = gathered(open_trainset(arguments.test))
        _say(f"zero-shot accuracy {accuracy(model, pictures):.4f}")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
