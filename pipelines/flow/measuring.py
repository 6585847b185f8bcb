"""Steps that measure models, and that compare what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curate import artifacts
from curate.artifacts import Manifest
from curate.errors import CurateError
from curate.files import write_json
from pipelines.evaluation.overlap import overlap_of
from pipelines.evaluation.request import (
    EvalRequest,
    ModelRequest,
    Source,
    chosen_limit,
    chosen_settings,
    whole_words,
)
from pipelines.flow.ledger import StepBook
from pipelines.flow.task import specs_of, split_of

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.flow.task import Task

RESULTS = "eval"
OVERLAP_FILE = "overlap.json"


def eval_request(task: Task) -> EvalRequest:
    """What a step asks of `curate eval run`.

    Raises:
        CurateError: a set is not one folder, or settings do not go together.
    """
    config = task.step.config
    sources = tuple(_source(task, name, given) for name, given in config["data"].items())
    surrogate = config["surrogate"]
    words = [*config["settings"], *config["whole"]]
    asked, _ = chosen_settings(sources, config["suite"], words, has_surrogate=surrogate is not None)
    return EvalRequest(
        model=_model(task, config["model"], config["precision"]),
        sources=sources,
        settings=tuple(asked),
        out=task.out,
        surrogate=None if surrogate is None else _model(task, surrogate, "fp32"),
        limit=chosen_limit(config["limit"], config["suite"]),
        whole=whole_words(sources, config["whole"]),
        shared=task.run / RESULTS,
        seed=config["seed"],
        batch=task.step.tuning["batch"],
        texts=config["texts"],
    )


def _model(task: Task, word: str, precision: str) -> ModelRequest:
    """A model by its name, or by the training step that leaves it."""
    trained = task.steps.get(f"train/{word}")
    name = word if trained is None else str(task.run / trained.out)
    return ModelRequest(name, None, task.flow.device, precision)


def _source(task: Task, name: str, given: str) -> Source:
    specs = specs_of(task.flow, task.run, given)
    if len(specs) != 1:
        raise CurateError(
            f"{task.step.name}: {given} is {len(specs)} places, and a set that is measured is one "
            "folder; put its shards into one."
        )
    split = task.step.config["splits"].get(name)
    folder = None if split is None else str(split_of(task, task.steps[split]))
    return Source(name, specs[0], folder)


def write_overlap(task: Task) -> None:
    """Compare all results of the flow with and without near-duplicates, into the step's folder."""
    config = {"adjust": task.step.config["adjust"]}
    manifest = Manifest("overlap", config, inputs_of(task))
    if artifacts.finished(task.out, manifest.key) is None:
        work = artifacts.work_folder(task.out, manifest.key)
        write_json(
            work / OVERLAP_FILE, overlap_of(task.run / RESULTS, config["adjust"], results_of(task))
        )
        artifacts.commit(work, task.out, manifest)


def results_of(task: Task) -> list[Path]:
    """The folders of all results of the flow, in its order; those of earlier steps are left out."""
    steps = (step for step in task.steps.values() if step.kind == "eval")
    return [task.run / place for step in steps for place in outputs_of(task.run, step.name)]


def inputs_of(task: Task) -> list[dict[str, Any]]:
    """The artifacts that the steps left which one needs, as a manifest states them.

    Raises:
        CurateError: a step left none.
    """
    places = [place for name in task.step.needs for place in outputs_of(task.run, name)]
    return [
        {"name": place, "sha256": artifacts.read_manifest(task.run / place).id} for place in places
    ]


def outputs_of(run: Path, name: str) -> tuple[str, ...]:
    """The artifact folders that a step left, below the run's.

    Raises:
        CurateError: it left none.
    """
    record = StepBook(run, name).record()
    if record is None or record.id is None:
        raise CurateError(f"{name}: left no result; run the flow again.")
    return record.outputs
