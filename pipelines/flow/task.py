"""A step that is being done: where it reads and writes, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from curate import artifacts
from curate.errors import CurateError
from curate.files import digest
from pipelines.flow.ledger import StepBook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from curate.units import RunUnits
    from pipelines.execute.torchrun import Torchrun
    from pipelines.flow.config import FlowConfig
    from pipelines.flow.steps import Kind, Step
    from pipelines.watch import Watch


@dataclass(frozen=True)
class Task:
    """A step that is being done.

    Attributes:
        flow: the flow.
        run: its folder.
        step: what is done.
        steps: all steps by name.
        book: its ledger.
        run_units: runs its units.
        watch: who is told.
        torchrun: starts processes that train together.
        retrying: what failed for good before is asked for once more.
    """

    flow: FlowConfig
    run: Path
    step: Step
    steps: dict[str, Step]
    book: StepBook
    run_units: RunUnits
    watch: Watch
    torchrun: Callable[[Torchrun], None]
    retrying: bool = False

    @property
    def out(self) -> Path:
        """The folder of the result."""
        return self.run / self.step.out

    def needed(self, kind: Kind) -> list[Step]:
        """The steps of a kind that this one reads."""
        return self.needed_by(self.step, kind)

    def needed_by(self, step: Step, kind: Kind) -> list[Step]:
        """The steps of a kind that another one reads."""
        return [self.steps[name] for name in step.needs if self.steps[name].kind == kind]


@dataclass(frozen=True)
class Result:
    """What a step left.

    Attributes:
        id: digest of it.
        outputs: artifact folders, below the run's.
        counts: numbers worth knowing.
        damaged: shards that were not whole, and why.
    """

    id: str
    outputs: tuple[str, ...]
    counts: dict[str, Any] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


def of_artifacts(task: Task, folders: Sequence[Path], **more: Any) -> Result:
    """The result that artifact folders are."""
    ids = [artifacts.read_manifest(folder).id for folder in folders]
    outputs = tuple(folder.relative_to(task.run).as_posix() for folder in folders)
    return Result(ids[0] if len(ids) == 1 else digest(ids), outputs, **more)


def specs_of(flow: FlowConfig, run: Path, name: str) -> tuple[str, ...]:
    """Where the images of a set are."""
    source = flow.sets[name]
    if source.demo is not None:
        return (str(run / "sets" / f"demo-{source.seed}" / source.demo),)
    if source.download is not None:
        return (str(run / "sets" / name / "shards"),)
    return tuple(source.shards or source.embeddings or ())


def split_of(task: Task, step: Step) -> Path:
    """The folder of the split that a step left; the first of its outputs."""
    record = StepBook(task.run, step.name).record()
    if record is None or not record.outputs:
        raise CurateError(f"{step.name}: left no split; run the flow again.")
    return task.run / record.outputs[0]
