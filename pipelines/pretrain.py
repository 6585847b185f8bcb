"""`curate pretrain`: a small CLIP from scratch, as a folder that is whole or absent.

What a model remembers of images is seen by training it with and without them; this is the model
that is small enough for that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from curate import artifacts
from curate.artifacts import Manifest
from curate.files import read_json, write_bytes, write_json
from curate.tables import write_table
from train.card import scratch_card
from train.checkpoint import read_checkpoint, write_checkpoint
from train.export import CONFIG_FILE, WEIGHTS_FILE, write_tensors
from train.records import METRICS_FILE
from train.sources import open_trainset
from train.tiny_clip.course import Course
from train.tiny_clip.pictures import gathered
from train.tiny_clip.recipe import BATCH, MODEL, TEMPLATES, Phase, halves, new_model, written_config
from train.trained import TRAIN_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.watch import Watch
    from train.data import TrainSet

CHECKPOINT = "checkpoints/last.safetensors"
EPOCHS = pl.Schema({"epoch": pl.Int32, "loss": pl.Float64, "right": pl.Float64})
"""Columns of `metrics.parquet`: of each epoch the mean loss, and the share of images, as they were
augmented, that were right before the update on them.
"""


@dataclass(frozen=True)
class PretrainRequest:
    """What is asked of `curate pretrain`.

    Attributes:
        data: a split's folder, or shards, with labels.
        out: folder of the result.
        epochs: passes over the images.
        seed: of first weights, order and augmentation.
        ids: of the samples of the shards to train on.
        classes: names in the order of their numbers; none: all labels, sorted.
        workers: processes that read images.
    """

    data: tuple[str, ...]
    out: Path
    epochs: int
    seed: int = 0
    ids: Path | None = None
    classes: tuple[str, ...] = ()
    workers: int = 0


def run_pretrain(request: PretrainRequest, watch: Watch) -> dict[str, Any]:
    """Train from scratch, or go on after the last whole epoch; returns `train.json`.

    The recipe is that of the built-in model (`train.tiny_clip.recipe`), one phase of it.

    Raises:
        CurateError: samples have no labels, are too few or too many, or cannot be read; something
            cannot be written, in which case the last checkpoint is still there.
    """
    with artifacts.artifact_lock(request.out):
        trainset = open_trainset(list(request.data), request.ids, classes=request.classes)
        manifest = _manifest(request, trainset)
        if artifacts.finished(request.out, manifest.key):
            return dict(read_json(request.out / TRAIN_FILE))
        work = artifacts.work_folder(request.out, manifest.key)
        facts = _facts(request, trainset)
        _train(request, trainset, work, manifest.key, watch)
        write_json(work / TRAIN_FILE, facts)
        write_bytes(work / "README.md", scratch_card(facts).encode())
        artifacts.commit(work, request.out, manifest)
        return facts


def _manifest(request: PretrainRequest, trainset: TrainSet) -> Manifest:
    source = trainset.source
    config = {
        "model": MODEL, "epochs": request.epochs, "seed": request.seed,
        "classes": list(trainset.classes),
    }  # fmt: skip
    return Manifest("pretrain", config, [{"name": source.name, "sha256": source.digest}])


def _train(
    request: PretrainRequest, trainset: TrainSet, work: Path, key: str, watch: Watch
) -> None:
    pictures = gathered(trainset, request.workers)
    model = new_model(request.seed)
    phase = Phase(request.epochs, rate=1.0, mixed=0.0, seed=request.seed)
    course = Course(model, pictures, phase)
    if (work / CHECKPOINT).exists():
        course.restore(read_checkpoint(work / CHECKPOINT, key)[0])
    watch.stage("train from scratch", request.epochs)
    watch.step(course.done, 0)
    while course.done < request.epochs:
        course.epoch()
        write_checkpoint(work / CHECKPOINT, course.state(), course.done, key)
        watch.step(1, len(pictures.images))
    rows = [{"epoch": n, **asdict(one)} for n, one in enumerate(course.seen, 1)]
    write_table(work / METRICS_FILE, pl.DataFrame(rows, EPOCHS), EPOCHS)
    write_json(work / CONFIG_FILE, written_config())
    write_tensors(work / WEIGHTS_FILE, halves(model))


def _facts(request: PretrainRequest, trainset: TrainSet) -> dict[str, Any]:
    """`train.json`, in the words of `curate train`."""
    count = trainset.samples.height
    return {
        "model": {"name": "a small CLIP from scratch", "weights_sha256": None, "licence": None},
        "data": trainset.source.to_json() | {"samples": count},
        "recipe": {
            "loss": "ce", "adapter": {"kind": "finetune"}, "epochs": request.epochs,
            "batch": BATCH, "seed": request.seed, "templates": list(TEMPLATES),
        },
        "classes": list(trainset.classes),
        "updates": request.epochs * (count // BATCH),
        "before": None,
        "after": None,
    }  # fmt: skip
