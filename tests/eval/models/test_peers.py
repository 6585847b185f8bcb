"""Plain classifiers: the library's own logits from pixels, and only classes that they know."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from pictures import picture
from safetensors.torch import save_file
from torchvision import models

from curate.errors import CurateError
from eval.geometry import as_pixels
from eval.models.model import dtype_of, load_model
from eval.models.peers import Peer, load_peer
from eval.models.subject import Subject

if TYPE_CHECKING:
    from pathlib import Path


def subject(classes: int, imagenet: tuple[int, ...] | None = None) -> Subject:
    names = tuple(f"class {number}" for number in range(classes))
    return Subject("set", names, (), imagenet)


@pytest.fixture(scope="module")
def timm_peer() -> Peer:
    return load_peer("timm:test_vit/random", None, "cpu")


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.squeezenet1_1(weights=None, num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(network.state_dict(), path)
    return path


def test_from_pixels_it_answers_as_timm_does(timm_peer: Peer) -> None:
    image = picture(1, 200)
    config = timm.data.resolve_model_data_config(timm_peer.network)
    transform: Any = timm.data.create_transform(**config, is_training=False)
    with torch.no_grad():
        expected = timm_peer.network(transform(image)[None])
        pixels = torch.from_numpy(as_pixels(timm_peer.geometry(image)))[None].float() / 255
        found = timm_peer.classifier(subject(timm_peer.outputs), torch.float32)(pixels)
    torch.testing.assert_close(found, expected)


def test_from_pixels_it_answers_as_torchvision_does(torchvision_file: Path) -> None:
    peer = load_peer("torchvision:squeezenet1_1/IMAGENET1K_V1", str(torchvision_file), "cpu")
    image = picture(2, 300)
    preset: Any = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    with torch.no_grad():
        expected = peer.network(preset(image)[None])
        pixels = torch.from_numpy(as_pixels(peer.geometry(image)))[None].float() / 255
        found = peer.classifier(subject(7), torch.float32)(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert peer.outputs == 7
    assert peer.size == 224


def test_the_gradient_reaches_the_pixels_and_no_weight(timm_peer: Peer) -> None:
    images = torch.rand(2, 3, timm_peer.size, timm_peer.size).requires_grad_()
    classifier = timm_peer.classifier(subject(timm_peer.outputs), torch.float32)
    (gradient,) = torch.autograd.grad(classifier(images).logsumexp(dim=1).sum(), images)
    assert (gradient != 0).any()
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert not classifier.training


def test_classes_of_imagenet_are_picked_out_of_the_thousand(timm_peer: Peer) -> None:
    thousand = replace(timm_peer, outputs=1000)
    images = torch.rand(2, 3, timm_peer.size, timm_peer.size)
    with torch.no_grad():
        whole = timm_peer.network
        every = timm_peer.classifier(subject(timm_peer.outputs), torch.float32)(images)
        some = thousand.classifier(subject(3, (5, 0, 9)), torch.float32)(images)
    assert whole is thousand.network
    assert torch.equal(some, every[:, [5, 0, 9]])


def test_other_classes_are_refused(timm_peer: Peer) -> None:
    with pytest.raises(CurateError, match="knows 1000 classes and reads no texts"):
        timm_peer.classifier(subject(10), torch.float32)


def test_the_digest_is_that_of_the_weights(torchvision_file: Path, tmp_path: Path) -> None:
    name = "torchvision:squeezenet1_1"
    first = load_peer(name, str(torchvision_file), "cpu")
    assert load_peer(name, str(torchvision_file), "cpu").digest == first.digest
    state = {key: value + 1 for key, value in first.network.state_dict().items()}
    save_file(state, tmp_path / "other.safetensors")
    assert load_peer(name, str(tmp_path / "other.safetensors"), "cpu").digest != first.digest


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision:resnet5000", "did you mean 'resnet50'"),
        ("torchvision:resnet18/IMAGENET1K_V9", "did you mean 'IMAGENET1K_V1'"),
        ("timm:resnet5000", "did you mean"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, words: str) -> None:
    with pytest.raises(CurateError, match=words):
        load_model(name, device="cpu")


def test_weights_that_do_not_fit_are_refused(torchvision_file: Path) -> None:
    with pytest.raises(CurateError, match="does not fit"):
        load_peer("torchvision:resnet18", str(torchvision_file), "cpu")


def test_weights_that_cannot_be_fetched_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(CurateError, match="--weights PATH"):
        load_peer("torchvision:squeezenet1_1", None, "cpu")


def test_a_precision_is_fp32_or_bf16() -> None:
    assert dtype_of("bf16") == torch.bfloat16
    with pytest.raises(CurateError, match="fp16"):
        dtype_of("fp16")


def test_pixels_are_uint8_of_the_models_size(timm_peer: Peer) -> None:
    pixels = as_pixels(timm_peer.geometry(picture(3, 90)))
    assert pixels.shape == (3, timm_peer.size, timm_peer.size)
    assert pixels.dtype == np.uint8
