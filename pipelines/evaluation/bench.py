"""What a process needs to measure a setting, opened once and kept: models, sets, classifiers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import polars as pl
from torchvision.transforms import InterpolationMode, Resize

from curate.draw import lowest
from curate.errors import CurateError
from curate.files import digest, file_digest
from curate.hardware import choose_device
from curate.images import Status
from curate.splits import read_decisions
from curate.units import run_in_process
from eval.datasets.registry import open_evalset
from eval.models.model import ZeroShotModel, dtype_of, load_model
from eval.models.peers import Peer
from eval.models.prefixes import prefix_texts, read_prefixes
from eval.models.subject import Subject
from eval.models.wrappers import Grouped, Resized, Steady
from eval.shifts.stored import write_shifted
from pipelines.evaluation.shifted import is_part, is_stored, shift_of
from pipelines.watch import Watch, watched
from train.trained import TRAIN_FILE, load_adapted

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from curate.units import RunUnits
    from eval.datasets.evalset import EvalSet
    from eval.datasets.texts import Profile
    from eval.geometry import Geometry
    from eval.models.classifier import Clip
    from eval.models.model import Model
    from eval.models.prefixes import Prefix
    from eval.settings import Setting
    from pipelines.evaluation.request import EvalRequest, ModelRequest, Source

    Groups = tuple[tuple[int, ...], ...]

_KEPT = 4


@functools.lru_cache(maxsize=_KEPT)
def open_model(request: ModelRequest) -> Model:
    """A model, loaded once in each process.

    Raises:
        CurateError: there is none of that name, or its weights are missing or unfit.
    """
    folder, name = Path(request.name), _called(request)
    if (folder / TRAIN_FILE).is_file():
        return _trained(request, folder)
    model = load_model(request.name, request.weights, request.device)
    if request.prefixes is None:
        assert isinstance(model, (ZeroShotModel, Peer))
        return replace(model, name=name)
    if not isinstance(model, ZeroShotModel):
        raise CurateError(f"--prefixes: model {request.name} reads no texts; leave it out")
    return _prefixed(request, model)


def _called(request: ModelRequest) -> str:
    """A name by which results of other weights or prompts are told apart in one report."""
    folder = Path(request.name)
    name = folder.resolve().name if (folder / TRAIN_FILE).is_file() else request.name
    if request.weights is not None:
        name += f" ({Path(request.weights).name})"
    if request.prefixes is not None:
        name += f" + {Path(request.prefixes).name}"
        name += "" if request.top is None else f" ({request.top})"
    return name


@dataclass(frozen=True, eq=False)
class _PrefixedModel(ZeroShotModel):
    """A zero-shot model whose classes stand behind found prompts."""

    prefixes: tuple[Prefix, ...]

    def classifier(self, subject: Subject, dtype: torch.dtype) -> nn.Module:
        return self.over(prefix_texts(self.clip, subject.classes, self.prefixes), dtype)


def _prefixed(request: ModelRequest, model: ZeroShotModel) -> _PrefixedModel:
    assert request.prefixes is not None
    prefixes = read_prefixes(Path(request.prefixes), model.clip, request.top)
    weights = digest({"weights": model.digest, "prefixes": prefixes})
    return _PrefixedModel(_called(request), model.clip, model.over, weights, prefixes)


@dataclass(frozen=True, eq=False)
class _ProbedModel(ZeroShotModel):
    """A model with a linear head over the classes that it was trained on."""

    classes: tuple[str, ...]

    def classifier(self, subject: Subject, dtype: torch.dtype) -> nn.Module:
        if len(subject.classes) != len(self.classes):
            raise CurateError(
                f"model {self.name}: its head knows {len(self.classes)} classes, and "
                f"{subject.name} has {len(subject.classes)}; it is no zero-shot model"
            )
        probe = super().classifier(subject, dtype)
        if set(subject.classes) != set(self.classes):
            return probe  # the same classes, in their order, by other names
        return Grouped(probe, [(self.classes.index(name),) for name in subject.classes])


def _trained(request: ModelRequest, folder: Path) -> Model:
    adapted, classes = load_adapted(folder, choose_device(request.device))

    def over(texts: Tensor, dtype: torch.dtype) -> nn.Module:
        return adapted.classifier(texts, dtype)

    parts = {"clip": adapted.clip.weights_digest}
    extra = folder / "extra.safetensors"
    if extra.is_file():
        parts["extra"] = file_digest(extra)
    clip: Clip = adapted.clip
    weights = digest(parts)
    name = _called(request)
    if adapted.head is not None:
        if request.prefixes is not None:
            raise CurateError(f"--prefixes: model {request.name} reads no texts; leave it out")
        return _ProbedModel(name, clip, over, weights, classes)
    model = ZeroShotModel(name, clip, over, weights)
    return model if request.prefixes is None else _prefixed(request, model)


@functools.lru_cache(maxsize=_KEPT)
def open_subject(request: EvalRequest, word: str) -> EvalSet:
    """The images of a setting, before any attack, opened once in each process.

    Raises:
        CurateError: the set cannot be opened, or no image of it is in the split that is asked for.
    """
    return make_subject(request, word, run_in_process, Watch())


def make_subject(request: EvalRequest, word: str, run_units: RunUnits, watch: Watch) -> EvalSet:
    """The images of a setting; what is made from others is made now, if it was not before.

    Raises:
        CurateError: the set cannot be opened, or no image of it is in the split that is asked for.
        PartialRunError: some units failed; the same call goes on.
    """
    setting = request.setting(word)
    subject = _opened(request, setting)
    if is_stored(setting):
        folder = _shifted_folder(request, setting)
        watch.stage(f"make {setting.source}", 0)
        told = watched(run_units, watch.step)
        shift = shift_of(setting, subject, request.seed, request.words)
        subject = write_shifted(subject, shift, folder, run_units=told)
    if setting.split in (None, "full"):
        return subject
    return of_split(subject, request.source(setting.dataset).split or "", setting.split)


def _opened(request: EvalRequest, setting: Setting) -> EvalSet:
    """The images of a data set that a request is about: all, or as many as its limit."""
    part = (setting.variant, setting.severity) if is_part(setting) else (None, None)
    source = request.source(setting.dataset)
    whole = _whole(source, part, request.texts)
    if source.split is not None and not is_part(setting):
        whole = _readable(whole, source.split)
    return limited(whole, request.limit_of(setting), request.seed)


@functools.lru_cache(maxsize=_KEPT)
def _whole(source: Source, part: tuple[str | None, int | None], texts: Profile) -> EvalSet:
    variant, severity = part
    return open_evalset(
        source.name, source.folder, variant=variant, severity=severity, profile=texts
    )


def _shifted_folder(request: EvalRequest, setting: Setting) -> Path:
    """Where the made images of a setting are; beside the results, for all models."""
    count = request.limit_of(setting)
    limit = "" if count is None else f"~{count}"
    return request.images / "sets" / f"{setting.source}{limit}~{request.seed}"


def pictures_folder(request: EvalRequest) -> Path:
    """Where decoded images are kept."""
    return request.images / "pictures"


def _readable(subject: EvalSet, folder: str) -> EvalSet:
    """A set without the images that could not be decoded when it was split."""
    decisions = read_decisions(Path(folder))
    is_unknown = pl.col("decision") == "unknown"
    lost = decisions.filter(is_unknown & pl.col("reason").is_in(get_args(Status)))["id"]
    is_lost = subject.items["id"].is_in(lost.implode())
    return _some_of(subject, (~is_lost).arg_true().to_list()) if is_lost.any() else subject


def limited(subject: EvalSet, limit: int | None, seed: int) -> EvalSet:
    """Some images of a set, chosen by a digest of their ids, so that every model sees the same."""
    if limit is None or limit >= subject.items.height:
        return subject
    rows = lowest(subject.items["id"], limit, seed)
    return _some_of(subject, rows)


def of_split(subject: EvalSet, folder: str, kind: str) -> EvalSet:
    """The images of a set that are in a split of it.

    Raises:
        CurateError: none is.
    """
    decisions = read_decisions(Path(folder))
    is_kept = pl.col("control") if kind == "control" else pl.col("decision") == kind
    kept = decisions.filter(is_kept)["id"]
    rows = subject.items["id"].is_in(kept.implode()).arg_true().to_list()
    if not rows:
        raise CurateError(f"{folder}: no image of {subject.name} is in its {kind} split")
    return _some_of(subject, rows)


def _some_of(subject: EvalSet, rows: list[int]) -> EvalSet:
    """A set with these items only, under digests of their own."""
    items = subject.items[rows]
    ids = items["id"].to_list()
    return replace(
        subject,
        items=items,
        digest=digest({"set": subject.digest, "ids": ids}),
        images_digest=digest({"set": subject.images_digest, "ids": ids}),
    )


def over(request: ModelRequest, subject: EvalSet, precision: str) -> nn.Module:
    """The classifier of a setting: square images of any size in [0, 1] -> logits of labels."""
    name = subject.name.partition(".")[0]
    seen = Subject(name, subject.classes, subject.templates, subject.imagenet)
    return _over(request, seen, subject.groups, precision)


@functools.lru_cache(maxsize=_KEPT)
def _over(
    request: ModelRequest, subject: Subject, groups: Groups | None, precision: str
) -> nn.Module:
    model = open_model(request)
    classifier: nn.Module = Resized(model.classifier(subject, dtype_of(precision)), model.size)
    if groups is not None:
        classifier = Grouped(classifier, groups)
    device = next(iter([*classifier.parameters(), *classifier.buffers()])).device
    return Steady(classifier).to(device).eval()


def shape_of(setting: Setting, model: Model, subject: EvalSet) -> Geometry | None:
    """What becomes of images before they are classified; None: they stay as they are stored."""
    if setting.attack is not None and setting.attack.at == "native":
        return None
    if subject.cropped:
        resize: Geometry = Resize((model.size, model.size), InterpolationMode.BICUBIC)
        return resize
    return model.geometry
