"""TorchScript encoders: options in the name, torchvision's pixels, the file's digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torchvision import transforms

from curate.encoders import Encoder, EncoderSpec, load_encoder
from curate.encoders.torchscript import PixelOptions, parse_name, to_pixels
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image


class Detector(torch.nn.Module):
    """Convolutions and pooled features, as a copy detector has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 24, 5, 2)
        self.second = torch.nn.Conv2d(24, 64, 3, 2)
        self.last = torch.nn.Linear(64, 48)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.second(torch.relu(self.first(images))))
        return self.last(hidden.mean((2, 3)))


class Maps(torch.nn.Module):
    """Answers with maps and not with vectors."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * 2


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "detector.torchscript.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.jit.save(torch.jit.script(Detector()), path)
    return path


def load(name: str) -> Encoder:
    return load_encoder(EncoderSpec(name, device="cpu"))


def test_a_vector_has_the_same_bits_in_any_batch(
    script: Path, same_bits: Callable[[Encoder], None]
) -> None:
    same_bits(load(f"torchscript:{script}?size=64"))


def test_vectors_are_those_of_the_script(script: Path, image: Image.Image) -> None:
    encoder = load(f"torchscript:{script}?size=64&resize=short")
    pixels = encoder.preprocess(image)
    with torch.no_grad():
        features = torch.jit.load(script)(torch.from_numpy(pixels)[None]).numpy()
    np.testing.assert_allclose(
        encoder.encode(pixels[None]), features / np.linalg.norm(features), atol=1e-6
    )
    assert (encoder.dim, encoder.input_shape) == (48, (3, 64, 64))


def test_name_and_digest_are_those_of_the_file_wherever_it_lies(script: Path) -> None:
    encoder = load(f"torchscript:{script}?size=64")
    assert encoder.name == "torchscript:detector.torchscript.pt?size=64"
    assert encoder.weights_digest() == hashlib.sha256(script.read_bytes()).hexdigest()
    assert encoder.preprocessing()["size"] == 64


@pytest.mark.parametrize("shape", [(57, 83), (83, 57), (64, 64), (41, 640), (1, 1)])
@pytest.mark.parametrize("resize", ["square", "short"])
def test_pixels_are_those_of_torchvision(shape: tuple[int, int], resize: str) -> None:
    rng = np.random.default_rng(0)
    image = transforms.functional.to_pil_image(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    options = PixelOptions(size=64, resize=resize)
    transform = transforms.Compose(
        [
            transforms.Resize((64, 64)) if resize == "square" else transforms.Resize(64),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize(options.mean, options.std),
        ]
    )
    assert to_pixels(image, options).tobytes() == transform(image).numpy().tobytes()


def test_options_are_read_from_the_name_and_default_to_those_of_sscd() -> None:
    path, options = parse_name(
        "torchscript:a/b.pt?size=288&resize=short&mean=0.5,0.5,0.5&std=1,2,3"
    )
    assert (str(path), options) == (
        "a/b.pt",
        PixelOptions(288, "short", (0.5, 0.5, 0.5), (1.0, 2.0, 3.0)),
    )
    assert parse_name("torchscript:b.pt")[1] == PixelOptions(320, "square")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sise=288", "did you mean 'size'"),
        ("size=0", "1..4096"),
        ("size=big", "size=big"),
        ("size=", "size="),
        ("resize=crop", "square, short"),
        ("mean=0.5", "three numbers"),
        ("mean=nan,0,0", "three numbers"),
        ("std=0,1,1", "above zero"),
    ],
)
def test_a_wrong_option_is_named(query: str, words: str) -> None:
    with pytest.raises(CurateError, match=words):
        parse_name(f"torchscript:model.pt?{query}")


def test_a_missing_or_wrong_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not a script")
    torch.save({"a": torch.ones(1)}, tmp_path / "state.pt")
    for name in ("text.pt", "state.pt", "absent.pt"):
        with pytest.raises(CurateError, match=name):
            load(f"torchscript:{tmp_path / name}")


def test_a_script_that_is_no_encoder_is_refused(tmp_path: Path, script: Path) -> None:
    torch.jit.save(torch.jit.script(Maps()), tmp_path / "maps.pt")
    with pytest.raises(CurateError, match=r"maps\.pt: does not answer"):
        load(f"torchscript:{tmp_path / 'maps.pt'}?size=64")
    with pytest.raises(CurateError, match=r"refuses an image of shape \(3, 4, 4\)"):
        load(f"torchscript:{script}?size=4")


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"compile": True}, {"weights": "x.pt"}])
def test_options_that_a_script_cannot_follow_are_refused(
    script: Path, options: dict[str, object]
) -> None:
    with pytest.raises(CurateError, match=r"runs as it is|leave weights x\.pt out"):
        load_encoder(EncoderSpec(f"torchscript:{script}", **options))  # type: ignore[arg-type]


# --- SSCD by name --------------------------------------------------------------------------------


class Pooled(torch.nn.Module):
    """Mean colours of tiles as a vector of the published width."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, [16, 16])[:, :2].flatten(1)


@pytest.fixture
def sscd(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "sscd_disc_mixup.torchscript.pt"
    path.parent.mkdir()
    torch.jit.save(torch.jit.script(Pooled()), path)
    return path


def test_a_published_model_has_its_name_and_the_square_setting(
    sscd: Path, image: Image.Image
) -> None:
    encoder = load_encoder(EncoderSpec("sscd:disc_mixup", str(sscd), device="cpu"))
    assert (encoder.name, encoder.dim) == ("sscd:disc_mixup", 512)
    assert encoder.input_shape == (3, 320, 320)
    assert encoder.weights_digest() == hashlib.sha256(sscd.read_bytes()).hexdigest()
    by_path = load(f"torchscript:{sscd}")
    pixels = encoder.preprocess(image)
    assert pixels.tobytes() == by_path.preprocess(image).tobytes()
    assert encoder.encode(pixels[None]).tobytes() == by_path.encode(pixels[None]).tobytes()


def test_a_published_model_is_found_where_torch_hub_keeps_it(
    sscd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(sscd.parent.parent))
    assert load("sscd:disc_mixup").dim == 512
    with pytest.raises(CurateError, match=r"sscd_disc_blur\.torchscript\.pt is not there\. Down"):
        load("sscd:disc_blur")


def test_without_the_file_its_address_and_the_remedy_are_told(tmp_path: Path) -> None:
    spec = EncoderSpec("sscd:disc_large", str(tmp_path / "none.pt"))
    with pytest.raises(CurateError) as caught:
        load_encoder(spec)
    for words in ("none.pt", "https://dl.fbaipublicfiles.com", "sscd_disc_large", "--weights"):
        assert words in str(caught.value)


def test_another_models_file_or_name_is_refused(sscd: Path) -> None:
    with pytest.raises(CurateError, match="width 512, but sscd:disc_large has 1024"):
        load_encoder(EncoderSpec("sscd:disc_large", str(sscd), device="cpu"))
    with pytest.raises(CurateError, match="did you mean 'disc_mixup'"):
        load("sscd:disc_mixupp")
    with pytest.raises(CurateError, match="runs as it is"):
        load_encoder(EncoderSpec("sscd:disc_mixup", str(sscd), precision="bf16"))
