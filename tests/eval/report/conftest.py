"""A made-up evaluation of two models with all that a report can show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sample_rows import rows

from eval.figures.effective import find_baseline, read_baselines
from eval.report import Example, Inputs, Shift, Split
from eval.results import Result
from eval.settings import Aim, Setting

IMAGES = 400
HOSTILE = '<img src=x onerror="alert(1)">\u202e'
MODELS = ("builtin:tiny-clip", HOSTILE)
CORRUPTIONS = (
    "gaussian_noise",
    "fog",
    "zoom_blur",
    "jpeg_compression",
    "snow",
    "elastic_transform",
)
ATTACKS = (("noise", 0.80), ("fgsm", 0.4), ("pgd-20", 0.1), ("autoattack", 0.05), ("nes", 0.3))


def result(model: str, setting: Setting, share: float, seed: int = 0) -> Result:
    """A result on images of ten classes, an eighth of them overlap, which are right more often."""
    generator = np.random.default_rng(seed)
    overlap = np.arange(IMAGES) % 8 == 0
    likely = np.where(overlap, min(share + 0.15, 1.0), share)
    draws = generator.random(IMAGES)
    control = generator.random(IMAGES) > 1 / 8
    attacked = setting.attack is not None
    before = np.where(draws < np.maximum(likely, 0.85), np.arange(IMAGES) % 10, 50)
    frame = rows(
        (draws < likely).tolist(),
        label=(np.arange(IMAGES) % 10).tolist(),
        split=np.where(overlap, "overlap", "clean").tolist(),
        control=control.tolist(),
        clean_pred=before.tolist() if attacked else [None] * IMAGES,
        linf=[4.0 if attacked else None] * IMAGES,
        zero_gradient=(draws < 0.05).tolist() if model == HOSTILE and attacked else [None] * IMAGES,
    )
    return Result(model, setting, {"norm": "linf", "seed": 0, "classes": {"digest": "ab"}}, frame)


def results(model: str, less: float) -> list[Result]:
    found = [
        result(model, Setting("cifar10"), 0.88 - less),
        result(model, Setting("cifar10.1"), 0.75 - less),
    ]
    for place, name in enumerate(CORRUPTIONS):
        for severity in range(1, 6):
            share = 0.88 - less - 0.02 * severity * (place + 1)
            found.append(result(model, Setting("cifar10", name, severity), share))
    for name, left in ATTACKS:
        setting = Setting("cifar10", attack=Aim(name, 4, "native"))
        found.append(result(model, setting, max(left - less, 0.0)))
    return found


def decisions() -> pl.DataFrame:
    overlap = np.arange(IMAGES) % 8 == 0
    generator = np.random.default_rng(1)
    scores = np.where(
        overlap, generator.uniform(0.9, 1.0, IMAGES), generator.uniform(0.7, 0.9, IMAGES)
    )
    return pl.DataFrame(
        {
            "id": [f"a:{i}" for i in range(IMAGES)],
            "decision": np.where(overlap, "overlap", "clean").tolist(),
            "score": pl.Series(scores.tolist(), dtype=pl.Float32),
        }
    )


def example(side: int = 32) -> Example:
    generator = np.random.default_rng(2)
    clean = np.linspace(0, 1, side * side * 3).reshape(side, side, 3).astype(np.float32)
    moved = clean + generator.choice([-4, 4], clean.shape) / 255
    attacked = np.clip(moved, 0, 1).astype(np.float32)
    word = "cifar10@pgd-20.eps4.native"
    return Example(MODELS[0], word, f"a:{HOSTILE}", "ship", "ship", HOSTILE, clean, attacked)


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    baseline = find_baseline(read_baselines(), "imagenetv2-matched-frequency-format-val")
    return Inputs(
        results=(*results(MODELS[0], 0.0), *results(MODELS[1], 0.05)),
        splits={"cifar10": Split(decisions(), 0.9, 0.7)},
        shifts=(Shift("cifar10", "cifar10.1", baseline),),
        examples=tuple(example() for _ in range(4)),
        command="curate eval --model builtin:tiny-clip",
        versions={"torch": "2.15.0"},
    )


@pytest.fixture(scope="session")
def all_overlap(inputs: Inputs) -> Inputs:
    """One result, whose images are overlap at every threshold."""
    found, split = inputs.results[0], inputs.splits["cifar10"]
    frame = found.samples.with_columns(split=pl.lit("overlap"))
    scored = split.decisions.with_columns(score=pl.lit(1.0, pl.Float32))
    return Inputs((replace(found, samples=frame),), {"cifar10": replace(split, decisions=scored)})
