"""open_clip encoders: the same bits always, honest weights, honest errors."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from curate.encoders import EncoderSpec, TextEncoder, load_encoder
from curate.encoders.network import CPU_MICRO_BATCH, state_digest
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from curate.encoders.clip import ClipEncoder

pytestmark = pytest.mark.usefixtures("tiny_archs")
ARCHS = ["tinytest-vit", "tinytest-rn"]


def load(name: str, **options: Any) -> ClipEncoder:
    return load_encoder(EncoderSpec(f"open_clip:{name}", device="cpu", **options))  # type: ignore[return-value]


def weights_of(arch: str) -> dict[str, torch.Tensor]:
    return {
        key: value.contiguous() for key, value in load(f"{arch}/random").module.state_dict().items()
    }


@pytest.fixture(scope="module")
def vit(tiny_archs: None) -> ClipEncoder:
    return load("tinytest-vit/random")


@pytest.fixture(scope="module")
def resnet(tiny_archs: None) -> ClipEncoder:
    return load("tinytest-rn/random")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("arch", ARCHS)
def test_a_vector_has_the_same_bits_in_any_batch(
    arch: str, precision: str, same_bits: Callable[[TextEncoder], None]
) -> None:
    same_bits(load(f"{arch}/random", precision=precision))


@settings(deadline=None, max_examples=15)
@given(cuts=st.sets(st.integers(1, 20)), order=st.permutations(range(21)))
@pytest.mark.parametrize("fixture", ["vit", "resnet"])
def test_any_split_and_order_of_a_batch_gives_the_same_bits(
    request: pytest.FixtureRequest, fixture: str, cuts: set[int], order: list[int]
) -> None:
    encoder: ClipEncoder = request.getfixturevalue(fixture)
    batch = np.random.default_rng(1).normal(size=(21, *encoder.input_shape)).astype(np.float32)
    whole = encoder.encode(batch)
    pieces = np.split(batch[order], sorted(cuts))
    got = np.concatenate([encoder.encode(piece) for piece in pieces])
    assert got.tobytes() == whole[order].tobytes()


def test_bits_do_not_follow_the_batch_size_option(vit: ClipEncoder) -> None:
    batch = np.random.default_rng(2).random((11, 3, 32, 32), dtype=np.float32)
    other = load("tinytest-vit/random", batch_size=5)
    assert other.batch_size == 5
    assert other.encode(batch).tobytes() == vit.encode(batch).tobytes()


def test_vectors_are_those_of_open_clip(vit: ClipEncoder, image: Image.Image) -> None:
    _, _, transform = open_clip.create_model_and_transforms("tinytest-vit", pretrained_text=False)
    pixels = vit.preprocess(image)
    assert pixels.tobytes() == transform(image).numpy().tobytes()
    assert (pixels.shape, pixels.dtype) == (vit.input_shape, vit.input_dtype)
    with torch.no_grad():
        model: Any = vit.module
        expected = model.encode_image(torch.from_numpy(pixels)[None], normalize=True).numpy()
    np.testing.assert_allclose(vit.encode(pixels[None]), expected, atol=1e-6)


def test_bf16_vectors_stay_close_to_fp32(vit: ClipEncoder) -> None:
    batch = np.random.default_rng(3).normal(size=(12, 3, 32, 32)).astype(np.float32)
    low = load("tinytest-vit/random", precision="bf16")
    cosine = (low.encode(batch) * vit.encode(batch)).sum(axis=1)
    assert cosine.min() >= 0.999
    assert cosine.min() < 1.0 - 1e-7
    assert low.weights_digest() != vit.weights_digest()


def test_text_vectors_share_the_space_and_their_bits_do_not_follow_the_batch(
    vit: ClipEncoder,
) -> None:
    texts = [f"a photo of {i} dogs, " + "very " * i + "many" for i in range(CPU_MICRO_BATCH + 3)]
    assert isinstance(vit, TextEncoder)
    whole = vit.encode_text(texts)
    assert whole.shape == (len(texts), vit.dim)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1.0, atol=1e-6)
    for i, text in enumerate(texts):
        assert vit.encode_text([text]).tobytes() == whole[i].tobytes()
    tokens = open_clip.get_tokenizer("tinytest-vit")(texts)
    with torch.no_grad():
        model: Any = vit.module
        expected = model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    assert vit.encode_text([]).shape == (0, vit.dim)


def test_no_images_give_no_vectors_and_a_wrong_shape_is_an_error(vit: ClipEncoder) -> None:
    assert vit.encode(np.zeros((0, 3, 32, 32), np.float32)).shape == (0, 32)
    for shape in ((2, 3, 31, 32), (3, 32, 32), (1, 1, 3, 32, 32)):
        with pytest.raises(ValueError, match="takes"):
            vit.encode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("arch", ARCHS)
def test_pt_and_safetensors_files_give_the_same_encoder(tmp_path: Path, arch: str) -> None:
    state = {key: value * 1.01 for key, value in weights_of(arch).items()}
    torch.save(state, tmp_path / "w.pt")
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "epoch_1.pt")
    save_file(state, tmp_path / "w.safetensors")
    names = ["w.pt", "epoch_1.pt", "w.safetensors"]
    encoders = [load(arch, weights=str(tmp_path / name)) for name in names]
    batch = np.random.default_rng(4).random((3, *encoders[0].input_shape), dtype=np.float32)
    assert len({encoder.encode(batch).tobytes() for encoder in encoders}) == 1
    assert encoders[0].weights_digest() == state_digest(encoders[0].module.state_dict())
    assert encoders[0].weights_digest() != load(f"{arch}/random").weights_digest()


def test_a_local_folder_brings_its_own_preprocessing(
    tmp_path: Path, tiny_configs: dict[str, Any], vit: ClipEncoder
) -> None:
    config = {
        "model_cfg": tiny_configs["tinytest-vit"],
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25] * 3, "resize_mode": "squash"},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CurateError, match="could not be loaded"):
        load("local-dir", weights=str(tmp_path))
    save_file(weights_of("tinytest-vit"), tmp_path / "open_clip_model.safetensors")
    encoder = load("local-dir", weights=str(tmp_path))
    batch = np.random.default_rng(5).random((2, 3, 32, 32), dtype=np.float32)
    assert encoder.encode(batch).tobytes() == vit.encode(batch).tobytes()
    assert encoder.weights_digest() == vit.weights_digest()
    assert encoder.preprocessing()["resize_mode"] == "squash"
    assert vit.preprocessing()["resize_mode"] == "shortest"
    assert encoder.encode_text(["a dog"]).tobytes() == vit.encode_text(["a dog"]).tobytes()


@pytest.mark.parametrize("weights", [None, "nowhere"])
def test_a_local_folder_must_be_given_and_hold_a_config(weights: str | None) -> None:
    with pytest.raises(CurateError, match="folder"):
        load("local-dir", weights=weights)


def test_weights_of_another_model_are_refused_by_file_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(weights_of("tinytest-rn"), path)
    with pytest.raises(CurateError, match=rf"{re.escape(str(path))}.*state_dict"):
        load("tinytest-vit", weights=str(path))


def test_weights_for_another_image_size_are_not_resized_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "size32.safetensors"
    save_file(weights_of("tinytest-vit"), path)
    with pytest.raises(CurateError, match=r"size32.*positional_embedding.*image size"):
        load("tinytest-vit48", weights=str(path))


def test_a_torchscript_archive_is_no_weights_file(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(CurateError, match=r"script\.pt"):
        load("tinytest-vit", weights=str(tmp_path / "script.pt"))


def test_a_published_tag_decides_activation_and_preprocessing_of_a_local_file(
    tmp_path: Path, tiny_configs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = {"hf_hub": "a/b/", "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tinytest-vit", {"mine": tag})
    save_file(weights_of("tinytest-vit"), tmp_path / "w.safetensors")
    plain = load("tinytest-vit", weights=str(tmp_path / "w.safetensors"))
    tagged = load("tinytest-vit/mine", weights=str(tmp_path / "w.safetensors"))
    assert "QuickGELU" in repr(tagged.module)
    assert "QuickGELU" not in repr(plain.module)
    assert tagged.preprocessing()["mean"] == (0.1, 0.2, 0.3)
    assert tagged.preprocessing()["resize_mode"] == "squash"


def test_published_weights_come_from_the_cache_alone(
    without_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED, "tinytest-vit", {"mine": {"hf_hub": "org/name/"}}
    )
    snapshot = without_hub / "models--org--name" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("c0ffee")
    save_file(weights_of("tinytest-vit"), snapshot / "open_clip_model.safetensors")
    encoder = load("tinytest-vit/mine")
    assert encoder.weights_digest() == load("tinytest-vit/random").weights_digest()


def test_openai_weights_without_a_network_fail_at_once_and_say_what_to_do(
    without_hub: Path,
) -> None:
    started = time.monotonic()
    with pytest.raises(CurateError) as caught:
        load("ViT-B-32/openai")
    assert time.monotonic() - started < 10
    for words in ("open_clip:ViT-B-32/openai", "--weights", "open_clip:ViT-B-32/random"):
        assert words in str(caught.value)
    assert "open_clip_model.safetensors" in str(caught.value)
    assert str(without_hub) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ViT-B32/openai", {}, "did you mean 'ViT-B-32'"),
        ("ViT-B-32/opena", {}, "did you mean 'openai'"),
        ("ViT-B-32", {}, "add /TAG .*openai.*random"),
        ("local-dri", {}, "did you mean 'local-dir'"),
        ("tinytest-vit/random", {"weights": "x.pt"}, "asks for random"),
        ("tinytest-vit", {"weights": "nowhere.pt"}, "nowhere.pt: no such file"),
    ],
)
def test_a_wrong_name_or_file_gets_a_remedy(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(CurateError, match=words):
        load(name, **options)


def test_a_text_tower_that_cannot_be_built_is_a_plain_error(without_hub: Path) -> None:
    with pytest.raises(CurateError, match="roberta-ViT-B-32"):
        load("roberta-ViT-B-32/random")


@pytest.mark.slow
def test_a_compiled_model_agrees_with_the_plain_one(
    vit: ClipEncoder, same_bits: Callable[[TextEncoder], None]
) -> None:
    compiled = load("tinytest-vit/random", compile=True)
    batch = np.random.default_rng(6).random((5, 3, 32, 32), dtype=np.float32)
    np.testing.assert_allclose(compiled.encode(batch), vit.encode(batch), atol=1e-5)
    assert compiled.weights_digest() == vit.weights_digest()
    same_bits(compiled)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["ViT-B-32", "RN50"])
def test_full_size_models_keep_their_bits(
    arch: str, same_bits: Callable[[TextEncoder], None]
) -> None:
    same_bits(load(f"{arch}/random", precision="fp32"))


@pytest.mark.gpu
def test_on_cuda_a_vector_has_the_same_bits_in_any_batch(
    same_bits: Callable[[TextEncoder], None],
) -> None:
    spec = EncoderSpec("open_clip:tinytest-vit/random", device="cuda", batch_size=16)
    same_bits(load_encoder(spec))  # type: ignore[arg-type]
