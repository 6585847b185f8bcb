"""Models by name: a classifier over any classes, from pixels, with a digest of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import open_clip
import pytest
import torch
from pictures import picture
from small_clips import write_clip

from curate.errors import CurateError
from eval.geometry import as_pixels
from eval.models.classifier import class_texts, load_clip_model
from eval.models.model import ZeroShotModel, dtype_of, load_model
from eval.models.peers import Peer
from eval.models.subject import Subject

if TYPE_CHECKING:
    from pathlib import Path

CATS = Subject("set", ("cat", "dog", "ship"), ("a photo of a {}.", "a {}"), None)


@pytest.fixture(scope="module")
def tiny() -> ZeroShotModel:
    model = load_model("builtin:tiny-clip", device="cpu")
    assert isinstance(model, ZeroShotModel)
    return model


def test_a_model_answers_for_the_classes_of_a_set(tiny: ZeroShotModel) -> None:
    images = torch.rand(4, 3, tiny.size, tiny.size, generator=torch.Generator().manual_seed(0))
    texts = class_texts(tiny.clip, CATS.classes, CATS.templates)
    with torch.no_grad():
        found = tiny.classifier(CATS, torch.float32)(images)
        assert torch.equal(found, tiny.clip.classifier(texts)(images))
    assert found.shape == (4, 3)
    assert found.dtype == torch.float32


def test_low_precision_gives_fp32_logits_near_the_others(tiny: ZeroShotModel) -> None:
    images = torch.rand(4, 3, tiny.size, tiny.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        low = tiny.classifier(CATS, dtype_of("bf16"))(images)
        full = tiny.classifier(CATS, dtype_of("fp32"))(images)
    assert low.dtype == torch.float32
    assert not torch.equal(low, full)
    torch.testing.assert_close(low, full, atol=2, rtol=0)


def test_its_pixels_are_those_of_open_clip(tmp_path: Path) -> None:
    folder = write_clip("vit", tmp_path / "vit")
    model = load_model("open_clip:local-dir", str(folder), "cpu")
    assert isinstance(model, ZeroShotModel)
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    image = picture(3, 75)
    pixels = torch.from_numpy(as_pixels(model.geometry(image))).float() / 255
    mean, std = (torch.tensor(part)[:, None, None] for part in (model.clip.mean, model.clip.std))
    torch.testing.assert_close((pixels - mean) / std, transform(image))


def test_a_digest_is_that_of_the_weights(tiny: ZeroShotModel, tmp_path: Path) -> None:
    assert load_model("builtin:tiny-clip", device="cpu").digest == tiny.digest
    assert tiny.digest == load_clip_model("builtin:tiny-clip", device="cpu").weights_digest
    folder = write_clip("vit", tmp_path / "vit")
    assert load_model("open_clip:local-dir", str(folder), "cpu").digest != tiny.digest


def test_a_plain_classifier_is_a_peer() -> None:
    assert isinstance(load_model("timm:test_vit/random", device="cpu"), Peer)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("builtin:tiny-clp", "did you mean"),
        ("builtin:layout", "reads no texts"),
        ("open_clip:ViT-B-33/openai", "ViT-B-3"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_no_model_is_refused(name: str, words: str) -> None:
    with pytest.raises(CurateError, match=words):
        load_model(name, device="cpu")


@pytest.mark.parametrize("classes", [(), ("cat",)])
def test_fewer_than_two_classes_are_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(CurateError, match=f"data set pets: needs two classes.* {len(classes)};"):
        Subject("pets", classes, ("a {}",))
