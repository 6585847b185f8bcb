"""What became of each step of a flow, read from its run folder."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from curate.errors import CurateError
from curate.files import read_json
from pipelines.flow.config import FlowConfig
from pipelines.flow.identity import identity_of, signatures_of, why_stale
from pipelines.flow.ledger import FLOW_FILE, Failed, StepBook, is_being_run
from pipelines.flow.steps import build_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.flow.ledger import Record
    from pipelines.flow.steps import Step

_WORDS = {
    "partial": "failed", "failed": "failed", "broken": "failed", "stopped": "stopped",
}  # fmt: skip

_NAMED = 4


@dataclass(frozen=True)
class StepStatus:
    """A step as it stands.

    Attributes:
        name: of the step.
        state: done, running, interrupted (it was killed), stopped, failed, quarantined (units are
            put aside), stale (its result holds no more) or waiting (it never ran).
        reasons: why it is stale, or what it waits for.
        error: why it failed.
        failures: units that failed.
        seconds: how long it took.
        units: how many were done, failed and put aside when it ran last.
    """

    name: str
    state: str
    reasons: tuple[str, ...] = ()
    error: str | None = None
    failures: tuple[Failed, ...] = ()
    seconds: float = 0.0
    units: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def flow_of(run: Path) -> FlowConfig:
    """The flow of a run as it was run last.

    Raises:
        CurateError: none was run there.
    """
    if not (run / FLOW_FILE).is_file():
        raise CurateError(f"{run}: no flow was run there (no {FLOW_FILE}).")
    try:
        return FlowConfig.model_validate({**read_json(run / FLOW_FILE), "out": str(run)})
    except (TypeError, ValidationError) as error:
        raise CurateError(
            f"{run / FLOW_FILE}: not a flow of this version of curate; run its file again."
        ) from error


def status_of(run: Path, flow: FlowConfig, *, is_outline: bool = False) -> list[StepStatus]:
    """How each step of a flow stands in a run folder; nothing is written or computed.

    Args:
        run: the folder.
        flow: the flow.
        is_outline: the folder holds only what a store has of manifests and ledgers: which files are
            there and who runs it now cannot be seen.
    """
    is_running = is_outline or is_being_run(run)
    files = None if is_outline else run
    found: list[StepStatus] = []
    ids: dict[str, str] = {}
    unsure: set[str] = set()
    identify = partial(identity_of, flow=flow, signature=signatures_of(flow))
    for step in build_steps(flow):
        book = StepBook(run, step.name)
        record = book.record()
        status = _status(
            step, identify, files, record, ids=ids, unsure=unsure, is_running=is_running
        )
        if status.state == "done" and record is not None and record.id is not None:
            ids[step.name] = record.id
        else:
            unsure.add(step.name)
        found.append(_with_failures(status, book))
    return found


def first_of(names: list[str]) -> str:
    """The first of them, and how many more: a report waits for every step there is."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _status(
    step: Step,
    identify: Callable[..., dict[str, Any]],
    files: Path | None,
    record: Record | None,
    *,
    ids: dict[str, str],
    unsure: set[str],
    is_running: bool,
) -> StepStatus:
    behind = [name for name in step.needs if name in unsure]
    if record is None:
        return StepStatus(step.name, "waiting", (f"for {first_of(behind)}",) if behind else ())
    told = {"seconds": record.seconds, "units": record.units}
    if record.state == "running":
        state = "running" if is_running else "interrupted"
        return StepStatus(step.name, state, **told)  # type: ignore[arg-type]
    if record.state != "done":
        return StepStatus(step.name, _WORDS[record.state], error=record.error, **told)  # type: ignore[arg-type]
    known = {name: record.identity["inputs"].get(name) for name in behind}
    try:
        now = identify(step, ids={**ids, **{k: v for k, v in known.items() if v}})
    except CurateError as error:
        return StepStatus(step.name, "stale", (str(error),), **told)  # type: ignore[arg-type]
    reasons = [*why_stale(record, now, files), *(f"{name} is not done" for name in behind)]
    return StepStatus(step.name, "stale" if reasons else "done", tuple(reasons), **told)  # type: ignore[arg-type]


def _with_failures(status: StepStatus, book: StepBook) -> StepStatus:
    if status.state == "done":
        return status
    failures = tuple(book.failures())
    is_aside = status.state == "failed" and any(one.quarantined for one in failures)
    return StepStatus(**{
        **vars(status), "failures": failures,
        "state": "quarantined" if is_aside else status.state,
    })  # fmt: skip


def log_of(run: Path, name: str, lines: int) -> list[str]:
    """The last lines that a step wrote down."""
    path = StepBook(run, name).log_path
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as stream:
        return [line.rstrip("\n") for line in deque(stream, maxlen=lines)]
