"""timm encoders: pooled features, strict weights, timm's own transform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from safetensors.torch import save_file

from curate.encoders import Encoder, EncoderSpec, load_encoder
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

MODELS = ["test_vit", "test_resnet"]


def load(name: str, **options: Any) -> Encoder:
    return load_encoder(EncoderSpec(f"timm:{name}", device="cpu", **options))


def save_model(path: Path, name: str, num_classes: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model: torch.nn.Module = timm.create_model(name, num_classes=num_classes).eval()
    save_file(model.state_dict(), path)
    return model


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [*MODELS, "resnet10t"])
def test_a_vector_has_the_same_bits_in_any_batch(
    name: str, precision: str, same_bits: Callable[[Encoder], None]
) -> None:
    same_bits(load(f"{name}/random", precision=precision))


@pytest.mark.parametrize("classes", [1000, 10, 0])
@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_the_pooled_features_of_the_weights(
    tmp_path: Path, image: Image.Image, name: str, classes: int
) -> None:
    model: Any = save_model(tmp_path / "w.safetensors", name, classes)
    encoder = load(name, weights=str(tmp_path / "w.safetensors"))
    data: Any = timm.data
    config = data.resolve_model_data_config(model)
    pixels = encoder.preprocess(image)
    expected_pixels = data.create_transform(**config, is_training=False)(image).numpy()
    assert pixels.tobytes() == expected_pixels.tobytes()
    with torch.no_grad():
        hidden = model.forward_features(torch.from_numpy(pixels)[None])
        features = model.forward_head(hidden, pre_logits=True).numpy()
    np.testing.assert_allclose(
        encoder.encode(pixels[None]), features / np.linalg.norm(features), atol=1e-5
    )
    assert encoder.dim == features.shape[1]


def test_pt_and_safetensors_files_give_the_same_encoder(tmp_path: Path) -> None:
    model = save_model(tmp_path / "w.safetensors", "test_vit", 10)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    first, second = (
        load("test_vit", weights=str(tmp_path / name)) for name in ("w.safetensors", "w.pt")
    )
    assert first.weights_digest() == second.weights_digest()
    assert first.weights_digest() != load("test_vit/random").weights_digest()


def test_bf16_vectors_stay_close_to_fp32() -> None:
    batch = np.random.default_rng(3).normal(size=(8, 3, 160, 160)).astype(np.float32)
    high, low = (load("test_vit/random", precision=p).encode(batch) for p in ("fp32", "bf16"))
    assert (high * low).sum(axis=1).min() >= 0.999


@pytest.mark.parametrize("other", ["test_resnet", "test_vit2"])
def test_weights_of_another_model_are_refused_by_file_name(tmp_path: Path, other: str) -> None:
    save_model(tmp_path / "other.safetensors", other, 0)
    with pytest.raises(CurateError, match=r"other\.safetensors"):
        load("test_vit", weights=str(tmp_path / "other.safetensors"))


def test_incomplete_weights_are_refused_and_not_filled_at_random(tmp_path: Path) -> None:
    state = dict(save_model(tmp_path / "w.safetensors", "test_vit", 10).state_dict())
    del state["blocks.0.attn.qkv.weight"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CurateError, match=r"blocks\.0\.attn\.qkv\.weight"):
        load("test_vit", weights=str(tmp_path / "w.safetensors"))


def test_weights_for_another_image_size_are_not_resized_in_silence(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=0, img_size=320)
    save_file(model.state_dict(), tmp_path / "size320.safetensors")
    with pytest.raises(CurateError, match=r"size320.*pos_embed"):
        load("test_vit", weights=str(tmp_path / "size320.safetensors"))


def test_published_weights_come_from_the_cache_alone(without_hub: Path) -> None:
    snapshot = without_hub / "models--timm--test_vit.r160_in1k" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("c0ffee")
    save_model(snapshot / "model.safetensors", "test_vit", 1000)
    expected = load("test_vit", weights=str(snapshot / "model.safetensors"))
    for name in ("test_vit", "test_vit.r160_in1k"):
        assert load(name).weights_digest() == expected.weights_digest()


@pytest.mark.usefixtures("without_hub")
@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("test_vit", {}, "timm:test_vit/random"),
        ("test_vitt", {}, "did you mean 'test_vit'"),
        ("test_vit.nope", {}, "nope"),
        ("hf_hub:org/model", {}, "timm has no model"),
        ("test_vit/random", {"weights": "x.pt"}, "asks for random"),
        ("test_vit", {"weights": "nowhere.pt"}, "nowhere.pt: no such file"),
    ],
)
def test_a_wrong_name_or_file_gets_a_remedy(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(CurateError, match=words):
        load(name, **options)


def test_a_model_without_published_weights_says_so() -> None:
    unpublished = next(
        name for name in timm.list_models("vit_*") if not timm.is_model_pretrained(name)
    )
    with pytest.raises(CurateError, match="publishes no weights"):
        load(unpublished)
