"""The images that the tiny CLIP is trained on, all of them in memory."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from curate.errors import CurateError
from train.data import need_labels
from train.loader import LoadSettings, load
from train.measure import BATCH, gather
from train.order import in_turn
from train.tiny_clip.recipe import BATCH as SMALLEST
from train.tiny_clip.recipe import Pictures, written_config

if TYPE_CHECKING:
    from train.data import TrainSet

_LARGEST = 1_000_000


def gathered(trainset: TrainSet, workers: int = 0) -> Pictures:
    """Decode all images of a training set and resize them to the model's size.

    Args:
        trainset: samples with labels.
        workers: processes that read.

    Raises:
        CurateError: too few samples for a batch, too many for memory, one without a label, or one
            that cannot be read.
    """
    need_labels(trainset)
    count = trainset.samples.height
    if not SMALLEST <= count <= _LARGEST:
        raise CurateError(
            f"{trainset.source.name}: {count} samples; the small CLIP is trained on {SMALLEST} to "
            f"{_LARGEST}, which are held in memory. Choose some with a list of ids."
        )
    settings = LoadSettings(written_config()["preprocess_cfg"], "none", 0, workers=workers)
    with closing(load(trainset, in_turn(count, BATCH), settings)) as loaded:
        held = gather(loaded)
    return Pictures(held.images, held.labels, trainset.classes)
