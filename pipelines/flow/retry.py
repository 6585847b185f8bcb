"""Running a flow again as it was run last, with what was put aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate import artifacts
from pipelines.flow.ledger import StepBook
from pipelines.flow.run import run_flow
from pipelines.flow.status import flow_of
from pipelines.flow.steps import build_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.flow.run import FlowResult
    from pipelines.watch import Watch


def retry_flow(run: Path, watch_of: Callable[[str], Watch]) -> FlowResult:
    """Do what failed or was never begun; steps whose results hold are kept.

    Raises:
        CurateError: no flow was run there, or it is being run now.
    """
    flow = flow_of(run)
    with artifacts.run_lock(run):
        for step in build_steps(flow):
            StepBook(run, step.name).forget_failures()
    return run_flow(flow, watch_of, retrying=True)
