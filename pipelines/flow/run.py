"""Doing the steps of a flow: what holds is kept, what can be done is done, the rest is told."""

from __future__ import annotations

import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import artifacts
from curate.errors import CurateError, GateError, PartialRunError
from curate.files import remove_remains, write_json
from curate.storage import publish
from pipelines.execute import open_runner
from pipelines.execute.torchrun import run_torchrun
from pipelines.flow.identity import identity_of, signatures_of, why_stale
from pipelines.flow.ledger import FLOW_FILE, FOLDER, Record, State, StepBook
from pipelines.flow.steps import Step, build_steps
from pipelines.flow.task import Task
from pipelines.flow.work import do

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.execute import Runner
    from pipelines.flow.config import FlowConfig
    from pipelines.watch import Watch

_SIDE_BY_SIDE = 4
"""Steps at a time on a cluster; each has many units, so that few keep it busy."""


@dataclass
class FlowResult:
    """What came of a flow.

    Attributes:
        run: its folder.
        done: names of the steps that were done now.
        kept: of those whose results still hold.
        failed: errors by step.
        waiting: steps that were not begun, and which step each waits for.
        damaged: shards that were not whole, and why.
        broken: a promise does not hold, or the program failed.
    """

    run: Path
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    broken: bool = False

    @property
    def exit_code(self) -> int:
        """0 all is done, 1 a promise does not hold, 3 the same command goes on."""
        if self.broken:
            return GateError.exit_code
        is_partial = self.failed or self.waiting or self.damaged
        return PartialRunError.exit_code if is_partial else 0


def run_flow(
    flow: FlowConfig, watch_of: Callable[[str], Watch], *, retrying: bool = False
) -> FlowResult:
    """Do all steps of a flow that are not done; a step that fails stops only those that need it.

    Args:
        flow: the flow.
        watch_of: whom to tell how far a step is, by its name.
        retrying: ask once more for images of URL lists that could not be had.

    Raises:
        CurateError: the flow makes no sense, or the folder is in use or not writable.
        PartialRunError: the ledger could not be written; what is done is kept.
    """
    steps = build_steps(flow)
    run = Path(flow.out)
    with artifacts.run_lock(run), open_runner(flow.cluster) as runner:
        remove_remains(run / FOLDER, below=True)
        write_json(
            run / FLOW_FILE, flow.model_dump(mode="json", exclude_unset=True, exclude={"out"})
        )
        try:
            return _Execution(flow, steps, runner, watch_of, retrying=retrying).result()
        except CurateError as error:  # errors of steps are theirs; this is of their ledgers
            raise PartialRunError(f"{error} The same command goes on.") from error


class _Execution:
    """Steps on their way; `_next` and `_note` are of one thread, `_done` of any."""

    def __init__(
        self,
        flow: FlowConfig,
        steps: list[Step],
        runner: Runner,
        watch_of: Callable[[str], Watch],
        *,
        retrying: bool,
    ) -> None:
        self._flow = flow
        self._run = run = Path(flow.out)
        self._retrying = retrying
        self._steps = {step.name: step for step in steps}
        self._runner = runner
        self._watch_of = watch_of
        self._ids: dict[str, str] = {}
        self._kept: set[str] = set()
        self._left = list(steps)
        self._signature = signatures_of(flow)
        self._result = FlowResult(run)

    def result(self) -> FlowResult:
        """Do what can be done, several steps at a time where units go elsewhere."""
        if self._flow.cluster.kind == "process":
            while step := self._next(()):
                self._note(step, self._done(step))
        else:
            self._side_by_side()
        for step in self._left:
            lacking = [name for name in step.needs if name not in self._ids]
            self._result.waiting[step.name] = ", ".join(lacking) or "the next run"
        return self._result

    def _side_by_side(self) -> None:
        running: dict[Future[Record], Step] = {}
        pool = ThreadPoolExecutor(_SIDE_BY_SIDE)
        try:
            while True:
                busy = tuple(running.values())
                if len(running) < _SIDE_BY_SIDE and (step := self._next(busy)):
                    running[pool.submit(self._done, step)] = step
                elif not running:
                    return
                else:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        self._note(running.pop(future), future.result())
        except Exception:  # of a ledger: the other steps end before the folder is let go
            self._runner.stop.requested = True
            wait(running)
            raise
        finally:  # all have ended, unless the run stops at once
            pool.shutdown(wait=False, cancel_futures=True)

    def _next(self, running: tuple[Step, ...]) -> Step | None:
        """A step that can be begun, if there is one.

        Steps of a kind share folders and the memory of this process, so they take turns; training
        does not, as it happens elsewhere.
        """
        if self._runner.stop.requested:
            return None
        busy = {step.kind for step in running if step.kind != "train"}
        for step in self._left:
            if step.kind not in busy and all(name in self._ids for name in step.needs):
                self._left.remove(step)
                return step
        return None

    def _done(self, step: Step) -> Record:
        """Do a step unless its result holds; returns what is known of it then."""
        book = StepBook(self._run, step.name)
        ids = {name: self._ids[name] for name in step.needs}
        began, start = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        before = book.record()
        try:
            identity = identity_of(step, self._flow, ids, self._signature)
            again = self._retrying and step.kind == "download"
            if before is not None and before.state == "done" and not again:
                reasons = why_stale(before, identity, self._run)
                if not reasons:
                    self._kept.add(step.name)
                    return before
                book.log("again: " + "; ".join(reasons))
            return self._do(step, book, Record("running", identity, began=began), start)
        except CurateError as error:  # its inputs, or workers for it, are not there
            record = Record("failed", {}, error=str(error), began=began)
            book.write(record)
            return record

    def _do(self, step: Step, book: StepBook, record: Record, start: float) -> Record:
        book.log("begins")
        book.write(record)
        runner = self._runner_for(step)
        task = Task(
            self._flow, self._run, step, self._steps, book, book.booked(runner),
            self._watch_of(step.name), partial(run_torchrun, runner), self._retrying,
        )  # fmt: skip
        try:
            found = do(task)
        except CurateError as error:
            state: State = "stopped" if self._runner.stop.requested else _state_of(error)
            ended: dict[str, Any] = {"state": state, "error": str(error)}
            book.keep_failures()
        except Exception as error:  # noqa: BLE001 - one step must not take the others with it
            book.log(traceback.format_exc())
            words = f"unexpected {type(error).__name__}: {error} (curate logs shows where)"
            ended = {"state": "broken", "error": words}
            book.keep_failures()
        else:
            ended = {
                "state": "done", "id": found.id, "outputs": found.outputs, "counts": found.counts,
                "damaged": found.damaged,
            }  # fmt: skip
            book.forget_failures()
        ended |= {"seconds": round(time.monotonic() - start, 3)}
        record = Record(**{**vars(record), **ended})
        book.log(f"{record.state}" + (f": {record.error}" if record.error else ""))
        book.write(record)
        return record

    def _runner_for(self, step: Step) -> Runner:
        """What a unit needs of its worker is asked of a cluster; this process is all there is."""
        if self._flow.cluster.kind == "process":
            return self._runner
        return self._runner.needing(self._flow.needs.get(step.kind, {}))

    def _note(self, step: Step, record: Record) -> None:
        result = self._result
        if record.state != "done" or record.id is None:
            result.failed[step.name] = record.error or record.state
            result.broken = result.broken or record.state == "broken"
            return
        self._ids[step.name] = record.id
        publish(self._run)  # what fails now is sent at the end
        result.damaged |= record.damaged
        (result.kept if step.name in self._kept else result.done).append(step.name)


def _state_of(error: CurateError) -> State:
    if isinstance(error, GateError):
        return "broken"
    return "partial" if isinstance(error, PartialRunError) else "failed"
