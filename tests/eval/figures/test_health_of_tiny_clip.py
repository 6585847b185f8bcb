"""A trained model under real attacks: nothing speaks against them until its logits saturate."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from eval.attacks.registry import find_attack
from eval.figures.health import Attacked, examine
from eval.models.classifier import ZeroShot, class_texts, load_clip_model
from eval.records import samples
from eval.settings import Aim, Setting

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
IMAGES = 48
EPS = 1.0


@pytest.fixture(scope="module")
def images(shared_data: Path) -> tuple[Tensor, Tensor]:
    """The first test images (n, 3, 32, 32) of CIFAR-10 and their labels."""
    pixels, labels = [], []
    with tarfile.open(min((shared_data / "cifar10" / "test").glob("*.tar*"))) as shard:
        for member in shard:
            stream = shard.extractfile(member)
            assert stream is not None
            if member.name.endswith(".json"):
                labels.append(int(json.loads(stream.read())["label"]))
            elif Path(member.name).suffix in {".png", ".webp", ".jpg"}:
                pixels.append(np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB")))
            if len(labels) == len(pixels) == IMAGES:
                break
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return stacked, torch.tensor(labels)


@pytest.fixture
def tiny() -> ZeroShot:
    clip = load_clip_model("builtin:tiny-clip", device="cpu")
    return clip.classifier(class_texts(clip, NAMES, ["a photo of a {}."]))


def attacked(
    classifier: ZeroShot, images: tuple[Tensor, Tensor], name: str, eps: float
) -> Attacked:
    pixels, labels = images
    keys = [f"0:{i}" for i in range(len(labels))]
    verdict = find_attack(name, eps=eps).run(classifier, pixels, labels, keys, 0)
    frame = samples(
        {
            "id": keys,
            "label": labels.tolist(),
            "pred": verdict.pred.tolist(),
            "margin": verdict.margin.tolist(),
            "correct": verdict.robust.tolist(),
            "clean_pred": verdict.clean_pred.tolist(),
            "zero_gradient": verdict.zero_gradient.tolist(),
            "linf": verdict.linf.tolist(),
            "l2": verdict.l2.tolist(),
        }
    )
    return Attacked("tiny", Setting("cifar10", attack=Aim(name, eps, "native")), "linf", frame)


def test_an_ordinary_model_is_trusted(tiny: ZeroShot, images: tuple[Tensor, Tensor]) -> None:
    names = ("noise", "fgsm", "pgd-10", "pgd-margin-10")
    runs = [attacked(tiny, images, name, EPS) for name in names]
    runs.append(attacked(tiny, images, "pgd-10", 64))
    found = examine(runs)
    assert [item.unreliable for item in found] == [None] * len(runs)
    assert all(item.largest is not None and item.largest <= item.run.eps + 1e-3 for item in found)
    assert found[-1].run.right == 0


def test_a_model_whose_logits_saturate_is_caught(
    tiny: ZeroShot, images: tuple[Tensor, Tensor]
) -> None:
    honest = attacked(tiny, images, "pgd-10", EPS)
    tiny.scale *= 300
    masked = attacked(tiny, images, "pgd-10", EPS)
    assert masked.right > honest.right
    (found,) = examine([masked])
    assert found.unreliable is not None
    assert "gradient vanished" in found.unreliable
    by_loss, margin = examine([masked, attacked(tiny, images, "pgd-margin-10", EPS)])
    assert "than pgd-margin-10, which differs in its loss only" in str(by_loss.unreliable)
    assert margin.unreliable is None
