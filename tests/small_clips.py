"""Small open_clip models with random weights, as folders that open_clip loads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8, "head_width": 32}
TOWERS: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "vit-avg": VIT | {"pool_type": "avg", "final_ln_after_pool": True},
    "vit-attn": VIT | {"attentional_pool": True, "attn_pooler_heads": 2},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "timm-vit": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "token"},
    "timm-convnext": {"image_size": 64, "timm_model_name": "test_convnext", "timm_pool": "avg"},
}
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def write_clip(kind: str, folder: Path) -> Path:
    """A model folder: configuration and weights, drawn from seed 0."""
    vision = TOWERS[kind]
    size = vision["image_size"]
    sides = [size, size] if isinstance(size, int) else size
    config = {
        "model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT},
        "preprocess_cfg": {"mean": MEAN, "std": STD, "size": sides},
    }
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        for name, buffer in model.named_buffers():  # statistics as of a network that has seen data
            if name.endswith("running_mean"):
                buffer.uniform_(-0.1, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.05, 0.2)
        for name, weight in model.visual.named_parameters():
            if ".bn" in name and name.endswith("weight"):  # zero as made: blocks would do nothing
                weight.data.uniform_(0.5, 1.5)
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder
