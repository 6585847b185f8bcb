"""`curate train`: a folder that is whole or absent, and goes on where it was killed."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from curate import artifacts
from curate.artifacts import Manifest
from curate.errors import CurateError
from curate.extensions import origin
from curate.files import read_json, write_bytes, write_json
from curate.hardware import choose_device
from eval.models.classifier import class_texts, encode_texts, load_clip_model
from train.adapters import adapt
from train.card import licence_of, model_card
from train.checkpoint import State, averaged, load_state, put, save_state
from train.data import hold_out, need_captions, need_labels
from train.export import export, write_tensors
from train.interpolate import interpolate
from train.loader import LoadSettings, load
from train.loop import Training, make_optimizer, updates
from train.measure import BATCH, Accuracy, Held, accuracy, gather
from train.objectives import Context, find_objective, fit_head, random_codes, require_fit
from train.order import Order, batches, in_turn
from train.processes import Processes, started
from train.records import Records, read_metrics, write_tables
from train.sources import open_trainset
from train.trained import EXTRA, TRAIN_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from eval.models.classifier import Clip, ZeroShot
    from pipelines.watch import Watch
    from train.adapters import Adapted
    from train.data import TrainSet
    from train.objectives import Objective
    from train.recipe import Recipe

CHECKPOINT = "checkpoints/last.safetensors"
INTERPOLATED = "interpolated"
_HEAD_SAMPLES = 20_000


@dataclass(frozen=True)
class TrainRequest:
    """What is asked of `curate train`.

    Attributes:
        data: a split's folder, or shards.
        model: name of an open_clip model, see `eval.models.classifier.load_clip_model`.
        recipe: settings.
        out: folder of the result.
        ids: of the samples of the shards to train on.
        classes: names in the order of their numbers; none: all labels, sorted.
        weights: local weights of the model.
        device: auto, cpu or cuda.
        workers: processes that read images.
        shares: of the adapted weights, at which weights between the original and the adapted model
            are measured; none: not at all.
    """

    data: tuple[str, ...]
    model: str
    recipe: Recipe
    out: Path
    ids: Path | None = None
    classes: tuple[str, ...] = ()
    weights: str | None = None
    device: str = "auto"
    workers: int = 1
    shares: tuple[float, ...] = ()


def run_train(request: TrainRequest, watch: Watch) -> dict[str, Any] | None:
    """Train, or go on training, into `request.out`; returns the content of `train.json`.

    Under `torchrun` every process calls this; the first one writes, the others return None.

    Raises:
        CurateError: the data, the model and the recipe do not go together; a loss is not finite;
            something cannot be written, in which case the last checkpoint is still there.
    """
    device = choose_device(request.device)  # type: ignore[arg-type]
    with started(device) as processes, ExitStack() as stack:
        if processes.is_first:
            stack.enter_context(artifacts.artifact_lock(request.out))
        subject = _subject(request, device)
        manifest = _manifest(subject)
        if artifacts.finished(request.out, manifest.key):
            return dict(read_json(request.out / TRAIN_FILE)) if processes.is_first else None
        work = artifacts.work_path(request.out, manifest.key)
        if processes.is_first:
            artifacts.work_folder(request.out, manifest.key)
        processes.wait()
        facts = _train(subject, work, manifest.key, processes, watch)
        if processes.is_first:
            artifacts.commit(work, request.out, manifest)
        processes.wait()
        return facts


@dataclass(frozen=True)
class _Subject:
    """What is trained on what; all that decides the result."""

    request: TrainRequest
    clip: Clip
    rest: TrainSet
    held: TrainSet | None

    @property
    def recipe(self) -> Recipe:
        return self.request.recipe

    @property
    def order(self) -> Order:
        return Order(self.rest.sizes, self.recipe.batch, self.recipe.seed, self.recipe.window)

    @property
    def held_count(self) -> int:
        return 0 if self.held is None else self.held.samples.height

    @property
    def total(self) -> int:
        """Updates of the run."""
        if self.recipe.updates is not None:
            return self.recipe.updates
        assert self.recipe.epochs is not None
        return max(1, math.ceil(self.recipe.epochs * self.order.steps_per_epoch))

    def load_settings(self, *, is_held: bool) -> LoadSettings:
        return LoadSettings(
            self.clip.config["preprocess_cfg"],
            "none" if is_held else self.recipe.augment,
            self.recipe.seed,
            captions=not is_held and find_objective(self.recipe.loss).needs == "captions",
            workers=self.request.workers,
        )


def _subject(request: TrainRequest, device: str) -> _Subject:
    recipe = request.recipe
    objective = find_objective(recipe.loss)
    clip = load_clip_model(request.model, request.weights, device)
    whole = open_trainset(list(request.data), request.ids, classes=request.classes)
    if objective.needs == "labels":
        need_labels(whole)
    if objective.needs == "captions":
        need_captions(whole)
    if request.shares:
        _require_mixable(request, whole)
    if not whole.is_labelled:
        return _Subject(request, clip, whole, None)
    rest, held = hold_out(whole, recipe.held_out, recipe.seed)
    return _Subject(request, clip, rest, held)


def _require_mixable(request: TrainRequest, whole: TrainSet) -> None:
    """Refuse interpolation that could not be made or measured, before hours of training."""
    kind = request.recipe.adapter.kind
    if kind not in ("finetune", "partial"):
        raise CurateError(
            f"--interpolate: adapter {kind} has no original weights to mix with; leave it out"
        )
    if not whole.is_labelled:
        raise CurateError(
            f"--interpolate: {whole.source.name} has samples without labels, so no share can be "
            "measured; leave it out"
        )


def _manifest(subject: _Subject) -> Manifest:
    source = subject.rest.source
    config = {
        "recipe": subject.recipe.model_dump(mode="json"),
        "model": subject.clip.name,
        "weights_sha256": subject.clip.weights_digest,
        "classes": list(subject.rest.classes),
        "shares": list(subject.request.shares),
        **origin("losses", subject.recipe.loss),
    }
    return Manifest("train", config, [{"name": source.name, "sha256": source.digest}])


@dataclass
class _Run:
    """A run as it goes: what is computed with, and where it is written down."""

    subject: _Subject
    training: Training
    adapted: Adapted
    state: State
    held: Held | None
    work: Path
    key: str

    @property
    def recipe(self) -> Recipe:
        return self.subject.recipe

    @property
    def student(self) -> ZeroShot:
        return self.training.context.student

    @property
    def is_first(self) -> bool:
        return self.training.processes.is_first

    def measured(self, classifier: ZeroShot) -> Accuracy | None:
        """Accuracy on the samples that were held out; None: they have no labels."""
        if self.held is None:
            return None
        threat = self.recipe.measured.threat()
        return accuracy(classifier, self.held, threat, self.recipe.seed, self.training.processes)


def _train(
    subject: _Subject, work: Path, key: str, processes: Processes, watch: Watch
) -> dict[str, Any] | None:
    run = _prepare(subject, work, key, processes)
    records = Records(work, run.state.step) if processes.is_first else None
    with closing(records) if records else nullcontext():
        if run.state.step == 0:
            _measure(run, records)
        _advance(run, records, watch)
    facts = _facts(run)
    if facts is not None:
        _write(run, facts)
    return facts


def _prepare(subject: _Subject, work: Path, key: str, processes: Processes) -> _Run:
    recipe, clip = subject.recipe, subject.clip
    objective = find_objective(recipe.loss)
    if objective.in_batch and (processes.world > 1 or recipe.piece is not None):
        raise CurateError(
            f"loss {recipe.loss} compares the images of a batch with each other: it needs one "
            "process, and no piece"
        )
    if objective.random_start and recipe.attack and recipe.attack.start == "zero":
        raise CurateError(
            f"loss {recipe.loss}: has no gradient at the image itself; set attack.start: uniform"
        )
    names = subject.rest.classes
    texts = class_texts(clip, names, recipe.templates) if names else _no_texts(clip)
    adapted = adapt(clip, recipe.adapter, len(names))
    context = _context(subject, objective, adapted, texts)
    require_fit(objective, context)
    average = {}
    if recipe.average is not None:
        average = {name: value.detach().clone() for name, value in adapted.parameters.items()}
    state = State(adapted.parameters, make_optimizer(recipe.optimizer, adapted.parameters), average)
    if (work / CHECKPOINT).exists():
        load_state(work / CHECKPOINT, state, key)
    encode = partial(encode_texts, clip) if objective.needs == "captions" else None
    training = Training(recipe, objective, context, subject.total, processes, encode)
    return _Run(subject, training, adapted, state, _held(subject, processes), work, key)


def _no_texts(clip: Clip) -> torch.Tensor:
    """No classes: for losses that need none, on samples without labels."""
    return torch.zeros(0, int(clip.config["model_cfg"]["embed_dim"]), device=clip.device)


def _context(
    subject: _Subject, objective: Objective, adapted: Adapted, texts: torch.Tensor
) -> Context:
    recipe, clip = subject.recipe, subject.clip
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    student = adapted.classifier(texts, dtype)
    if recipe.compile:
        student.tower.compile()
    original = clip.classifier(texts, dtype=dtype) if objective.uses_original else None
    codes, head = None, adapted.head
    if objective.name == "coadv":
        codes = random_codes(len(texts), texts.shape[1], recipe.seed).to(clip.device)
    if objective.name == "adv" and head is None:
        head = _fitted_head(subject, clip.classifier(texts, dtype=dtype))
    return Context(student, texts, clip.scale, original, codes, head)


@torch.no_grad()
def _fitted_head(subject: _Subject, original: ZeroShot) -> torch.nn.Linear:
    """The head of `adv`, fitted to the first samples of the order, as the original sees them."""
    order = subject.order
    rows = batches(order, 0, max(1, min(order.steps_per_epoch, _HEAD_SAMPLES // order.batch)))
    features, targets = [], []
    with closing(load(subject.rest, rows, subject.load_settings(is_held=True))) as loaded:
        for part in loaded:
            assert part.labels is not None
            features.append(original.features(part.images.to(original.texts.device).float() / 255))
            targets.append(part.labels)
    with torch.enable_grad():
        labels = torch.cat(targets).to(original.texts.device)
        return fit_head(torch.cat(features), labels, len(subject.rest.classes))


def _held(subject: _Subject, processes: Processes) -> Held | None:
    if subject.held is None:
        return None
    rows = in_turn(subject.held.samples.height, BATCH, rank=processes.rank, world=processes.world)
    with closing(load(subject.held, rows, subject.load_settings(is_held=True))) as loaded:
        return gather(loaded)


def _advance(run: _Run, records: Records | None, watch: Watch) -> None:
    """Make the updates that are left; checkpoints and measurements at their times."""
    recipe, processes, total = run.recipe, run.training.processes, run.training.total
    watch.stage(f"train by {recipe.loss}", total)
    watch.step(run.state.step, 0)
    rows = batches(
        run.subject.order, run.state.step, total, rank=processes.rank, world=processes.world
    )
    settings = run.subject.load_settings(is_held=False)
    with closing(load(run.subject.rest, rows, settings)) as loaded:
        for update in updates(run.training, run.state, loaded):
            if records:
                records.update(update)
            if update.step % recipe.measure_every == 0 or update.step == total:
                _measure(run, records)
            if update.step % recipe.save_every == 0 or update.step == total:
                _save(run, records)
            watch.step(1, update.images)


def _save(run: _Run, records: Records | None) -> None:
    if records:
        records.flush()
        save_state(run.work / CHECKPOINT, run.state, run.key)


def _measure(run: _Run, records: Records | None) -> None:
    with averaged(run.state):
        found = run.measured(run.student)
    if records and found:
        records.measured(run.state.step, found)


def _facts(run: _Run) -> dict[str, Any] | None:
    """`train.json`: what was trained on what, and what came of it; measures what is left to."""
    with averaged(run.state):
        rows = _interpolated(run) if run.subject.request.shares else []
    if not run.is_first:
        return None
    request, clip, source = run.subject.request, run.subject.clip, run.subject.rest.source
    metrics = read_metrics(run.work).drop_nulls("clean")
    measured = [
        {"images": run.subject.held_count, **row}
        for row in metrics.select("step", "clean", "robust").to_dicts()
    ]
    best = max(rows, key=lambda row: row["clean"] + row["robust"], default=None)
    return {
        "model": {
            "name": clip.name,
            "weights_sha256": clip.weights_digest,
            "licence": licence_of(clip.name),
        },
        "data": source.to_json() | {"samples": run.subject.rest.samples.height},
        "recipe": run.recipe.model_dump(mode="json"),
        "classes": list(run.subject.rest.classes),
        "updates": run.training.total,
        "before": measured[0] if measured else None,
        "after": measured[-1] if measured else None,
        "interpolation": rows,
        "best_share": best["share"] if best else None,
        "loading": _loading(run.adapted.kind, request.out.name),
    }


def _interpolated(run: _Run) -> list[dict[str, Any]]:
    """Accuracies of weights between the original's and the adapted ones; the best are written."""
    original = {
        name: value
        for name, value in run.subject.clip.model.state_dict().items()
        if name in run.state.parameters
    }
    adapted = {name: value.detach().clone() for name, value in run.state.parameters.items()}
    rows = []
    for share in run.subject.request.shares:
        put(run.state.parameters, interpolate(original, adapted, share))
        found = run.measured(run.student)
        assert found is not None
        rows.append({"share": share, **asdict(found)})
    best = max(rows, key=lambda row: row["clean"] + row["robust"])
    put(run.state.parameters, interpolate(original, adapted, best["share"]))
    if run.is_first:
        export(run.work / INTERPOLATED, run.subject.clip, run.adapted.weights())
    put(run.state.parameters, adapted)
    return rows


def _write(run: _Run, facts: dict[str, Any]) -> None:
    """Complete the folder of a finished run."""
    with averaged(run.state):
        export(run.work, run.subject.clip, run.adapted.weights())
        if extra := run.adapted.extra():
            write_tensors(run.work / EXTRA, extra)
    write_tables(run.work)
    write_json(run.work / TRAIN_FILE, facts)
    write_bytes(run.work / "README.md", model_card(facts).encode())


def _loading(kind: str, name: str) -> str:
    words = f'`open_clip.create_model("local-dir:{name}")`'
    if kind == "linear-probe":
        return f"{words} is the base model; the head is in `{EXTRA}`."
    if kind in ("token-prompt", "pixel-prompt"):
        return f"{words} is the base model, without the prompt, which is in `{EXTRA}`."
    return f"{words}."
