"""Batches of rows -> images, labels and captions, read and decoded by worker processes.

Every batch is one request to one worker, and batches come in the order they were asked for. Workers
are started afresh (spawn) and enter shards by sample id; what they find wrong arrives here as the
error it is, and so does the death of one.
"""

import multiprocessing
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from torch.utils import data

from curate.errors import CurateError, PartialRunError
from curate.images import ImageError, ImageLimits, decode
from curate.lookup import Samples
from curate.samples import Failure, Limits, image_member
from curate.shards import Dataset
from eval.geometry import Pixels, geometry
from train.data import TrainSet, lacks_caption
from train.order import BatchRows
from train.pixels import Chance, augmented, check_augmentation

_DEAD: Final = "exited unexpectedly"


@dataclass(frozen=True)
class LoadSettings:
    """What becomes of the samples on their way.

    Attributes:
        preprocess: open_clip's `preprocess_cfg` of the model.
        augment: of `train.pixels.AUGMENTATIONS`.
        seed: of the augmentation.
        captions: every sample must have one.
        workers: processes that read; with none, the calling one does.
        prefetch: batches that each worker is ahead.
    """

    preprocess: Mapping[str, Any]
    augment: str = "none"
    seed: int = 0
    captions: bool = False
    workers: int = 0
    prefetch: int = 2
    limits: Limits = field(default_factory=Limits)
    image_limits: ImageLimits = field(default_factory=ImageLimits)


@dataclass(frozen=True, eq=False)
class Loaded:
    """One batch of n samples.

    Attributes:
        step: number of the batch, as it was asked for.
        epoch: that it belongs to.
        keys: item ids.
        images: (n, 3, height, width) uint8.
        labels: (n,) int64 places in the set's classes; None if some sample of the set has none.
        captions: as they are stored; None where there is none.
    """

    step: int
    epoch: int
    keys: tuple[str, ...]
    images: torch.Tensor
    labels: torch.Tensor | None
    captions: tuple[str | None, ...]


def load(
    trainset: TrainSet, batches: Iterable[BatchRows], settings: LoadSettings
) -> Generator[Loaded, None, None]:
    """Yield the batches in order. Closing the generator ends the workers.

    Raises:
        CurateError: a sample is missing, cannot be decoded or lacks a caption; a shard cannot be
            read; a worker was killed; there is no such augmentation.
    """
    check_augmentation(settings.augment)
    asked = (_request(trainset, batch) for batch in batches)
    reader = _Reader(trainset.dataset, settings)
    incoming = _incoming(reader, asked, settings)
    try:
        while (answer := _next(incoming)) is not None:
            if isinstance(answer, _Refusal):
                raise CurateError(answer.text)
            yield answer
    finally:
        del incoming  # the workers of torch's iterator live as long as it does


@dataclass(frozen=True)
class _Request:
    """A batch to read: all that a worker needs to know of the training set."""

    step: int
    epoch: int
    ids: tuple[str, ...]
    labels: torch.Tensor | None


@dataclass(frozen=True)
class _Refusal:
    """Why a batch cannot be read."""

    text: str


def _request(trainset: TrainSet, batch: BatchRows) -> _Request:
    chosen = trainset.samples[batch.rows]
    labels = None
    if trainset.is_labelled:
        labels = torch.from_numpy(chosen["label"].to_numpy().astype(np.int64))
    return _Request(batch.step, batch.epoch, tuple(chosen["id"]), labels)


class _Reader(data.Dataset["Loaded | _Refusal"]):
    """Reads one request after the other; goes to the workers before it has opened anything."""

    def __init__(self, dataset: Dataset, settings: LoadSettings) -> None:
        self._dataset = dataset
        self._settings = settings
        self._geometry = geometry(settings.preprocess)

    def __getitem__(self, request: _Request) -> Loaded | _Refusal:
        try:
            read = [self._read(id_, request.epoch) for id_ in request.ids]
        except CurateError as error:
            return _Refusal(str(error))
        images = torch.from_numpy(np.stack([pixels for pixels, _ in read]))
        captions = tuple(caption for _, caption in read)
        return Loaded(request.step, request.epoch, request.ids, images, request.labels, captions)

    @cached_property
    def _samples(self) -> Samples:
        return Samples(self._dataset, self._settings.limits)

    @cached_property
    def _urls(self) -> dict[str, str]:
        return {shard.name: shard.url for shard in self._dataset.shards}

    def _read(self, id_: str, epoch: int) -> tuple[Pixels, str | None]:
        settings = self._settings
        name, _, key = id_.partition(":")
        sample = self._samples.read(id_)
        if sample is None:
            raise CurateError(
                f"{self._urls[name]}: sample {key} is no longer in it; the shard changed since the "
                "training set was opened."
            )
        if settings.captions and sample.caption is None:
            raise lacks_caption(self._urls[name], id_)
        member = image_member(sample)
        if isinstance(member, Failure):
            raise self._no_image(name, key, member.error)
        try:
            image = decode(member.data or b"", settings.image_limits)
        except ImageError as error:
            raise self._no_image(name, key, f"{error.status}: {error}") from error
        chance = Chance(settings.seed, epoch, id_)
        return augmented(settings.augment, image, self._geometry, chance), sample.caption

    def _no_image(self, name: str, key: str, reason: str) -> CurateError:
        return CurateError(
            f"{self._urls[name]}: sample {key} has no image that can be used ({reason}). Clean the "
            "set with `curate dedup`, or leave this sample out with a list of ids."
        )


def _as_it_is(answer: Any) -> Any:
    return answer


def _incoming(
    reader: _Reader, asked: Iterator[_Request], settings: LoadSettings
) -> Iterator[Loaded | _Refusal]:
    """Torch's iterator over the answers; its workers are running when this returns."""
    loader = data.DataLoader(
        reader,
        batch_size=None,
        sampler=asked,
        num_workers=settings.workers,
        prefetch_factor=settings.prefetch if settings.workers else None,
        collate_fn=_as_it_is,
        multiprocessing_context=multiprocessing.get_context("spawn") if settings.workers else None,
        generator=torch.Generator(),  # else torch's global one would be drawn from
    )
    handler = signal.getsignal(signal.SIGCHLD)
    incoming = iter(loader)
    # Torch's own handler would raise in the midst of whatever is going on when a worker dies; the
    # iterator looks after its workers too, and says it where batches are waited for.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
    return incoming


def _next(incoming: Iterator[Loaded | _Refusal]) -> Loaded | _Refusal | None:
    try:
        return next(incoming, None)
    except RuntimeError as error:
        if _DEAD not in str(error):
            raise
    # not in the handler: the error holds torch's iterator, and that its workers
    raise PartialRunError(
        "a process that reads the training data was killed. Memory may be short, or shared memory "
        "(/dev/shm) too small: give fewer workers or a smaller batch, and run the same command "
        "again."
    )
