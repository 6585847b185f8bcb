"""The built-in CLIP: small, a real open_clip model, and right about CIFAR-10's test images."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from pictures import picture

from curate.encoders import EncoderSpec, load_encoder
from curate.encoders.base import TextEncoder
from curate.encoders.clip import TINY
from curate.errors import CurateError

SPEC = EncoderSpec("builtin:tiny-clip")


def test_plain_open_clip_loads_the_folder_and_it_is_small() -> None:
    model = open_clip.create_model(f"local-dir:{TINY}", require_pretrained=True)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 8_000_000
    assert (TINY / "open_clip_model.safetensors").stat().st_size <= 16 * 2**20
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert model.visual.image_size in (32, (32, 32))


def test_it_reads_pictures_and_texts_into_one_space() -> None:
    encoder = load_encoder(SPEC)
    assert isinstance(encoder, TextEncoder)
    images = np.stack([encoder.preprocess(picture(seed)) for seed in range(3)])
    vectors, words = encoder.encode(images), encoder.encode_text(["a photo of a cat", "a ship"])
    assert vectors.shape == (3, 128)
    assert words.shape == (2, 128)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert abs(float(words[0] @ words[1])) < 0.9


def test_it_brings_its_own_weights() -> None:
    with pytest.raises(CurateError, match="brings its own"):
        load_encoder(EncoderSpec("builtin:tiny-clip", weights="x.safetensors"))


@pytest.mark.slow
def test_zero_shot_accuracy_on_all_cifar10_test_images(shared_data: Path) -> None:
    from eval.models.classifier import class_texts, load_clip_model
    from train.loader import LoadSettings, load
    from train.measure import gather
    from train.order import in_turn
    from train.sources import open_trainset

    clip = load_clip_model("builtin:tiny-clip", device="cpu")
    tests = open_trainset(str(shared_data / "cifar10" / "test"))
    settings = LoadSettings(clip.config["preprocess_cfg"])
    held = gather(load(tests, in_turn(10_000, 500), settings))
    classifier = clip.classifier(class_texts(clip, tests.classes, ["a photo of a {}"]))
    with torch.no_grad():
        guesses = [
            classifier(part.float() / 255).argmax(dim=1) for part in torch.split(held.images, 500)
        ]
    right = (torch.cat(guesses) == held.labels).sum().item()
    assert right >= 8_800
