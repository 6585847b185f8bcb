"""The ISC descriptor: the published formula, the published checkpoint's form, strict weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import transforms

from curate.encoders import EncoderSpec, load_encoder
from curate.encoders.isc import BACKBONE, DIM, PIXELS, load_isc, network
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from curate.encoders import Encoder

SMALL = "test_efficientnet"


def load(weights: Path | None, name: str = "isc:ft_v107") -> Encoder:
    spec = EncoderSpec(name, str(weights) if weights else None, device="cpu")
    return load_isc(spec, backbone=SMALL)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights with statistics that a forgotten normalisation would show."""
    state = {key: value.clone() for key, value in network(SMALL).state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    for name in ("weight", "bias", "running_mean"):
        state[f"bn.{name}"] = torch.randn(DIM, generator=generator)
    state["bn.running_var"] = torch.rand(DIM, generator=generator) + 0.5
    return state


@pytest.fixture(scope="module")
def published(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as it is published: of parallel training, with the run's settings."""
    path = tmp_path_factory.mktemp("isc") / "isc_ft_v107.pth.tar"
    parallel = {f"module.{key}": value for key, value in state.items()}
    args = argparse.Namespace(input_size=512, arch=SMALL)
    torch.save({"arch": SMALL, "args": args, "epoch": 9, "state_dict": parallel}, path)
    return path


def test_vectors_are_those_of_the_published_formula(
    published: Path, state: dict[str, torch.Tensor], image: Image.Image
) -> None:
    encoder = load(published)
    pixels = encoder.preprocess(image)
    model: Any = network(SMALL)
    model.load_state_dict(state)
    with torch.no_grad():
        maps = model.eval().backbone(torch.from_numpy(pixels)[None])[-1].double().clamp(min=1e-6)
        linear = maps.mean((2, 3)) @ state["fc.weight"].double().T
        scale = state["bn.weight"] / torch.sqrt(state["bn.running_var"] + 1e-5)
        wanted = (linear - state["bn.running_mean"]) * scale + state["bn.bias"]
    wanted /= wanted.norm()
    np.testing.assert_allclose(encoder.encode(pixels[None]), wanted.numpy(), atol=1e-5)
    assert (encoder.dim, encoder.input_shape) == (256, (3, 512, 512))


def test_pixels_are_a_square_without_aspect_from_minus_one_to_one(image: Image.Image) -> None:
    transform = transforms.Compose([
        transforms.Resize((512, 512)), transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.5,) * 3),
    ])  # fmt: skip
    pixels = load(None, "isc:ft_v107/random").preprocess(image)
    assert pixels.tobytes() == transform(image).numpy().tobytes()


def test_the_checkpoint_and_safetensors_give_the_same_encoder(
    published: Path, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "w.safetensors")
    first, second = load(published), load(tmp_path / "w.safetensors")
    assert first.weights_digest() == second.weights_digest()
    assert first.weights_digest() != load(None, "isc:ft_v107/random").weights_digest()
    assert first.preprocessing()["size"] == PIXELS.size


def test_a_vector_has_the_same_bits_in_any_batch(
    published: Path, same_bits: Callable[[Encoder], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.encoders.isc.PIXELS", PIXELS.__class__(size=64))
    same_bits(load(published))


@pytest.mark.parametrize("change", ["missing", "surplus", "shape"])
def test_weights_that_do_not_fit_exactly_are_refused(
    state: dict[str, torch.Tensor], tmp_path: Path, change: str
) -> None:
    wrong = dict(state)
    if change == "missing":
        del wrong["fc.weight"]
    elif change == "surplus":
        wrong["head.weight"] = torch.ones(2)
    else:
        wrong["fc.weight"] = torch.ones(128, 64)
    torch.save(wrong, tmp_path / "wrong.pt")
    with pytest.raises(CurateError, match=r"wrong\.pt: no weights of isc:ft_v107 \(.*weight"):
        load(tmp_path / "wrong.pt")


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "args": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(CurateError, match=r"code\.pt: refused, it holds pickled code"):
        load(tmp_path / "code.pt")


def test_without_weights_the_address_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CurateError, match=r"isc_ft_v107\.pth\.tar is not there.*https.*--weights"):
        load(None)


def test_a_file_where_torch_hub_keeps_it_is_used(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / published.name).write_bytes(published.read_bytes())
    assert load(None).weights_digest() == load(published).weights_digest()


def test_wrong_names_and_weights_for_random_ones_are_refused() -> None:
    with pytest.raises(CurateError, match="did you mean 'ft_v107'"):
        load(None, "isc:ft_v17")
    with pytest.raises(CurateError, match="asks for random ones"):
        load(Path("w.pt"), "isc:ft_v107/random")


@pytest.mark.slow
def test_the_real_backbone_gives_one_unit_vector(image: Image.Image) -> None:
    encoder = load_encoder(EncoderSpec("isc:ft_v107/random", device="cpu"))
    vector = encoder.encode(encoder.preprocess(image)[None])
    assert vector.shape == (1, 256)
    assert abs(np.linalg.norm(vector) - 1) < 1e-5
    assert len(network(BACKBONE).state_dict()) == 1112 + 1 + 5
