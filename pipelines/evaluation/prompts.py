"""`curate eval prompts`: features of training images, and a search for prompts on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from curate.errors import CurateError
from curate.files import write_bytes
from curate.storage import local_path
from eval.datasets.registry import open_evalset
from eval.models.classifier import ZeroShot
from eval.models.model import ZeroShotModel
from eval.models.prefix_search import search
from eval.models.prefixes import prefix_words
from eval.pictures import PIECE, read_pictures
from pipelines.evaluation.bench import limited, open_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from eval.datasets.evalset import EvalSet
    from eval.models.prefix_search import SearchSettings
    from pipelines.evaluation.request import ModelRequest
    from pipelines.watch import Watch

_BATCH = 128


def find_prompts(
    request: ModelRequest,
    data: tuple[str, str],
    settings: SearchSettings,
    out: Path,
    *,
    limit: int,
    watch: Watch,
) -> dict[str, Any]:
    """Search, and write each accepted prefix as a line of token ids, as ROZ's logs have them.

    Args:
        request: the model.
        data: name and folder of a training set with labels.
        settings: of the search.
        out: the file.
        limit: training images, drawn by the seed of the search.
        watch: whom to tell how far it is.

    Raises:
        CurateError: the model reads no texts, the set cannot be opened, the file not be written.
    """
    model = open_model(request.here())
    if not isinstance(model, ZeroShotModel):
        raise CurateError(
            f"model {request.name}: reads no texts, so no prompts can be found for it"
        )
    subject = limited(open_evalset(data[0], local_path(data[1])), limit, settings.seed)
    features, labels = _features(model, subject, watch)
    watch.stage("search", settings.steps)
    accepted = []
    for found in search(model.clip, features, labels, subject.classes, settings):
        watch.step(1, 0)
        if found.accepted:
            accepted.append(found)
    if not accepted:
        raise CurateError(
            f"no swap of {settings.steps} lowered the loss; give more --steps or --candidates"
        )
    lines = "".join(" ".join(map(str, found.prefix)) + "\n" for found in accepted)
    write_bytes(out, lines.encode())
    return {
        "prefixes": str(out),
        "images": len(labels),
        "accepted": [
            {"loss": found.loss, "words": prefix_words(model.clip, found.prefix)}
            for found in accepted
        ],
    }


def _features(model: ZeroShotModel, subject: EvalSet, watch: Watch) -> tuple[Tensor, Tensor]:
    """(n, d) fp32 image features of a set, and its labels."""
    width = int(model.clip.config["model_cfg"]["embed_dim"])
    classifier = model.over(torch.zeros(1, width), torch.float32)
    assert isinstance(classifier, ZeroShot)
    count = subject.items.height
    watch.stage("features", count)
    features, labels = [], []
    for start in range(0, count, PIECE):
        pictures = read_pictures(subject, range(start, min(start + PIECE, count)), model.geometry)
        for first in range(0, len(pictures), _BATCH):
            pixels = pictures.images[first : first + _BATCH].to(model.clip.device).float() / 255
            with torch.no_grad():
                features.append(classifier.features(pixels))
        labels.append(pictures.labels)
        watch.step(len(pictures), len(pictures))
    return torch.cat(features), torch.cat(labels)
