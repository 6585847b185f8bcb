"""Models that `curate train` wrote, with their prompts or head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from curate.errors import CurateError
from curate.files import read_json
from eval.models.classifier import load_clip_model
from train.adapters import AdapterConfig, adapt
from train.checkpoint import put

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from train.adapters import Adapted

TRAIN_FILE = "train.json"
EXTRA = "extra.safetensors"


def load_adapted(folder: Path, device: str = "cpu") -> tuple[Adapted, tuple[str, ...]]:
    """The model in the folder of a finished run, and the classes that it was trained on.

    Args:
        folder: what `curate train` wrote.
        device: where to.

    Raises:
        CurateError: the folder is not of a finished run, or its files do not fit each other.
    """
    if not (folder / TRAIN_FILE).is_file():
        raise CurateError(f"{folder}: no {TRAIN_FILE} in it; give the folder of a finished run.")
    facts: dict[str, Any] = read_json(folder / TRAIN_FILE)
    clip = load_clip_model("open_clip:local-dir", str(folder), device)
    adapted = adapt(clip, AdapterConfig(**facts["recipe"]["adapter"]), len(facts["classes"]))
    if wanted := adapted.extra():
        put(wanted, _extra(folder, wanted))
    return adapted, tuple(facts["classes"])


def _extra(folder: Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    path = folder / EXTRA
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CurateError(f"{path}: not readable ({error}).") from error
    if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in wanted.items()}:
        raise CurateError(f"{path}: does not fit {folder / TRAIN_FILE}; train again.")
    return found
