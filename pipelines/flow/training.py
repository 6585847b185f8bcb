"""Steps that train: the single command, in processes of its own on a chosen worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipelines.execute.torchrun import LostWorkerError, Torchrun
from pipelines.flow.task import specs_of, split_of

if TYPE_CHECKING:
    from pipelines.flow.task import Task


def train_by(task: Task) -> None:
    """Train; a run whose worker was lost goes on at its last checkpoint elsewhere.

    Raises:
        CurateError: it ended with an error.
        PartialRunError: it was stopped, or lost its worker again and again.
    """
    config = task.step.config
    task.watch.stage(task.step.name, 1)
    job = Torchrun(
        ("-m", "pipelines", *train_command(task)), task.book.log_path.absolute(),
        config["processes"], config["nodes"],
    )  # fmt: skip
    for left in reversed(range(task.flow.cluster.retries + 1)):
        try:
            task.torchrun(job)
            break
        except LostWorkerError as error:
            if not left:
                raise
            task.book.log(f"again: {error}")
    task.watch.step(1, 0)


def train_command(task: Task) -> list[str]:
    """The words of `curate train` or `curate pretrain` for a step, after the program's name."""
    config = task.step.config
    if config["split"] is not None:
        data = [str(split_of(task, task.steps[config["split"]]))]
    else:
        data = list(specs_of(task.flow, task.run, config["data"]))
    shared = [
        *data, "--out", str(task.out),
        "--workers", str(task.step.tuning["workers"]), "--threads", str(config["threads"]),
    ]  # fmt: skip
    if config["ids"] is not None:
        split = split_of(task, task.steps[config["ids"]])
        shared += ["--ids", str(split / f"{config['keep']}_ids.txt")]
    if config["classes"] is not None:
        shared += ["--classes", str(config["classes"])]
    if config["scratch"] is not None:
        length = ["--epochs", str(config["scratch"]["epochs"])]
        return ["pretrain", *shared, *length, "--seed", str(config["seed"])]
    return ["train", *shared, *_adapting(task)]


def _adapting(task: Task) -> list[str]:
    """What `curate train` takes beside the data: the model, and what is done with it."""
    config = task.step.config
    base = task.steps.get(f"train/{config['model']}")
    words = ["--recipe", config["recipe"], "--device", task.flow.device]
    if base is None:
        words += ["--model", config["model"]]
    else:
        words += ["--model", "open_clip:local-dir", "--weights", str(task.run / base.out)]
    for name, value in {**config["set"], "seed": config["seed"]}.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    if config["interpolate"] is not None:
        words += ["--interpolate", str(config["interpolate"])]
    return words
