"""A trained model as a folder that plain open_clip loads: configuration and safetensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import save

from curate.files import write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from eval.models.classifier import Clip

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


def export(folder: Path, clip: Clip, weights: Mapping[str, Tensor]) -> None:
    """Write a model; `open_clip.create_model("local-dir:FOLDER")` loads it.

    Args:
        folder: where to.
        clip: what the model was made from.
        weights: of the whole model, by the names of open_clip.

    Raises:
        CurateError: it cannot be written.
    """
    write_json(folder / CONFIG_FILE, clip.config)
    write_tensors(folder / WEIGHTS_FILE, weights)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, whole or not at all; those that share memory are copied."""
    write_bytes(
        path,
        save({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}),
    )
