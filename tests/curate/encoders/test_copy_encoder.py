"""`builtin:copy` keeps the promises of an encoder, and its file is small and holds tensors only."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import torch
from pictures import copies, picture
from PIL import Image

import curate
from curate.encoders import Encoder, EncoderSpec, fingerprint, load_encoder
from curate.encoders.copy_encoder import NAME, WEIGHTS_FILE, scaled, to_pixels
from curate.encoders.copy_net import DIM, SIDE, CopyNet
from curate.encoders.network import NetworkEncoder
from curate.errors import CurateError
from curate.images import decode

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = EncoderSpec(NAME, device="cpu")
ANOTHER_PROCESS = """
import hashlib, numpy as np, torch
torch.set_num_threads(2)
from curate.encoders import EncoderSpec, load_encoder
encoder = load_encoder(EncoderSpec("builtin:copy", device="cpu"))
batch = np.random.default_rng(0).uniform(-1, 1, (5, *encoder.input_shape)).astype(np.float32)
print(encoder.weights_digest(), hashlib.sha256(encoder.encode(batch).tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(SPEC)


def data() -> bytes:
    return resources.files("curate.encoders").joinpath(WEIGHTS_FILE).read_bytes()


def test_it_is_an_encoder(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim, encoder.input_shape) == (NAME, DIM, (3, SIDE, SIDE))
    assert encoder.input_dtype == np.float32


def test_a_vector_does_not_depend_on_its_batch(
    encoder: Encoder, same_bits: Callable[[Encoder], None]
) -> None:
    same_bits(encoder)


def test_nothing_gives_no_vectors_and_another_shape_is_refused(encoder: Encoder) -> None:
    assert encoder.encode(np.zeros((0, 3, SIDE, SIDE), np.float32)).shape == (0, DIM)
    with pytest.raises(ValueError, match="takes"):
        encoder.encode(np.zeros((1, 3, SIDE, 32), np.float32))


def test_weights_and_vectors_are_the_same_in_another_process(encoder: Encoder) -> None:
    import hashlib

    batch = np.random.default_rng(0).uniform(-1, 1, (5, *encoder.input_shape)).astype(np.float32)
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS], cwd=Path(curate.__file__).parent.parent,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    vectors = hashlib.sha256(encoder.encode(batch).tobytes()).hexdigest()
    assert done.stdout.split() == [encoder.weights_digest(), vectors]


def test_the_digest_is_of_the_weights_as_they_are_used(encoder: Encoder) -> None:
    assert isinstance(encoder, NetworkEncoder)
    half = load_encoder(EncoderSpec(NAME, device="cpu", precision="bf16"))
    assert half.weights_digest() != encoder.weights_digest()
    kept = {name: t.float() for name, t in safetensors.torch.load(data()).items()}
    for name, tensor in encoder.module.state_dict().items():
        assert torch.equal(tensor.float(), kept[name]), name


def test_the_network_in_evaluation_mode_gives_the_vectors(encoder: Encoder) -> None:
    net = CopyNet()
    net.load_state_dict({n: t.float() if t.is_floating_point() else t
                         for n, t in safetensors.torch.load(data()).items()})  # fmt: skip
    batch = np.random.default_rng(1).uniform(-1, 1, (3, 3, SIDE, SIDE)).astype(np.float32)
    with torch.inference_mode():
        plain = torch.nn.functional.normalize(net.eval()(torch.from_numpy(batch)), dim=1)
    np.testing.assert_allclose(encoder.encode(batch), plain.numpy(), atol=1e-5)


# --- preprocessing -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (431, 17)])
def test_images_of_any_size_become_pixels_between_minus_one_and_one(size: tuple[int, int]) -> None:
    found = to_pixels(picture(3).resize(size))
    assert found.shape == (3, SIDE, SIDE)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert (np.abs(found) <= 1).all()


def test_channels_come_first_and_the_range_is_whole() -> None:
    found = to_pixels(Image.new("RGB", (10, 20), (255, 0, 51)))
    assert found[:, 5, 5].tolist() == pytest.approx([1, -1, -0.6], abs=1e-6)
    assert (found == found[:, :1, :1]).all()


def test_bytes_are_scaled_as_images_are(encoder: Encoder) -> None:
    image = picture(5, SIDE)
    pixels = np.asarray(image, np.uint8).transpose(2, 0, 1)
    assert np.array_equal(scaled(pixels), encoder.preprocess(image))


def test_the_preprocessing_is_stated(encoder: Encoder) -> None:
    stated = encoder.preprocessing()
    assert (stated["size"], stated["filter"], stated["range"]) == ([64, 64], "BILINEAR", [-1, 1])
    found = fingerprint(encoder)
    assert (found["name"], found["preprocessing"]) == (NAME, stated)


# --- the file and the names ----------------------------------------------------------------------


def test_the_file_is_small_and_holds_finite_tensors_only() -> None:
    assert len(data()) <= 5_000_000
    stored = safetensors.torch.load(data())
    assert set(stored) == set(CopyNet().state_dict())
    assert all(tensor.isfinite().all() for tensor in stored.values())
    kinds = {tensor.dtype for tensor in stored.values()}
    assert kinds <= {torch.float16, torch.int64}


def test_names_near_it_are_proposed_and_weights_are_its_own() -> None:
    with pytest.raises(CurateError, match=r"did you mean 'builtin:copy'"):
        load_encoder(EncoderSpec("builtin:cpy"))
    with pytest.raises(CurateError, match=r"builtin:layout, builtin:copy, builtin:tiny-clip"):
        load_encoder(EncoderSpec("builtin:xyz"))
    with pytest.raises(CurateError, match=r"w\.pt: encoder builtin:copy brings its own"):
        load_encoder(EncoderSpec(NAME, weights="w.pt"))
    with pytest.raises(CurateError, match="precision 'fp8'"):
        load_encoder(EncoderSpec(NAME, precision="fp8"))


def test_copies_are_nearer_than_other_pictures(encoder: Encoder) -> None:
    images = [picture(n) for n in range(8)]
    edited = [decode(copies(image)[kind]) for image in images for kind in ("jpeg", "smaller")]
    vectors = encoder.encode(np.stack([encoder.preprocess(image) for image in images]))
    found = encoder.encode(np.stack([encoder.preprocess(image) for image in edited]))
    assert (found @ vectors.T).argmax(axis=1).tolist() == [n for n in range(8) for _ in range(2)]
