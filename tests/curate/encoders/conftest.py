"""Small models made on the spot, and the one check that every encoder must pass.

Heavy imports stay inside the fixtures: the tests of light modules share this file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curate.encoders import Encoder

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}


@pytest.fixture(scope="session")
def tiny_configs() -> dict[str, dict[str, Any]]:
    return {
        "tinytest-vit": {"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT},
        "tinytest-vit48": {
            "embed_dim": 32,
            "vision_cfg": VIT | {"image_size": 48},
            "text_cfg": TEXT,
        },
        "tinytest-rn": {"embed_dim": 32, "vision_cfg": RESNET, "text_cfg": TEXT},
    }


@pytest.fixture(scope="session")
def tiny_archs(
    tiny_configs: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Registers the small architectures with open_clip, in this process."""
    import open_clip

    folder = tmp_path_factory.mktemp("configs")
    for name, config in tiny_configs.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 256, (57, 83, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def hub_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Moves the hub to an address and its cache to an empty folder, which is returned."""
    from huggingface_hub import constants

    def move(endpoint: str) -> Path:
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        return tmp_path / "hub"

    return move


@pytest.fixture
def without_hub(hub_at: Callable[[str], Path]) -> Path:
    """An empty cache, and a hub address at which nobody listens."""
    return hub_at("http://127.0.0.1:9")


@pytest.fixture
def same_bits() -> Callable[[Encoder], None]:
    """Fails unless a vector is the same alone, in any split, and at any place among others."""
    return _same_bits


def _same_bits(encoder: Encoder) -> None:
    import torch

    rng = np.random.default_rng(0)
    batch = rng.normal(size=(19, *encoder.input_shape)).astype(encoder.input_dtype)
    whole = encoder.encode(batch)
    assert whole.dtype == np.float32
    assert whole.shape == (19, encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1.0, atol=1e-6)
    assert len(np.unique(whole, axis=0)) == 19
    order = rng.permutation(19)
    threads = torch.get_num_threads()
    try:
        for count, size in ((1, 1), (2, 5), (3, 8), (2, 13)):
            torch.set_num_threads(count)
            parts = [encoder.encode(batch[order][i : i + size]) for i in range(0, 19, size)]
            assert np.concatenate(parts).tobytes() == whole[order].tobytes()
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
